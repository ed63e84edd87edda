//! Places in PostgreSQL's log, and positions made of them.

use trem_engine::position::Position;
use trem_engine::{Error, Result};

/// The text that the server prints.
pub(super) fn text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// A position.
pub(super) fn position(lsn: u64) -> Position {
    Position::new(u128::from(lsn), text(lsn))
}

/// Reads what [`text`] or the server printed.
pub(super) fn parse(text: &str) -> Result<u64> {
    let halves = text
        .split_once('/')
        .and_then(|(high, low)| Some((u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?)));
    match halves {
        Some((high, low)) => Ok(u64::from(high) << 32 | u64::from(low)),
        None => Err(Error::fatal(format!("`{text}` is not a place in a PostgreSQL log"))),
    }
}

/// How far the log goes, as an expression that gives text: by this function, or on a standby what it has replayed.
pub(super) fn now(function: &str) -> String {
    format!("(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE {function}() END)::text")
}

/// Where a position is.
pub(super) fn of(position: &Position) -> Result<u64> {
    parse(position.resume())
}

/// An insert position that a flush can reach: just behind a page's header the server reports the place of the next
/// record, while a reader that has everything stands at the page's start.
pub(super) fn reachable(insert: u64, page: u64, segment: u64) -> u64 {
    const SHORT_HEADER: u64 = 24;
    const LONG_HEADER: u64 = 40;
    if insert % segment == LONG_HEADER {
        insert - LONG_HEADER
    } else if insert % page == SHORT_HEADER && insert % segment != SHORT_HEADER {
        insert - SHORT_HEADER
    } else {
        insert
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn text_round_trip() {
        for lsn in [0, 0x16B_3748, 0x1_0000_0000, u64::MAX] {
            assert_eq!(parse(&text(lsn)).unwrap(), lsn);
        }
        assert!(parse("0").is_err() && parse("x/1").is_err());
        assert_eq!(text(0x16_B374_8000), "16/B3748000");
    }

    #[test]
    fn page_headers_are_not_content() {
        let (page, segment) = (8192, 16 << 20);
        assert_eq!(reachable(segment + 40, page, segment), segment);
        assert_eq!(reachable(segment + 8192 + 24, page, segment), segment + 8192);
        assert_eq!(reachable(segment + 8192 + 32, page, segment), segment + 8192 + 32);
    }
}
