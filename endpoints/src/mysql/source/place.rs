//! Places in the log: behind which transactions, and where in which file.

use trem_engine::position::Position;
use trem_engine::{Error, Result};

use crate::mysql::binlog::gtid::Gtids;

/// A place between two transactions. What it is behind decides; file and offset measure how far it is to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) gtids: Gtids,
    pub(super) file: String,
    pub(super) offset: u64,
}

impl Place {
    pub(super) fn position(&self) -> Position {
        Position::new(self.gtids.order(), format!("{} {}:{}", self.gtids, self.file, self.offset))
    }

    pub(super) fn of(position: &Position) -> Result<Self> {
        let parsed = || {
            let (gtids, place) = position.resume().split_once(' ')?;
            let (file, offset) = place.rsplit_once(':')?;
            Some(Self { gtids: Gtids::parse(gtids).ok()?, file: file.to_owned(), offset: offset.parse().ok()? })
        };
        parsed().ok_or_else(|| Error::fatal(format!("`{position}` is no place in a log of MariaDB")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_read_back() {
        for gtids in ["", "0-1-5,7-2-9"] {
            let place = Place { gtids: Gtids::parse(gtids).unwrap(), file: "binlog.000003".to_owned(), offset: 4711 };
            assert_eq!(Place::of(&place.position()).unwrap(), place);
        }
        assert!(Place::of(&Position::new(1, "0/1")).is_err());
    }
}
