//! For the micro benches: bytes of the source into Arrow, without a server.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use trem_engine::Result;
use trem_engine::change::{BatchBuilder, ChangeBatch, ChangeSet, Gather};
use trem_engine::ports::{StreamRequest, StreamRole, StreamTable};
use trem_engine::schema::TableSchema;
use trem_engine::task::BatchLimits;

use super::assemble::Assembler;
use super::lsn;
use super::read::push_row;
use crate::postgres::types::{TypeBook, wire};
use crate::postgres::wire::copy::CopyRow;

/// A type's number, its output function and its send function.
pub type Type = (u32, &'static str, &'static str);

fn book(types: &[Type]) -> TypeBook {
    TypeBook::with(types.iter().map(|(id, output, send)| (*id, wire(output, send))))
}

/// Messages of `pgoutput` into change sets.
pub struct Log(Assembler, Gather);

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// For changes of one table; a set is as large as what is given before [`Log::take`].
    ///
    /// # Errors
    /// Never, in effect.
    pub fn new(table: &Arc<TableSchema>, types: &[Type]) -> Result<Self> {
        let tables = vec![StreamTable { schema: Arc::clone(table), from: None, loaded: Vec::new() }];
        let limits = BatchLimits { max_rows: usize::MAX / 4, max_bytes: usize::MAX / 4, ..BatchLimits::default() };
        let (from, expected, role) = (lsn::position(1), Vec::new(), StreamRole::Main);
        let gather = Gather::new(limits, from.clone());
        let request = StreamRequest { from, tables, expected, role };
        Ok(Self(Assembler::new(request, &book(types))?, gather))
    }

    /// Takes one message in.
    ///
    /// # Errors
    /// A message that is malformed.
    pub fn message(&mut self, message: &Bytes) -> Result<()> {
        self.0.message(message, message, &mut self.1).map(drop)
    }

    /// What has been gathered.
    ///
    /// # Errors
    /// Never, in effect.
    pub fn take(&mut self) -> Result<Option<ChangeSet>> {
        self.1.take()
    }
}

/// Rows of a binary COPY into a batch.
///
/// # Errors
/// A row that is malformed.
pub fn copied(table: &Arc<TableSchema>, types: &[Type], rows: &[Bytes]) -> Result<ChangeBatch> {
    let wires = book(types).wires(table);
    let mut builder = BatchBuilder::new(Arc::clone(table));
    let mut scratch = Vec::new();
    for row in rows {
        push_row(&mut builder, &wires, CopyRow::of(row)?, row, &mut scratch)?;
    }
    builder.finish()
}
