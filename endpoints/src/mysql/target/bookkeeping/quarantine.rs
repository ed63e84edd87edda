//! Changes that were set aside, in `trem.quarantine`.

use mysql_async::{Row, Value};
use trem_engine::Result;
use trem_engine::quarantine::{QuarantineEntry, Quarantined};
use trem_engine::schema::TableId;

use super::super::session::Session;
use super::clock::{MICROS, TIME, micros, time};
use super::layout::exists;
use crate::mysql::row::get;
use crate::target::stored::{operation, operation_of, values_of, values_text};

/// Puts them there, in the open transaction.
pub(super) async fn put(session: &mut Session, task: &str, changes: &[Quarantined]) -> Result<()> {
    let sql = format!(
        "INSERT INTO trem.quarantine (task, schema_name, table_name, operation, position, committed_at, error, \
         row_key, row_values) VALUES (?, ?, ?, ?, ?, {TIME}, ?, ?, ?)"
    );
    for change in changes {
        let row = vec![
            Value::from(task),
            Value::from(&change.table.schema),
            Value::from(&change.table.table),
            Value::from(operation(change.op)),
            Value::from(change.position.as_ref()),
            Value::from(micros(change.committed_at)),
            Value::from(&change.error),
            Value::from(values_text(&change.key)?),
            Value::from(values_text(&change.row)?),
        ];
        session.execute_with(&sql, row).await?;
    }
    Ok(())
}

/// Forgets those of a table.
pub(super) async fn forget(session: &mut Session, task: &str, id: &TableId) -> Result<()> {
    let sql = "DELETE FROM trem.quarantine WHERE task = ? AND schema_name = ? AND table_name = ?";
    let which = [task, &id.schema, &id.table].map(Value::from);
    session.execute_with(sql, which.into()).await.map(drop)
}

/// Those of a task, in their order.
pub(in super::super) async fn quarantined(session: &mut Session, task: &str) -> Result<Vec<QuarantineEntry>> {
    if !exists(session).await? {
        return Ok(Vec::new());
    }
    let since = MICROS.replace("committed_at", "quarantined_at");
    let sql = format!(
        "SELECT id, {since}, schema_name, table_name, operation, position, {MICROS}, error, row_key, row_values \
         FROM trem.quarantine WHERE task = ? ORDER BY id"
    );
    session.rows(&sql, vec![task.into()]).await?.iter().map(entry).collect()
}

/// Forgets these; how many there were.
pub(in super::super) async fn release(session: &mut Session, task: &str, numbers: &[i64]) -> Result<u64> {
    let mut released = 0;
    for number in numbers {
        let sql = "DELETE FROM trem.quarantine WHERE task = ? AND id = ?";
        released += session.execute_with(sql, vec![task.into(), number.into()]).await?;
    }
    Ok(released)
}

fn entry(row: &Row) -> Result<QuarantineEntry> {
    let op = operation_of(&get::<String>(row, 4)?);
    let change = Quarantined {
        table: TableId::new(get::<String>(row, 2)?, get::<String>(row, 3)?),
        op,
        position: get(row, 5)?,
        committed_at: time(get(row, 6)?),
        error: get(row, 7)?,
        key: values_of(&get::<String>(row, 8)?)?,
        row: values_of(&get::<String>(row, 9)?)?,
    };
    let since = time(get(row, 1)?).unwrap_or(std::time::SystemTime::UNIX_EPOCH);
    Ok(QuarantineEntry { number: get(row, 0)?, since, change })
}
