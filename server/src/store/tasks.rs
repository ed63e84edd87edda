//! Tasks, what people want of them, and what they were before.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::audit::{By, note};
use super::{Result, Store, StoreError, now};

/// What is wanted of a task: what it does when the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// It runs.
    Running,
    /// It runs, and moves no rows.
    Paused,
    /// It does not run.
    Stopped,
}

impl Desired {
    const ALL: [(&'static str, Self); 3] =
        [("running", Self::Running), ("paused", Self::Paused), ("stopped", Self::Stopped)];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, d)| *d == self).map_or("stopped", |(word, _)| word)
    }

    fn of(word: &str) -> Self {
        Self::ALL.iter().find(|(w, _)| *w == word).map_or(Self::Stopped, |(_, d)| *d)
    }
}

/// A task as it is stored.
#[derive(Clone, Debug)]
pub struct StoredTask {
    /// Its name.
    pub name: String,
    /// What it is, with the keys of the file.
    pub spec: Map<String, Value>,
    /// Counts its changes, from 1.
    pub revision: i64,
    /// What is wanted of it.
    pub desired: Desired,
    /// When it was first put.
    pub created_at: String,
    /// When it was last changed.
    pub changed_at: String,
}

/// What a task was at one time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Revision {
    /// The number.
    pub revision: i64,
    /// What it was.
    #[schema(value_type = Object)]
    pub spec: Value,
    /// Who put it.
    pub who: String,
    /// When.
    pub at: String,
}

impl Store {
    /// All of them, by name.
    pub fn tasks(&self) -> Result<Vec<StoredTask>> {
        self.read(|c| {
            let mut sql = c.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            Ok(sql.query_map([], stored)?.collect::<Result<_, _>>()?)
        })
    }

    /// One of them.
    pub fn task(&self, name: &str) -> Result<Option<StoredTask>> {
        self.read(|c| find(c, name))
    }

    /// Writes one down. `expected`: the revision that it is to replace; 0 where there must be none. What is as it was
    /// is no new revision.
    pub fn put_task(
        &self,
        name: &str,
        spec: &Map<String, Value>,
        expected: Option<i64>,
        by: By<'_>,
    ) -> Result<StoredTask> {
        self.write(|c| {
            let before = find(c, name)?;
            let revision = before.as_ref().map_or(0, |t| t.revision);
            if expected.is_some_and(|expected| expected != revision) {
                return Err(StoreError::Changed);
            }
            if let Some(same) = before.as_ref().filter(|before| before.spec == *spec) {
                return Ok(same.clone());
            }
            // Numbers go on where a task of that name was before: nobody takes one for the other.
            let sql = "SELECT coalesce(max(revision), 0) FROM revision WHERE task = ?1";
            let last: i64 = c.query_row(sql, [name], |row| row.get(0))?;
            let (text, at) = (Value::Object(spec.clone()).to_string(), now());
            c.execute(
                "INSERT INTO task VALUES (?1, ?2, ?3, 'stopped', ?4, ?4) ON CONFLICT (name) DO UPDATE SET \
                 spec = excluded.spec, revision = excluded.revision, changed_at = excluded.changed_at",
                params![name, text, last + 1, at],
            )?;
            c.execute("INSERT INTO revision VALUES (?1, ?2, ?3, ?4, ?5)", params![name, last + 1, text, by.who, at])?;
            let before = before.map_or(Value::Null, |task| Value::Object(task.spec));
            note(c, by, &before, &Value::Object(spec.clone()))?;
            find(c, name)?.ok_or(StoreError::Changed)
        })
    }

    /// Says what is wanted of one; whether it is there. Without `by` nobody has asked for it.
    pub fn want(&self, name: &str, desired: Desired, by: Option<By<'_>>) -> Result<bool> {
        let sql = "UPDATE task SET desired = ?2 WHERE name = ?1";
        self.write(|c| {
            if let Some(by) = by {
                note(c, by, &Value::Null, &Value::Null)?;
            }
            Ok(c.execute(sql, [name, desired.word()])? > 0)
        })
    }

    /// Forgets one, but for its past; whether there was one.
    pub fn delete_task(&self, name: &str, by: By<'_>) -> Result<bool> {
        self.write(|c| {
            let Some(before) = find(c, name)? else { return Ok(false) };
            note(c, by, &Value::Object(before.spec), &Value::Null)?;
            Ok(c.execute("DELETE FROM task WHERE name = ?1", [name])? > 0)
        })
    }

    /// What one was, the latest first.
    pub fn revisions(&self, name: &str) -> Result<Vec<Revision>> {
        self.read(|c| {
            let sql = "SELECT revision, spec, who, at FROM revision WHERE task = ?1 ORDER BY revision DESC";
            let mut sql = c.prepare_cached(sql)?;
            let one = |row: &Row<'_>| {
                let spec: String = row.get(1)?;
                let spec = serde_json::from_str(&spec).unwrap_or_default();
                Ok(Revision { revision: row.get(0)?, spec, who: row.get(2)?, at: row.get(3)? })
            };
            Ok(sql.query_map([name], one)?.collect::<Result<_, _>>()?)
        })
    }
}

const SELECT: &str = "SELECT name, spec, revision, desired, created_at, changed_at FROM task";

fn find(c: &Connection, name: &str) -> Result<Option<StoredTask>> {
    let mut sql = c.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
    Ok(sql.query_row([name], stored).optional()?)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredTask> {
    let (spec, desired): (String, String) = (row.get(1)?, row.get(3)?);
    Ok(StoredTask {
        name: row.get(0)?,
        spec: serde_json::from_str(&spec).unwrap_or_default(),
        revision: row.get(2)?,
        desired: Desired::of(&desired),
        created_at: row.get(4)?,
        changed_at: row.get(5)?,
    })
}
