//! Rules that several tasks use.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

use super::audit::{By, note};
use super::{Result, Store, StoreError, now};

/// A set of rules as it is stored.
#[derive(Clone, Debug)]
pub struct StoredRuleSet {
    /// Its name.
    pub name: String,
    /// What it is, with the keys of the file.
    pub spec: Map<String, Value>,
    /// Counts its changes, from 1.
    pub revision: i64,
    /// When it was last changed.
    pub changed_at: String,
}

const SELECT: &str = "SELECT name, spec, revision, changed_at FROM rule_set";

impl Store {
    /// All of them, by name.
    pub fn rule_sets(&self) -> Result<Vec<StoredRuleSet>> {
        self.read(|c| {
            let mut sql = c.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            Ok(sql.query_map([], stored)?.collect::<Result<_, _>>()?)
        })
    }

    /// One of them.
    pub fn rule_set(&self, name: &str) -> Result<Option<StoredRuleSet>> {
        self.read(|c| find(c, name))
    }

    /// Writes one down. `expected`: the revision that it is to replace; 0 where there must be none. What is as it was
    /// is no new revision.
    pub fn put_rule_set(
        &self,
        name: &str,
        spec: &Map<String, Value>,
        expected: Option<i64>,
        by: By<'_>,
    ) -> Result<StoredRuleSet> {
        self.write(|c| {
            let before = find(c, name)?;
            let revision = before.as_ref().map_or(0, |set| set.revision);
            if expected.is_some_and(|expected| expected != revision) {
                return Err(StoreError::Changed);
            }
            if let Some(same) = before.as_ref().filter(|before| before.spec == *spec) {
                return Ok(same.clone());
            }
            let before = before.map_or(Value::Null, |set| Value::Object(set.spec));
            note(c, by, &before, &Value::Object(spec.clone()))?;
            c.execute(
                "INSERT INTO rule_set VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, \
                 revision = excluded.revision, changed_at = excluded.changed_at",
                params![name, Value::Object(spec.clone()).to_string(), revision + 1, now()],
            )?;
            find(c, name)?.ok_or(StoreError::Changed)
        })
    }

    /// Forgets one; whether there was one.
    pub fn delete_rule_set(&self, name: &str, by: By<'_>) -> Result<bool> {
        self.write(|c| {
            let Some(before) = find(c, name)? else { return Ok(false) };
            note(c, by, &Value::Object(before.spec), &Value::Null)?;
            Ok(c.execute("DELETE FROM rule_set WHERE name = ?1", [name])? > 0)
        })
    }
}

fn find(c: &Connection, name: &str) -> Result<Option<StoredRuleSet>> {
    let mut sql = c.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
    Ok(sql.query_row([name], stored).optional()?)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredRuleSet> {
    let spec: String = row.get(1)?;
    let spec = serde_json::from_str(&spec).unwrap_or_default();
    Ok(StoredRuleSet { name: row.get(0)?, spec, revision: row.get(2)?, changed_at: row.get(3)? })
}
