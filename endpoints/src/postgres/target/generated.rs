//! Columns that the source computes: their values are not sent, the target must compute them too.

use trem_engine::Remedy;
use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::{GeneratedColumn, TableSchema};

use super::shape::TargetTable;
use crate::postgres::quote;
use crate::postgres::types::DIALECT;

/// The column as it stands in DDL; `None` where it is computed in another database's SQL.
pub(super) fn definition(column: &GeneratedColumn) -> Option<String> {
    if column.expression.dialect != DIALECT {
        return None;
    }
    let expression = column.expression.render(quote::ident);
    Some(format!("{} {} GENERATED ALWAYS AS ({expression}) STORED", quote::ident(&column.name), column.native.name))
}

/// Columns that a table made from `source` will lack.
pub(super) fn left_out(source: &TableSchema) -> impl Iterator<Item = Finding> {
    let foreign = source.generated.iter().filter(|column| definition(column).is_none());
    foreign.map(|column| finding(source, column, Severity::Warning, "which is not created on the target"))
}

/// Everything about computed columns that keeps rows of `source` from being in `target` what they are at the source.
pub(super) fn misfits(target: &TargetTable, source: &TableSchema) -> Vec<Finding> {
    let name = quote::table(&source.id);
    let one = |column: &GeneratedColumn| {
        let have = target.column(&column.name);
        if have.is_some_and(|have| have.generated) {
            return None;
        }
        let Some(definition) = definition(column) else {
            return Some(match have {
                Some(_) => {
                    finding(source, column, Severity::Error, "and sends no values, the target does not compute it")
                }
                None => finding(source, column, Severity::Warning, "the target table lacks it"),
            });
        };
        let (severity, message, remedy) = match have {
            Some(_) => (
                Severity::Error,
                "the source computes this column and sends no values, the target does not compute it",
                format!("ALTER TABLE {name} DROP COLUMN {}, ADD COLUMN {definition}", quote::ident(&column.name)),
            ),
            None => (
                Severity::Warning,
                "the source computes this column, the target table lacks it",
                format!("ALTER TABLE {name} ADD COLUMN {definition}"),
            ),
        };
        let subject = format!("{}.{}", source.id, column.name);
        Some(Finding { severity, subject, message: message.to_owned(), remedy: Some(Remedy::Sql(remedy)) })
    };
    source.generated.iter().filter_map(one).collect()
}

/// What is said of a column that is computed in another database's SQL.
fn finding(source: &TableSchema, column: &GeneratedColumn, severity: Severity, consequence: &str) -> Finding {
    Finding {
        severity,
        subject: format!("{}.{}", source.id, column.name),
        message: format!("the source computes this column as `{}`, {consequence}", column.expression),
        remedy: Some(format!("add it to {} with an expression of PostgreSQL", quote::table(&source.id)).into()),
    }
}
