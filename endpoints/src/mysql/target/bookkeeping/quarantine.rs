//! Changes that were set aside, in `trem.quarantine`.

use mysql_async::{Row, Value};
use trem_engine::change::Op;
use trem_engine::quarantine::{QuarantineEntry, Quarantined, QuarantinedValue};
use trem_engine::schema::TableId;
use trem_engine::{Error, Result};

use super::super::session::Session;
use super::clock::{MICROS, TIME, micros, time};
use super::layout::exists;
use crate::mysql::row::get;

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
            Value::from(change.op.map_or("load", operation)),
            Value::from(change.position.as_ref()),
            Value::from(micros(change.committed_at)),
            Value::from(&change.error),
            Value::from(list(&change.key)?),
            Value::from(list(&change.row)?),
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
    let op = match get::<String>(row, 4)?.as_str() {
        "insert" => Some(Op::Insert),
        "update" => Some(Op::Update),
        "delete" => Some(Op::Delete),
        _ => None,
    };
    let change = Quarantined {
        table: TableId::new(get::<String>(row, 2)?, get::<String>(row, 3)?),
        op,
        position: get(row, 5)?,
        committed_at: time(get(row, 6)?),
        error: get(row, 7)?,
        key: values(&get::<String>(row, 8)?)?,
        row: values(&get::<String>(row, 9)?)?,
    };
    let since = time(get(row, 1)?).unwrap_or(std::time::SystemTime::UNIX_EPOCH);
    Ok(QuarantineEntry { number: get(row, 0)?, since, change })
}

fn values(text: &str) -> Result<Vec<QuarantinedValue>> {
    serde_json::from_str(text).map_err(|e| Error::fatal("trem.quarantine has a row that nothing here wrote").cause(e))
}

fn operation(op: Op) -> &'static str {
    match op {
        Op::Insert => "insert",
        Op::Update => "update",
        Op::Delete => "delete",
    }
}

fn list(values: &[QuarantinedValue]) -> Result<String> {
    serde_json::to_string(values).map_err(|e| Error::fatal("internal: a row that is set aside").cause(e))
}
