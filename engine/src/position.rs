//! Places in a source's log: positions, the lineage they belong to and the checkpoint made of both.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place in one source's log.
///
/// `order` is all the engine compares; `resume` is read by the endpoint that made it and by nobody else.
/// An endpoint keeps `resume` printable where its log has a printable notation, because operators read it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Position {
    order: u128,
    resume: Arc<str>,
}

impl Position {
    /// A position that sorts by `order` and from which the endpoint can resume by `resume`.
    pub fn new(order: u128, resume: impl Into<Arc<str>>) -> Self {
        Self { order, resume: resume.into() }
    }

    /// The ordering key.
    pub fn order(&self) -> u128 {
        self.order
    }

    /// What the endpoint needs to resume here.
    pub fn resume(&self) -> &str {
        &self.resume
    }
}

impl PartialEq for Position {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Position {}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resume)
    }
}

/// Which history a position belongs to: positions of two lineages must never be compared.
///
/// The endpoint writes it (what tells its server, its database and its failovers apart) and the endpoint judges
/// whether a stored one still holds; the engine only stores and shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage(pub String);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The durable resume point of one task lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The history that `position` belongs to.
    pub lineage: Lineage,
    /// Every change committed at the source before this place has taken effect.
    pub position: Position,
}
