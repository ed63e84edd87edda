//! What the catalogue says of a table whose shape may have changed in the log.
//!
//! It says what is now, which may be behind a later change: that one is met in the log, and the table is loaded again.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use trem_engine::position::Position;
use trem_engine::schema::{Column, SchemaChangeKind, TableSchema};
use trem_engine::{Error, Result};

use super::shared::{Inner, here};
use crate::mysql::binlog::table_map::TableMap;
use crate::mysql::catalog;
use crate::mysql::charset::{self, Charsets};

/// A table, and how its next rows stand in the log.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) table: Arc<TableSchema>,
    pub(super) map: TableMap,
}

/// What has become of it.
#[derive(Debug)]
pub(super) enum Shape {
    /// Nothing that matters.
    Same,
    /// It has more columns.
    Added(SchemaChangeKind),
    /// What its rows are now the log does not tell: they have to be read again.
    Again(String),
    /// Something else: what.
    Other(String),
}

/// What the catalogue has said, and where the log ended then.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) shape: Shape,
    pub(super) asked: Position,
    /// Sets of its columns.
    pub(super) charsets: Charsets,
}

/// Asks the catalogue.
pub(super) async fn ask(inner: Arc<Inner>, doubt: Doubt) -> Result<Answer> {
    let id = &doubt.table.id;
    let mut session = inner.session().await?;
    let now = catalog::describe(&mut session, vec![id.clone()]).await?.pop();
    let plain = catalog::without_default(&mut session, id).await?;
    let mut charsets = Charsets::default();
    charsets.learn(&mut session, charset::names(&now)).await?;
    // Afterwards: what has changed meanwhile is met again.
    let asked = here(&mut session).await?.position();
    inner.give_back(session).await;
    let shape = match now {
        Some(now) => compare(&doubt, &now, &plain).map_err(|e| e.table(id))?,
        None => Shape::Other("it is not there any more".to_owned()),
    };
    Ok(Answer { shape, asked, charsets })
}

/// A column that is known and not what it was.
pub(super) fn changed(table: &TableSchema, now: &TableSchema) -> Option<String> {
    let same = |one: &Column, other: &Column| {
        one.name == other.name && one.native == other.native && one.nullable == other.nullable
    };
    let gone = table.columns.iter().find(|column| !now.columns.iter().any(|other| same(column, other)));
    gone.map(|column| format!("its column {} is not what it was", column.name))
}

fn compare(doubt: &Doubt, now: &TableSchema, plain: &[String]) -> Result<Shape> {
    let Doubt { table, map } = doubt;
    if let Err(reason) = map.is_described() {
        return Ok(Shape::Other(reason));
    }
    if map.names.len() != now.columns.len() || !map.names.iter().all(|name| now.column(name).is_some()) {
        return Ok(Shape::Again("its columns have changed more than once since".to_owned()));
    }
    if let Some(reason) = changed(table, now) {
        return Ok(Shape::Other(reason));
    }
    if !table.key_names().eq(now.key_names()) || table.identity != now.identity {
        return Ok(Shape::Other("it has another key".to_owned()));
    }
    let added: Vec<&Column> = now.columns.iter().filter(|c| table.column(&c.name).is_none()).collect();
    if added.is_empty() {
        return Ok(Shape::Same);
    }
    if let Some(column) = added.iter().find(|c| !plain.contains(&c.name)) {
        let reason = format!("column {} was added, and rows that were there have a value in it", column.name);
        return Ok(Shape::Again(reason));
    }
    let mut next = TableSchema::clone(table);
    next.columns.extend(added.into_iter().cloned());
    let new: Vec<usize> = (table.columns.len()..next.columns.len()).collect();
    let failed = |e| Error::fatal("internal: columns that were added").cause(e);
    let schema = Arc::new(next.arrow().project(&new).map_err(failed)?);
    let nulls = schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let existing = RecordBatch::try_new_with_options(schema, nulls, &options).map_err(failed)?;
    Ok(Shape::Added(SchemaChangeKind::AddColumns { next: Arc::new(next), existing }))
}
