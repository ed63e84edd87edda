//! Changes on their way: batches of one table, sets of whole transactions, and their net effect.

mod batch;
mod builder;
mod column;
mod net;
mod reduce;

pub use batch::{ChangeBatch, ChangeSet, ColumnMask, OldImages, Op, Step, TableCounts, Truncate};
pub use builder::BatchBuilder;
pub use column::ColumnBuilder;
pub use net::{KeyRef, Move, NetChanges, RowRef, UpdateGroup};
pub use reduce::{Effect, TableChanges};
