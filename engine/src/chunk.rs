//! Parts of a table that are loaded one by one.

use serde::{Deserialize, Serialize};

use crate::position::Position;

/// A bound of a key range: a value the engine and the source order alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyBound {
    /// Integers, dates and timestamps, as they stand in Arrow.
    Int(i64),
    /// Values ordered byte by byte: uuid, text under the C collation (hex in the record).
    Bytes(Vec<u8>),
}

/// Which rows of a table a chunk holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChunkRange {
    /// All.
    Whole,
    /// Meaningful within one snapshot only, such as a part of the table's file; read by the source alone.
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
    pub fn survives(&self) -> bool {
        matches!(self, Self::Key { .. })
    }
}

/// A part of a table that is read in one go and becomes visible on the target in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Number within the table, from 0.
    pub id: u32,
    /// Its rows.
    pub range: ChunkRange,
    /// Estimated number of rows, for progress only.
    pub rows: u64,
}

/// A chunk that the target already holds, and the snapshot it was read at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedChunk {
    /// Its rows.
    pub range: ChunkRange,
    /// Every change committed before this place is in the rows.
    pub snapshot: Position,
}
