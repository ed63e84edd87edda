//! Rows as people see them: each column with its value as text.

use std::fmt;

use serde::{Serialize, Serializer};
use trem_engine::change::ChangeBatch;
use trem_engine::ports::Rules;
use trem_engine::{Error, Result};
use trem_transforms::RuleList;

/// A row: its columns with their values as text; `None` is NULL. In JSON an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub Vec<(String, Option<String>)>);

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// In a line: `id = '7', name = 'lamp', note = NULL`.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            match value {
                Some(value) => write!(f, "{name} = '{}'", value.replace('\'', "''"))?,
                None => write!(f, "{name} = NULL")?,
            }
        }
        Ok(())
    }
}

/// What rules make of one row.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    /// This row of this table.
    Row { table: String, row: Row },
    /// Nothing: the filter does not let it through.
    Filtered,
    /// A rule cannot be applied to it.
    Failed(String),
}

/// One row as JSON has it.
#[derive(Serialize)]
pub struct RowView {
    pub source: Row,
    pub target: Option<Row>,
    /// Why it has no row on the target.
    pub reason: Option<String>,
}

/// The first row of a batch.
pub fn first(rows: &ChangeBatch) -> Result<Row> {
    let names = rows.table.columns.iter().map(|c| c.name.clone());
    Ok(Row(names.zip(trem_transforms::row_text(rows, 0)?).collect()))
}

/// What rules make of the one row of a batch.
pub fn made(rules: &RuleList, row: &ChangeBatch) -> Made {
    let mapped = rules.route(&row.table).and_then(|route| route.map(row.clone()));
    let made = mapped.and_then(|mapped| {
        if let Some(set_aside) = mapped.quarantined.first() {
            return Ok(Made::Failed(set_aside.error.clone()));
        }
        match mapped.rows.is_empty() {
            true => Ok(Made::Filtered),
            false => Ok(Made::Row { table: mapped.rows.table.id.to_string(), row: first(&mapped.rows)? }),
        }
    });
    made.unwrap_or_else(|error: Error| Made::Failed(error.reason()))
}

/// Every row of a batch, before and after.
pub fn samples(rules: &RuleList, rows: &ChangeBatch) -> Result<Vec<RowView>> {
    let one = |at: usize| {
        let row = rows.slice(at, 1);
        let source = first(&row)?;
        Ok(match made(rules, &row) {
            Made::Row { row, .. } => RowView { source, target: Some(row), reason: None },
            Made::Filtered => RowView { source, target: None, reason: Some("filtered".to_owned()) },
            Made::Failed(why) => RowView { source, target: None, reason: Some(why) },
        })
    };
    (0..rows.len()).map(one).collect()
}
