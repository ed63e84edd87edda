//! Moments, which the server keeps as DATETIME in UTC, as microseconds since 1970 in between.

use std::time::{Duration, SystemTime};

/// A moment as it is kept, of a parameter.
pub(super) const TIME: &str = "timestampadd(MICROSECOND, ?, '1970-01-01 00:00:00.000000')";

/// The number of one that is kept.
pub(super) const MICROS: &str = "timestampdiff(MICROSECOND, '1970-01-01', committed_at)";

/// The number of a moment.
pub(super) fn micros(time: Option<SystemTime>) -> Option<i64> {
    let since = time?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok()
}

/// The moment of a number.
pub(super) fn time(micros: Option<i64>) -> Option<SystemTime> {
    let since = Duration::from_micros(u64::try_from(micros?).ok()?);
    Some(SystemTime::UNIX_EPOCH + since)
}
