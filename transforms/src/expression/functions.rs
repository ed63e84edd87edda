//! Functions, operators and casts of our own, beside those that DataFusion has: on JSON, arrays and UUIDs.

mod arguments;
mod array_text;
mod arrays;
mod casts;
mod check;
mod function;
mod json;
mod json_text;
mod names;
mod operators;
mod signs;
mod uuids;

use std::sync::Arc;

use datafusion_expr::ScalarUDF;

pub(super) use casts::called as casts_called;
pub(super) use check::check as check_calls;
pub(super) use names::check as check_names;
pub(super) use operators::Operators;
pub(super) use signs::apart as signs_apart;

/// All that can be called by a name.
pub(super) fn all() -> impl Iterator<Item = Arc<ScalarUDF>> {
    function::Own::ALL.into_iter().map(function::Own::function)
}

#[cfg(test)]
mod tests;
