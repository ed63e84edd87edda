//! Runs of tasks: when each began and how it ended.

use rusqlite::{Row, params};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Result, Store, now};

/// A run of a task.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Run {
    /// Counts all runs of the daemon.
    pub id: i64,
    /// Of which revision of the task.
    pub revision: i64,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// `done`, `stopped`, `failed`, or `cut-off` if the daemon ended before it; none while it runs.
    pub outcome: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
    /// Rows loaded and committed.
    pub rows_loaded: i64,
    /// Changes that have taken effect.
    pub changes: i64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// In a word.
    pub outcome: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
    /// Rows loaded and committed.
    pub rows_loaded: u64,
    /// Changes that have taken effect.
    pub changes: u64,
}

impl Outcome {
    /// Of what could not even be begun.
    pub fn not_started(reason: String, remedy: Option<String>) -> Self {
        Self { outcome: "failed", reason: Some(reason), remedy, rows_loaded: 0, changes: 0 }
    }
}

/// Runs of a task that are kept.
const KEPT: i64 = 1000;

impl Store {
    /// A run begins; its number.
    pub fn begin_run(&self, task: &str, revision: i64) -> Result<i64> {
        self.write(|c| {
            let sql = "INSERT INTO run (task, revision, started_at) VALUES (?1, ?2, ?3)";
            c.execute(sql, params![task, revision, now()])?;
            let id = c.last_insert_rowid();
            let sql = "DELETE FROM run WHERE task = ?1 AND id <= (SELECT id FROM run WHERE task = ?1 ORDER BY id DESC \
                       LIMIT 1 OFFSET ?2)";
            c.execute(sql, params![task, KEPT])?;
            Ok(id)
        })
    }

    /// A run has ended.
    pub fn end_run(&self, id: i64, how: &Outcome) -> Result<()> {
        let sql = "UPDATE run SET ended_at = ?2, outcome = ?3, reason = ?4, remedy = ?5, rows_loaded = ?6, \
                   changes = ?7 WHERE id = ?1";
        let (rows, changes) = (how.rows_loaded as i64, how.changes as i64);
        self.write(|c| {
            c.execute(sql, params![id, now(), how.outcome, how.reason, how.remedy, rows, changes])?;
            Ok(())
        })
    }

    /// Runs that nobody has ended were cut off with the daemon that ran them.
    pub fn cut_off_runs(&self) -> Result<()> {
        let sql = "UPDATE run SET ended_at = ?1, outcome = 'cut-off' WHERE ended_at IS NULL";
        self.write(|c| {
            c.execute(sql, [now()])?;
            Ok(())
        })
    }

    /// The latest runs of a task, the latest first.
    pub fn runs(&self, task: &str, limit: u32) -> Result<Vec<Run>> {
        self.read(|c| {
            let sql = "SELECT id, revision, started_at, ended_at, outcome, reason, remedy, rows_loaded, changes \
                       FROM run WHERE task = ?1 ORDER BY id DESC LIMIT ?2";
            let mut sql = c.prepare_cached(sql)?;
            let one = |row: &Row<'_>| {
                Ok(Run {
                    id: row.get(0)?,
                    revision: row.get(1)?,
                    started_at: row.get(2)?,
                    ended_at: row.get(3)?,
                    outcome: row.get(4)?,
                    reason: row.get(5)?,
                    remedy: row.get(6)?,
                    rows_loaded: row.get(7)?,
                    changes: row.get(8)?,
                })
            };
            Ok(sql.query_map(params![task, limit], one)?.collect::<Result<_, _>>()?)
        })
    }
}
