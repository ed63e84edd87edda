//! What has happened, in order, for whoever watches.

use rusqlite::{Row, params};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Result, Store, now};

/// Something that has happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    /// Counts all events of the daemon: whoever has missed some asks for those after the last one seen.
    pub id: i64,
    /// When.
    pub at: String,
    /// To which task, if to one.
    pub task: Option<String>,
    /// What kind of event, such as `task-state`.
    pub kind: String,
    /// What is to be known of it.
    #[schema(value_type = Object)]
    pub data: Value,
}

/// Events that are kept.
const KEPT: i64 = 10_000;

impl Store {
    /// Writes one down.
    pub fn add_event(&self, task: Option<&str>, kind: &str, data: Value) -> Result<Event> {
        let at = now();
        let id = self.write(|c| {
            let sql = "INSERT INTO event (at, task, kind, data) VALUES (?1, ?2, ?3, ?4)";
            c.prepare_cached(sql)?.execute(params![at, task, kind, data.to_string()])?;
            let id = c.last_insert_rowid();
            c.prepare_cached("DELETE FROM event WHERE id <= ?1")?.execute([id - KEPT])?;
            Ok(id)
        })?;
        Ok(Event { id, at, task: task.map(str::to_owned), kind: kind.to_owned(), data })
    }

    /// The latest event's number; 0 before the first.
    pub fn last_event(&self) -> Result<i64> {
        let sql = "SELECT coalesce(max(id), 0) FROM event";
        self.read(|c| Ok(c.query_row(sql, [], |row| row.get(0))?))
    }

    /// Events after that one, in order, of all tasks or of one.
    pub fn events_after(&self, id: i64, task: Option<&str>, limit: u32) -> Result<Vec<Event>> {
        self.read(|c| {
            let sql = "SELECT id, at, task, kind, data FROM event WHERE id > ?1 AND (?2 IS NULL OR task = ?2) \
                       ORDER BY id LIMIT ?3";
            let mut sql = c.prepare_cached(sql)?;
            let one = |row: &Row<'_>| {
                let data: String = row.get(4)?;
                let data = serde_json::from_str(&data).unwrap_or_default();
                Ok(Event { id: row.get(0)?, at: row.get(1)?, task: row.get(2)?, kind: row.get(3)?, data })
            };
            Ok(sql.query_map(params![id, task, limit], one)?.collect::<Result<_, _>>()?)
        })
    }
}
