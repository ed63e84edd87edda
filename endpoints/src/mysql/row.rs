//! Values of rows that we have asked for.

use mysql_async::Row;
use mysql_async::prelude::FromValue;
use trem_engine::{Error, Result};

/// The value at a place of a row.
pub(super) fn get<T: FromValue>(row: &Row, at: usize) -> Result<T> {
    match row.get_opt::<T, usize>(at) {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(Error::fatal(format!("internal: column {at} of an answer")).cause(error)),
        None => Err(Error::fatal(format!("internal: an answer has no column {at}"))),
    }
}
