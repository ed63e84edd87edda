//! Which transactions a snapshot sees.

use trem_engine::{Error, Result};

/// A snapshot by transaction numbers: every one below `xmin` is seen, none from `xmax` on, and between them those that
/// were not running. (PostgreSQL manual, "Transaction ID and Snapshot Information Functions".)
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visibility {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Visibility {
    /// Reads what `pg_current_snapshot()` says: `xmin:xmax:` and the running ones.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::fatal(format!("`{text}` is not a snapshot of a PostgreSQL server"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(running), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let running = running.split(',').filter(|n| !n.is_empty()).map(number).collect::<Result<_>>()?;
        Ok(Self { xmin: number(xmin)?, xmax: number(xmax)?, running })
    }

    /// Whether it has what a committed transaction did, whose number the log gives without its epoch: the two are less
    /// than half of all numbers apart.
    pub(super) fn has(&self, xid: u32) -> bool {
        let behind = (self.xmax as u32).wrapping_sub(xid).cast_signed();
        let xid = self.xmax.wrapping_add_signed(-i64::from(behind));
        xid < self.xmin || xid < self.xmax && !self.running.contains(&xid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_past_is_seen_and_the_running_are_not() {
        let s = Visibility::parse("10:20:10,14,15").unwrap();
        let seen: Vec<u32> = (5..25).filter(|xid| s.has(*xid)).collect();
        assert_eq!(seen, [5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 18, 19]);
        assert!(Visibility::parse("7:7:").unwrap().has(6));
        assert!(!Visibility::parse("7:7:").unwrap().has(7));
    }

    #[test]
    fn numbers_begin_again_with_each_epoch() {
        let epoch = 1u64 << 32;
        let s = Visibility::parse(&format!("{}:{}:{}", 3 * epoch - 5, 3 * epoch + 10, 3 * epoch + 4)).unwrap();
        for (xid, seen) in [(u32::MAX - 100, true), (u32::MAX, true), (3, true), (4, false), (9, true), (10, false)] {
            assert_eq!(s.has(xid), seen, "{xid}");
        }
    }

    #[test]
    fn nothing_else_is_a_snapshot() {
        for text in ["", "1:2", "1:2:3:4", "a:2:", "1:2:x", "-1:2:"] {
            assert!(Visibility::parse(text).is_err(), "{text}");
        }
    }
}
