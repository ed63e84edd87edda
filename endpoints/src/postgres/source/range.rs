//! Which rows a chunk holds. To the engine it is a text, stored with the record and given back.

use serde::{Deserialize, Serialize};
use trem_engine::{Error, Result};

/// A bound of a key range: a value that the server orders as we do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyBound {
    /// Integers, dates and timestamps, as they stand in Arrow.
    Int(i64),
    /// Values ordered byte by byte: uuid, text under the C collation.
    Bytes(Vec<u8>),
}

/// Which rows of a table a chunk holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ChunkRange {
    /// All.
    Whole,
    /// Blocks of a file, meaningful within one snapshot only.
    Physical(String),
    /// Rows with `lower <= key < upper`; means the same under every snapshot.
    Key {
        /// Index of the first key column in the table's columns.
        column: usize,
        /// Inclusive; `None` is unbounded.
        lower: Option<KeyBound>,
        /// Exclusive; `None` is unbounded.
        upper: Option<KeyBound>,
    },
}

impl ChunkRange {
    /// Whether the range still means the same rows under a later snapshot.
    pub(super) fn survives(&self) -> bool {
        matches!(self, Self::Key { .. })
    }

    /// What the record stores.
    pub(super) fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::fatal("internal: a chunk").cause(e))
    }

    /// Reads what [`ChunkRange::text`] wrote, in this version or in 0.1.0.
    ///
    /// # Errors
    /// Class `Fatal` for a text of something else.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::fatal(format!("`{text}` in the record is no part of a PostgreSQL table: load it again"));
        serde_json::from_str(text).map_err(|e| wrong().cause(e))
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use trem_engine::chunk::LoadedChunk;

    use super::*;
    use crate::postgres::source::lsn;

    /// A chunk of the keys from `lower` up to `upper`, read at `at`.
    pub(in crate::postgres::source) fn keys(lower: Option<i64>, upper: Option<i64>, at: u64) -> LoadedChunk {
        let (lower, upper) = (lower.map(KeyBound::Int), upper.map(KeyBound::Int));
        let range = ChunkRange::Key { column: 0, lower, upper }.text().unwrap();
        LoadedChunk { range, snapshot: lsn::position(at) }
    }

    /// A chunk of the whole table, read at `at`.
    pub(in crate::postgres::source) fn whole(at: u64) -> LoadedChunk {
        LoadedChunk { range: ChunkRange::Whole.text().unwrap(), snapshot: lsn::position(at) }
    }

    /// These texts are stored: version 0.1.0 wrote them so.
    #[test]
    fn the_stored_form_stays() {
        let key = |column, lower, upper| ChunkRange::Key { column, lower, upper };
        let bytes = Some(KeyBound::Bytes(vec![1, 255]));
        for (text, range, survives) in [
            (r#""whole""#, ChunkRange::Whole, false),
            (r#"{"physical":"{}"}"#, ChunkRange::Physical("{}".to_owned()), false),
            (r#"{"key":{"column":0,"lower":null,"upper":{"int":40}}}"#, key(0, None, Some(KeyBound::Int(40))), true),
            (r#"{"key":{"column":2,"lower":{"bytes":[1,255]},"upper":null}}"#, key(2, bytes, None), true),
        ] {
            assert_eq!(ChunkRange::parse(text).unwrap(), range);
            assert_eq!((range.text().unwrap().as_str(), range.survives()), (text, survives));
        }
        let e = ChunkRange::parse("3..6").unwrap_err();
        assert!(e.to_string().contains("load it again"), "{e}");
    }
}
