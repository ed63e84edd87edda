//! Transforms: pure functions from batches to batches. Rules arrive with an issue of their own; until then the
//! identity is the whole of it.

use std::sync::Arc;

use trem_engine::Result;
use trem_engine::change::ChangeBatch;
use trem_engine::ports::Transform;
use trem_engine::schema::TableSchema;

/// Passes everything on as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

impl Transform for Identity {
    fn schema(&self, input: &Arc<TableSchema>) -> Result<Arc<TableSchema>> {
        Ok(Arc::clone(input))
    }

    fn rows(&self, input: ChangeBatch) -> Result<ChangeBatch> {
        Ok(input)
    }
}
