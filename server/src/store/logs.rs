//! The last log lines of each task.

use rusqlite::{Row, params};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Result, Store};

/// A log line of a task.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Line {
    /// Counts all lines of the daemon.
    pub id: i64,
    /// When.
    pub at: String,
    /// Of which task.
    pub task: String,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// What was said.
    pub message: String,
    /// What was said with it, by name.
    #[schema(value_type = Object)]
    pub fields: Value,
}

/// Lines of each task that are kept.
const KEPT: i64 = 2000;

impl Store {
    /// Writes lines down; their numbers are given here.
    pub fn add_lines(&self, lines: &[Line]) -> Result<()> {
        self.write(|c| {
            let sql = "INSERT INTO log (at, task, level, message, fields) VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut insert = c.prepare_cached(sql)?;
            for line in lines {
                insert.execute(params![line.at, line.task, line.level, line.message, line.fields.to_string()])?;
            }
            let sql = "DELETE FROM log WHERE task = ?1 AND id <= (SELECT id FROM log WHERE task = ?1 \
                       ORDER BY id DESC LIMIT 1 OFFSET ?2)";
            let mut prune = c.prepare_cached(sql)?;
            let mut tasks: Vec<&str> = lines.iter().map(|line| line.task.as_str()).collect();
            tasks.sort_unstable();
            tasks.dedup();
            for task in tasks {
                prune.execute(params![task, KEPT])?;
            }
            Ok(())
        })
    }

    /// The last lines of a task, in order.
    pub fn lines(&self, task: &str, limit: u32) -> Result<Vec<Line>> {
        self.read(|c| {
            let sql = "SELECT id, at, task, level, message, fields FROM log WHERE task = ?1 ORDER BY id DESC LIMIT ?2";
            let mut sql = c.prepare_cached(sql)?;
            let one = |row: &Row<'_>| {
                let fields: String = row.get(5)?;
                Ok(Line {
                    id: row.get(0)?,
                    at: row.get(1)?,
                    task: row.get(2)?,
                    level: row.get(3)?,
                    message: row.get(4)?,
                    fields: serde_json::from_str(&fields).unwrap_or_default(),
                })
            };
            let mut lines: Vec<Line> = sql.query_map(params![task, limit], one)?.collect::<Result<_, _>>()?;
            lines.reverse();
            Ok(lines)
        })
    }
}
