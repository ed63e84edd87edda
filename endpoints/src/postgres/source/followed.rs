//! A table that a stream follows.

use std::sync::Arc;

use trem_engine::Result;
use trem_engine::change::BatchBuilder;
use trem_engine::ports::StreamTable;
use trem_engine::schema::TableSchema;

use super::lsn;
use super::overlap::Overlap;
use crate::postgres::types::{TypeBook, Wire};
use crate::postgres::wire::pgoutput::Relation;

/// A table of the stream: its shape, its rows since the last change set, and what its chunks contain already.
#[derive(Debug)]
pub(super) struct FollowedTable {
    pub(super) schema: Arc<TableSchema>,
    pub(super) wires: Vec<Wire>,
    pub(super) builder: BatchBuilder,
    /// What a row takes beside the bytes of its values.
    pub(super) width: usize,
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
            builder: BatchBuilder::new(Arc::clone(&table.schema)),
            width: width(&table.schema),
            loaded: Overlap::new(&table.loaded, own, from)?,
            schema: table.schema,
            suspended: false,
            unchecked: None,
        })
    }
}

/// Bytes that a row takes in the builders whatever its values are: NULL takes as much as a number, and what the log
/// leaves out takes its place all the same.
pub(super) fn width(schema: &TableSchema) -> usize {
    // The operation, and what masks and batches cost by the row.
    const OVERHEAD: usize = 16;
    let fixed = schema.columns.iter().map(|c| c.ty.arrow().primitive_width().unwrap_or(4));
    OVERHEAD + fixed.sum::<usize>()
}
