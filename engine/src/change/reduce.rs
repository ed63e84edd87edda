//! Rows of a set brought together by table, those of a table with a key reduced to their net effect.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::{ChangeBatch, ChangeSet, Step};
use super::net::NetChanges;
use crate::error::Result;
use crate::schema::{Identity, TableId, TableSchema};

/// All changes of one table between two steps that are not rows.
#[derive(Clone, Debug)]
pub struct TableChanges {
    /// The shape of the rows.
    pub table: Arc<TableSchema>,
    /// What they amount to.
    pub effect: Effect,
}

/// What changes of a table amount to.
#[derive(Clone, Debug)]
pub enum Effect {
    /// For a table with a key: what is left to be done.
    Net(NetChanges),
    /// For any other: each change, in source order.
    Log(Vec<ChangeBatch>),
}

impl TableChanges {
    fn of(table: Arc<TableSchema>, batches: Vec<ChangeBatch>) -> Result<Self> {
        let effect = match table.identity {
            Identity::Key | Identity::KeyWithFullImage => {
                Effect::Net(NetChanges::of(batches).map_err(|e| e.table(&table.id))?)
            }
            Identity::Full | Identity::InsertOnly => Effect::Log(batches),
        };
        Ok(Self { table, effect })
    }

    /// Number of changes in the log.
    pub fn changes(&self) -> usize {
        match &self.effect {
            Effect::Net(net) => net.changes(),
            Effect::Log(batches) => batches.iter().map(ChangeBatch::len).sum(),
        }
    }
}

/// Batches by table, tables in the order of their first change.
#[derive(Default)]
struct Gathered {
    tables: Vec<(Arc<TableSchema>, Vec<ChangeBatch>)>,
    places: HashMap<TableId, usize>,
}

impl Gathered {
    fn add(&mut self, batch: ChangeBatch) {
        if batch.is_empty() {
            return;
        }
        match self.places.get(&batch.table.id) {
            Some(place) => self.tables[*place].1.push(batch),
            None => {
                self.places.insert(batch.table.id.clone(), self.tables.len());
                self.tables.push((Arc::clone(&batch.table), vec![batch]));
            }
        }
    }

    fn reduce(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        for (table, batches) in std::mem::take(self).tables {
            steps.push(Step::Table(TableChanges::of(table, batches)?));
        }
        Ok(())
    }
}

impl ChangeSet {
    /// The same with every [`Step::Rows`] in a [`Step::Table`]. What is reduced already stays as it is.
    ///
    /// # Errors
    /// Those of [`NetChanges::of`].
    pub fn reduce(mut self) -> Result<Self> {
        if !self.steps.iter().any(|s| matches!(s, Step::Rows(_))) {
            return Ok(self);
        }
        let mut steps = Vec::new();
        let mut gathered = Gathered::default();
        for step in self.steps {
            if let Step::Rows(batch) = step {
                gathered.add(batch);
            } else {
                gathered.reduce(&mut steps)?;
                steps.push(step);
            }
        }
        gathered.reduce(&mut steps)?;
        self.steps = steps;
        Ok(self)
    }
}
