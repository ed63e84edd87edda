//! A table that a stream follows.

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
    pub(super) schema: Arc<TableSchema>,
    pub(super) wires: Vec<Wire>,
    pub(super) loaded: Option<Overlap>,
    pub(super) suspended: bool,
    /// Compared with the shape only when a change of it counts: before the table's snapshot it may be an older one.
    pub(super) unchecked: Option<Relation>,
}

impl FollowedTable {
    pub(super) fn new(table: StreamTable, types: &TypeBook, from: u64) -> Result<Self> {
        let own = table.from.as_ref().map(lsn::of).transpose()?;
        Ok(Self {
            wires: types.wires(&table.schema),
            loaded: Overlap::new(&table.loaded, own, from).map_err(|e| e.table(&table.schema.id))?,
            schema: table.schema,
            suspended: false,
            unchecked: None,
        })
    }
}
