//! The statements that create a table and its keys on the target.

use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::{Column, TableSchema};

use super::generated;
use super::shape::TargetTable;
use crate::postgres::{counterpart, quote};

/// PostgreSQL cuts longer names off without an error.
const LONGEST_NAME: usize = 63;

/// Names that would not be on the target what they are here.
pub(super) fn too_long(table: &TableSchema) -> Vec<Finding> {
    let columns = table.columns.iter().map(|c| &c.name).chain(table.generated.iter().map(|g| &g.name));
    let names = [&table.id.schema, &table.id.table].into_iter().chain(columns);
    let finding = |name: &String| Finding {
        severity: Severity::Error,
        subject: table.id.to_string(),
        message: format!("the name {name} has {} bytes, PostgreSQL keeps {LONGEST_NAME}", name.len()),
        remedy: Some("give it a shorter name".into()),
    };
    names.filter(|name| name.len() > LONGEST_NAME).map(finding).collect()
}

/// The statement that creates a schema.
pub(super) fn create_schema(name: &str) -> String {
    format!("CREATE SCHEMA {}", quote::ident(name))
}

/// The statements that create the table, keys left out.
pub(super) fn create_table(table: &TableSchema) -> String {
    let column = |c: &Column| {
        let not_null = if c.nullable { "" } else { " NOT NULL" };
        format!("{} {}{not_null}", quote::ident(&c.name), counterpart::name(c))
    };
    let columns: Vec<String> =
        table.columns.iter().map(column).chain(table.generated.iter().filter_map(generated::definition)).collect();
    format!("CREATE TABLE {} (\n    {}\n)", quote::table(&table.id), columns.join(",\n    "))
}

/// The statements that build the keys which `have` lacks.
pub(super) fn create_keys(table: &TableSchema, have: Option<&TargetTable>) -> Vec<String> {
    let names = |columns: &[usize]| columns.iter().map(|i| table.columns[*i].name.as_str()).collect::<Vec<_>>();
    let mut out = Vec::new();
    let name = quote::table(&table.id);
    let primary = names(&table.primary_key);
    let has_primary = have.is_some_and(|h| h.unique.iter().any(|u| u.primary));
    if !primary.is_empty() && !has_primary {
        out.push(format!("ALTER TABLE {name} ADD PRIMARY KEY ({})", quote::list(primary.iter().copied())));
    }
    let key = names(&table.key);
    let covered = same_names(&key, &primary) || have.is_some_and(|h| h.has_unique(&key));
    if !key.is_empty() && !covered {
        out.push(format!("CREATE UNIQUE INDEX ON {name} ({})", quote::list(key.iter().copied())));
    }
    out
}

fn same_names(a: &[&str], b: &[&str]) -> bool {
    a.len() == b.len() && a.iter().all(|n| b.contains(n))
}
