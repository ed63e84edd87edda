//! Rows that a filter lets in and that the log has left something out of: the source is asked for the rest.

use crate::change::{ChangeSet, Step};
use crate::error::{Error, Result};
use crate::ports::Source;

use super::stage::Stage;

/// Makes the rows of a set whole that have to be.
///
/// What is read is what the row has now, which may be later than the set: then the log brings the same value again.
pub(super) async fn complete(source: &dyn Source, stage: &mut Stage, set: &mut ChangeSet) -> Result<()> {
    for step in &mut set.steps {
        let Step::Rows(batch) = step else { continue };
        let rows = stage.incomplete(batch)?;
        if rows.is_empty() {
            continue;
        }
        let table = batch.table.id.clone();
        let doing = "reading a row again of which the log has left values out";
        let found = source.again(batch, &rows).await.map_err(|e| Error::of_table(e.table(&table).context(doing)))?;
        *batch = std::mem::replace(batch, batch.slice(0, 0)).filled(&rows, &found)?;
    }
    Ok(())
}
