//! What MariaDB compresses with `log_bin_compress`: the rows of an event, or its statement.

use std::io::Read;

use flate2::read::ZlibDecoder;
use trem_engine::{Error, Result};

use super::bytes::Bytes;

/// The bytes as they were: behind a byte that says how, and how many bytes their number has, comes that number, the
/// most significant byte first, and then zlib's. (MariaDB source, `binlog_buf_uncompress`.)
pub(super) fn inflated(mut bytes: Bytes<'_>) -> Result<Vec<u8>> {
    let wrong = || Error::fatal("the binary log has an event that cannot be decompressed");
    let how = bytes.byte()?;
    let (algorithm, digits) = (how >> 4 & 7, usize::from(how & 7));
    if algorithm != 0 || digits > 4 {
        return Err(wrong());
    }
    let length = bytes.big(digits)?;
    let mut out = Vec::new();
    // Never more than was said, whatever the bytes make of it.
    match ZlibDecoder::new(bytes.rest()).take(length + 1).read_to_end(&mut out) {
        Ok(read) if read as u64 == length => Ok(out),
        Ok(_) => Err(wrong()),
        Err(error) => Err(wrong().cause(error)),
    }
}
