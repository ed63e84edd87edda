//! Parts of a table that are loaded one by one.

use serde::{Deserialize, Serialize};

use crate::position::Position;

/// A part of a table that is read in one go and becomes visible on the target in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Number within the table, from 0.
    pub id: u32,
    /// Its rows: a text that the source has written and that nobody else reads.
    pub range: String,
    /// Whether the text means the same rows under a later snapshot, so that an interrupted load can go on.
    pub survives: bool,
    /// Estimated number of rows, for progress only.
    pub rows: u64,
}

/// A chunk that the target already holds, and the snapshot it was read at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedChunk {
    /// Its rows, as in [`Chunk`].
    pub range: String,
    /// Every change committed before this place is in the rows.
    pub snapshot: Position,
}
