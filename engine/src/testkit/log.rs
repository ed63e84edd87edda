//! What the log of the memory source holds.

use super::dialects::Tongue;
use super::model::{Database, Event, ModelTable, Row, Value};
use crate::change::{ColumnMask, Op};
use crate::schema::{Column, TableId};

/// What the log holds of one statement.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A row, with its old image where the log has one.
    Row { table: TableId, op: Op, image: Row, old: Option<Row>, unknown: ColumnMask },
    /// Tables emptied.
    Truncate(Vec<TableId>),
    /// A column added, and what rows that are there have in it.
    Added(TableId, Column, Option<Value>),
}

impl Entry {
    /// What is logged of a statement by a source that speaks `tongue` and has these tables after it. `before`: its rows
    /// before it.
    pub(super) fn of(event: &Event, tables: &[ModelTable], before: &Database, tongue: Tongue) -> Self {
        let model = |id: &TableId| tables.iter().find(|t| t.id == *id).expect("a known table");
        match event {
            Event::Truncate(ids) => Self::Truncate(ids.clone()),
            Event::AddColumn(id, _, existing) => {
                let last = model(id).columns.len() - 1;
                Self::Added(id.clone(), model(id).column_in(tongue, last), existing.clone())
            }
            Event::Insert(id, row) => Self::Row {
                table: id.clone(),
                op: Op::Insert,
                image: row.clone(),
                old: None,
                unknown: ColumnMask::default(),
            },
            Event::Delete(id, key) => {
                let model = model(id);
                let (mut image, mut unknown) = (before.rows[id][key].clone(), ColumnMask::default());
                for (i, value) in image.iter_mut().enumerate() {
                    if !model.full_image && !model.key.contains(&i) {
                        *value = None;
                        unknown.insert(i);
                    }
                }
                Self::Row { table: id.clone(), op: Op::Delete, image, old: None, unknown }
            }
            Event::Update(id, key, set) => {
                let model = model(id);
                let old = before.rows[id][key].clone();
                let mut image = old.clone();
                set.iter().for_each(|(i, v)| image[*i] = v.clone());
                let rekeyed = model.key_of(&image) != *key;
                let mut unknown = ColumnMask::default();
                for i in model.big.iter().filter(|i| !set.contains_key(i) && !model.full_image && old[**i].is_some()) {
                    image[*i] = None;
                    unknown.insert(*i);
                }
                let old = (rekeyed || model.full_image).then_some(old);
                Self::Row { table: id.clone(), op: Op::Update, image, old, unknown }
            }
        }
    }
}
