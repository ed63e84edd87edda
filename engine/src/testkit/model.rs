//! The plainest possible database: what every other one is compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dialects::{LEFT, Tongue};
use crate::schema::{Column, Identity, TableId, TableSchema, Type};

/// A value; `None` in a row is NULL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// What stands in Arrow as an integer with a sign, dates and times too; false and true are 0 and 1.
    Int(i64),
    /// An integer without a sign, of 64 bits.
    Unsigned(u64),
    /// The bits of a float of 32 or 64 bits.
    Float(u64),
    /// A text, and what is carried as text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A row in column order.
pub type Row = Vec<Option<Value>>;
/// The key columns of a row.
pub type Key = Vec<Option<Value>>;

/// A table of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelTable {
    /// Name.
    pub id: TableId,
    /// Name and type.
    pub columns: Vec<(String, Type)>,
    /// Key columns, by index.
    pub key: Vec<usize>,
    /// Columns whose values the log leaves out when an update does not touch them.
    pub big: Vec<usize>,
    /// The log carries whole old rows.
    pub full_image: bool,
}

impl ModelTable {
    /// The shape as the engine sees it, of a source that speaks `left`.
    pub fn schema(&self) -> Arc<TableSchema> {
        self.schema_in(LEFT)
    }

    /// The shape as the engine sees it, of a source that speaks this dialect.
    pub fn schema_in(&self, tongue: Tongue) -> Arc<TableSchema> {
        Arc::new(TableSchema {
            id: self.id.clone(),
            native_id: None,
            columns: (0..self.columns.len()).map(|at| self.column_in(tongue, at)).collect(),
            key: self.key.clone(),
            primary_key: self.key.clone(),
            identity: if self.full_image { Identity::KeyWithFullImage } else { Identity::Key },
            generated: Vec::new(),
            history: Default::default(),
        })
    }

    /// A column as the engine sees it.
    pub(super) fn column_in(&self, tongue: Tongue, at: usize) -> Column {
        let (name, ty) = &self.columns[at];
        Column {
            name: name.clone(),
            ty: ty.clone(),
            native: tongue.native(ty),
            nullable: !self.key.contains(&at),
            omissible: self.big.contains(&at) && !self.full_image,
        }
    }

    /// The key of a row.
    pub fn key_of(&self, row: &Row) -> Key {
        self.key.iter().map(|i| row[*i].clone()).collect()
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new row.
    Insert(TableId, Row),
    /// Some columns of the row with this key.
    Update(TableId, Key, BTreeMap<usize, Option<Value>>),
    /// The row with this key goes.
    Delete(TableId, Key),
    /// All rows of these tables go.
    Truncate(Vec<TableId>),
    /// A column at the end of a table, and the value that rows have in it that are there. The model of the table is
    /// changed by whoever holds it.
    AddColumn(TableId, (String, Type), Option<Value>),
}

/// Tables and their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// Rows by key.
    pub rows: BTreeMap<TableId, BTreeMap<Key, Row>>,
}

impl Database {
    /// The rows of one table.
    pub fn table(&mut self, id: &TableId) -> &mut BTreeMap<Key, Row> {
        self.rows.entry(id.clone()).or_default()
    }

    /// Applies one statement. The generator only makes statements that succeed.
    pub fn apply(&mut self, tables: &[ModelTable], event: &Event) {
        let model = |id: &TableId| tables.iter().find(|t| t.id == *id).expect("a known table");
        match event {
            Event::Insert(id, row) => {
                let old = self.table(id).insert(model(id).key_of(row), row.clone());
                assert!(old.is_none(), "the generator inserted {row:?} into {id} twice");
            }
            Event::Update(id, key, set) => {
                let mut row = self.table(id).remove(key).expect("an existing row");
                set.iter().for_each(|(i, value)| row[*i] = value.clone());
                let old = self.table(id).insert(model(id).key_of(&row), row);
                assert!(old.is_none(), "the generator moved a row of {id} onto another");
            }
            Event::Delete(id, key) => {
                self.table(id).remove(key).expect("an existing row");
            }
            Event::Truncate(ids) => ids.iter().for_each(|id| self.table(id).clear()),
            Event::AddColumn(id, _, existing) => {
                self.table(id).values_mut().for_each(|row| row.push(existing.clone()));
            }
        }
    }
}
