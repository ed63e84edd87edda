//! What a target remembers, between the engine's values and the texts that stand for them in its tables.

use std::time::SystemTime;

use trem_engine::change::{ChangeBatch, Op, ReducedSet, Reducer, Reduction, Span};
use trem_engine::position::Position;
use trem_engine::quarantine::QuarantinedValue;
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::{Class, Error, Result};

/// The refusal of whoever has been locked out.
pub(crate) fn fenced(task: &str) -> Error {
    Error::new(Class::Fenced, format!("another process has taken task {task} over"))
        .remedy("stop one of the two, or give them different task names")
}

/// The refusal to load a table again that the task does not know.
pub(crate) fn unknown_table(task: &str, table: &TableId) -> Error {
    Error::refused(format!("task {task} does not know this table"))
        .table(table)
        .remedy("the status of the task names the tables it knows")
}

/// A part of a table that came in twice. One whose answer was lost may have committed after the record was read: its
/// rows must not come twice.
pub(crate) fn not_to_be_loaded(table: &TableId) -> Error {
    Error::transient("a part of the table is not, or no longer, to be loaded").table(table)
}

/// What of a table's record nobody can read.
pub(crate) fn damaged(id: &TableId, what: &str) -> Error {
    Error::fatal(format!("the target's record of the table's {what} cannot be read")).table(id)
}

/// A shape as text.
pub(crate) fn shape_text(table: &TableSchema) -> Result<String> {
    serde_json::to_string(table).map_err(|e| Error::fatal("internal: the shape of the table").cause(e))
}

/// A shape from its text.
pub(crate) fn shape_of(id: &TableId, text: &str) -> Result<TableSchema> {
    serde_json::from_str(text).map_err(|e| damaged(id, "shape").cause(e))
}

/// A place from its number, in digits, and its text.
pub(crate) fn position(order: Option<String>, resume: Option<String>) -> Result<Option<Position>> {
    let Some((order, resume)) = order.zip(resume) else { return Ok(None) };
    let order = order.parse().map_err(|e| Error::fatal("the target's record of the task is damaged").cause(e))?;
    Ok(Some(Position::new(order, resume)))
}

/// What is written for a change that was set aside; `None` is a row that a load has read.
pub(crate) fn operation(op: Option<Op>) -> &'static str {
    match op {
        Some(Op::Insert) => "insert",
        Some(Op::Update) => "update",
        Some(Op::Delete) => "delete",
        None => "load",
    }
}

/// The change of that word.
pub(crate) fn operation_of(word: &str) -> Option<Op> {
    [Op::Insert, Op::Update, Op::Delete].into_iter().find(|op| operation(Some(*op)) == word)
}

/// Values that were set aside, as text.
pub(crate) fn values_text(values: &[QuarantinedValue]) -> Result<String> {
    serde_json::to_string(values).map_err(|e| Error::fatal("internal: a row that is set aside").cause(e))
}

/// The values of that text.
pub(crate) fn values_of(text: &str) -> Result<Vec<QuarantinedValue>> {
    serde_json::from_str(text).map_err(|e| Error::fatal("trem.quarantine has a row that nothing here wrote").cause(e))
}

/// Rows that somebody puts right by hand, as a set. It is none of the log: its place is asked of by nobody.
pub(crate) fn by_hand(rows: ChangeBatch) -> Result<ReducedSet> {
    let bytes = rows.bytes();
    let mut reducer = Reducer::new(Reduction::Net);
    reducer.rows(rows);
    let end = Position::new(0, String::new());
    reducer.finish(Span { end, committed_at: None::<SystemTime>, open: false, transactions: 0, bytes })
}
