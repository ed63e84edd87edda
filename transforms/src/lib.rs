//! Rules: what becomes of tables on their way, compiled to pure functions over batches.
//!
//! An ordered list for each task. What a rule covers is judged by the name that earlier rules have made.

mod expression;
mod formula;
mod program;
mod rules;
mod working;

pub use formula::Formula;
pub use rules::{Action, RowFilter, Rule, RuleList};
