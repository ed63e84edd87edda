//! The plainest possible database: what every other one is compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dialects::LEFT;
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
    /// Text columns whose values the log leaves out when an update does not touch them.
    pub big: Vec<usize>,
    /// The log carries whole old rows.
    pub full_image: bool,
}

impl ModelTable {
    /// The shape as the engine sees it.
    pub fn schema(&self) -> Arc<TableSchema> {
        let columns = self.columns.iter().enumerate().map(|(i, (name, ty))| Column {
            name: name.clone(),
            ty: ty.clone(),
            native: LEFT.native(ty),
            nullable: !self.key.contains(&i),
            omissible: self.big.contains(&i) && !self.full_image,
        });
        Arc::new(TableSchema {
            id: self.id.clone(),
            native_id: None,
            columns: columns.collect(),
            key: self.key.clone(),
            primary_key: self.key.clone(),
            identity: if self.full_image { Identity::KeyWithFullImage } else { Identity::Key },
            generated: Vec::new(),
        })
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
        }
    }
}
