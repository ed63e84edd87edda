//! A table that a stream follows.

use std::collections::VecDeque;
use std::sync::Arc;

use trem_engine::Result;
use trem_engine::ports::StreamTable;
use trem_engine::schema::TableSchema;

use super::lsn;
use super::overlap::Overlap;
use crate::postgres::types::{TypeBook, Wire};
use crate::postgres::wire::pgoutput::Relation;

/// A table of the stream: its shape, and what its chunks contain already.
#[derive(Debug)]
pub(super) struct FollowedTable {
    /// As rows are delivered.
    pub(super) schema: Arc<TableSchema>,
    /// The same with all that is known of its past.
    pub(super) known: Arc<TableSchema>,
    /// The transactions that have emptied it, of late.
    pub(super) emptied: VecDeque<u32>,
    pub(super) wires: Vec<Wire>,
    pub(super) loaded: Option<Overlap>,
    pub(super) suspended: bool,
    /// Compared with the shape only when a change of it counts: before the table's snapshot it may be an older one.
    pub(super) unchecked: Option<Relation>,
}

/// So many transactions that have emptied a table are remembered.
const EMPTIED: usize = 256;

impl FollowedTable {
    /// A transaction has emptied it.
    pub(super) fn emptied_by(&mut self, transaction: u32) {
        if self.emptied.len() == EMPTIED {
            self.emptied.pop_front();
        }
        self.emptied.push_back(transaction);
    }

    pub(super) fn new(table: StreamTable, types: &TypeBook, from: u64) -> Result<Self> {
        let own = table.from.as_ref().map(lsn::of).transpose()?;
        Ok(Self {
            wires: types.wires(&table.schema),
            loaded: Overlap::new(&table.loaded, own, from).map_err(|e| e.table(&table.schema.id))?,
            known: Arc::clone(&table.schema),
            schema: table.schema,
            emptied: VecDeque::new(),
            suspended: false,
            unchecked: None,
        })
    }
}
