//! Changes on their way: batches of one table, sets of whole transactions, and their net effect.

mod batch;
mod builder;
mod column;
mod commit;
mod counts;
mod fill;
mod gather;
mod net;
mod reduce;
mod set;

pub use batch::{ChangeBatch, ColumnMask, OldImages, Op};
pub use builder::BatchBuilder;
pub use column::ColumnBuilder;
pub use commit::{Commit, Commits};
pub use counts::TableCounts;
pub use gather::{Gather, LARGE_ROW};
pub use net::{KeyRef, Move, NetChanges, RowRef, UpdateGroup};
pub use reduce::{Effect, Mark, ReducedSet, ReducedStep, Reducer, Reduction, TableChanges};
pub use set::{ChangeSet, Span, Step, Truncate};
