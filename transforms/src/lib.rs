//! Rules: what becomes of tables on their way, compiled to pure functions over batches.
//!
//! An ordered list for each task. What a rule covers is judged by the name that earlier rules have made.

mod action;
mod columns;
mod conversion;
mod digest;
mod entry;
mod expression;
mod formula;
mod mask;
mod metadata;
mod naming;
mod near;
mod program;
mod rules;
mod working;

pub use action::Action;
pub use columns::{ColumnPattern, Columns};
pub use conversion::{OnMisfit, To};
pub use entry::TableEntry;
pub use expression::check_expression;
pub use formula::Formula;
pub use mask::{Masking, Salt};
pub use naming::Naming;
pub use program::row_text;
pub use rules::{OnRowError, Rule, RuleList};
