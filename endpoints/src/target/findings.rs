//! What stands against tables, in the words of every target.

use std::sync::Arc;

use trem_engine::ports::{Finding, Severity, TablePreview};
use trem_engine::schema::{Column, TableId, TableSchema};
use trem_engine::types::{Counterpart, Verdict};
use trem_engine::{Error, Remedy, Result};

/// Something that forbids to go on with a table.
pub(crate) fn forbid(table: &TableSchema, message: String, remedy: impl Into<Remedy>) -> Finding {
    Finding { severity: Severity::Error, subject: table.id.to_string(), message, remedy: Some(remedy.into()) }
}

/// Two tasks that write one table would undo each other's work.
pub(crate) fn taken(table: &TableSchema, other: &str) -> Finding {
    let remedy = format!("exclude it from `tables` of one of the two tasks, or drop task {other}");
    forbid(table, format!("task {other} writes this table of the target already"), remedy)
}

/// What is there already, and is not to be touched unless somebody says so.
pub(crate) fn refusal(table: &TableSchema, message: &str) -> Finding {
    let remedy = "set on-existing to keep, truncate or recreate, or empty the target table";
    forbid(table, message.to_owned(), remedy)
}

/// Loading again begins with an empty table, which would take rows that the source never had. `name`: quoted.
pub(crate) fn own_rows(table: &TableSchema, name: &str) -> Finding {
    let empty = Remedy::Sql(format!("DELETE FROM {name}"));
    let remedy = empty.then_reload(&table.id).or(Remedy::StartAnew);
    let message = "the target table must be emptied to be loaded again, and on-existing has kept its rows";
    forbid(table, message.to_owned(), remedy)
}

/// Columns for which the target has no type that holds what they hold, by what stands for each there.
pub(crate) fn without_form(table: &TableSchema, there: impl Fn(&Column) -> Option<Counterpart>) -> Vec<Finding> {
    let one = |column: &Column| {
        let native = &column.native;
        let why = match there(column) {
            None => format!("nothing on the target holds values of type {} ({})", native.name, native.dialect),
            Some(Counterpart { verdict: Verdict::Lossy(why), name }) => {
                format!("type {name} would not hold all of {} ({}): {why}", native.name, native.dialect)
            }
            Some(_) => return None,
        };
        let subject = format!("{}.{}", table.id, column.name);
        let remedy = Some("exclude the table, or change the column's type at the source".into());
        Some(Finding { severity: Severity::Error, subject, message: why, remedy })
    };
    table.columns.iter().filter_map(one).collect()
}

/// The first finding that forbids, as an error.
pub(crate) fn verdict(table: &TableId, findings: &[Finding]) -> Result<()> {
    let errors: Vec<&Finding> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
    let e = Error::refused(format!("{}: {}{more}", first.subject, first.message)).target_table(table);
    Err(match &first.remedy {
        Some(remedy) => e.remedy(remedy.clone()),
        None => e,
    })
}

/// What would be done for a table whose rows go where those of `first` do. `findings`: of its own.
pub(crate) fn joining(first: &TablePreview, table: &Arc<TableSchema>, mut findings: Vec<Finding>) -> TablePreview {
    let other = |c: &&Column| first.table.column(&c.name).is_some_and(|at| first.table.columns[at].ty != c.ty);
    for column in table.columns.iter().filter(other) {
        let message = format!("it has another type in other tables that become {}", table.id);
        let finding = forbid(table, message, "give it one type with change-type");
        findings.push(Finding { subject: format!("{}.{}", table.id, column.name), ..finding });
    }
    TablePreview { table: Arc::clone(table), exists: first.exists, ddl: Vec::new(), findings }
}
