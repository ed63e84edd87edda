//! Endpoints in memory, random worlds and the conformance suite that every adapter runs.
//!
//! Nothing here is used by the binary. A seed makes a whole world: tables, transactions, batch cuts and faults; a
//! failing one is printed and replayed with `TREM_SEED`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod columns;
pub mod conformance;
mod convert;
pub mod dialects;
pub mod generate;
mod growth;
mod log;
pub mod memory_source;
pub mod memory_target;
pub mod model;
mod ranges;
pub mod renames;

pub use columns::{held_by_right, read_from_right};
pub use memory_source::MemorySource;
pub use memory_target::{Fault, MemoryTarget};
pub use model::{Database, Event, ModelTable, Row, Value};
