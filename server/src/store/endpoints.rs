//! Endpoints. What they are is sealed, as a password may stand anywhere in it; what may be seen of it is beside it.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

use super::audit::{By, note};
use super::{Result, Store, StoreError, now};

/// An endpoint as it is stored.
#[derive(Clone, Debug)]
pub struct StoredEndpoint {
    /// Its name.
    pub name: String,
    /// What it is, secrets hidden.
    pub shown: Value,
    /// Counts its changes, from 1.
    pub revision: i64,
    /// When it was last changed.
    pub changed_at: String,
}

impl Store {
    /// All of them, by name.
    pub fn endpoints(&self) -> Result<Vec<StoredEndpoint>> {
        self.read(|c| {
            let mut sql = c.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            Ok(sql.query_map([], stored)?.collect::<Result<_, _>>()?)
        })
    }

    /// One of them.
    pub fn endpoint(&self, name: &str) -> Result<Option<StoredEndpoint>> {
        self.read(|c| find(c, name))
    }

    /// What it is, secrets included.
    pub fn endpoint_spec(&self, name: &str) -> Result<Option<Map<String, Value>>> {
        let sql = "SELECT sealed FROM endpoint WHERE name = ?1";
        let sealed: Option<Vec<u8>> = self.read(|c| Ok(c.query_row(sql, [name], |row| row.get(0)).optional()?))?;
        let Some(sealed) = sealed else { return Ok(None) };
        let opened = self.key.open(name, &sealed).and_then(|text| serde_json::from_slice(&text).ok());
        let broken =
            || StoreError::Unusable(format!("what is stored of endpoint {name} cannot be opened: put it anew"));
        opened.map(Some).ok_or_else(broken)
    }

    /// Writes one down. `expected`: the revision that it is to replace; 0 where there must be none. What is as it was
    /// is no new revision.
    pub fn put_endpoint(
        &self,
        name: &str,
        spec: &Map<String, Value>,
        shown: &Value,
        expected: Option<i64>,
        by: By<'_>,
    ) -> Result<StoredEndpoint> {
        let sealed = self.key.seal(name, Value::Object(spec.clone()).to_string().as_bytes())?;
        let known = self.endpoint_spec(name).ok().flatten();
        self.write(|c| {
            let stored = find(c, name)?;
            let before = stored.as_ref().map_or(0, |e| e.revision);
            if expected.is_some_and(|expected| expected != before) {
                return Err(StoreError::Changed);
            }
            if let Some(same) = stored.as_ref().filter(|_| known.as_ref() == Some(spec)) {
                return Ok(same.clone());
            }
            note(c, by, &stored.map_or(Value::Null, |e| e.shown), shown)?;
            c.execute(
                "INSERT INTO endpoint VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO UPDATE SET \
                 sealed = excluded.sealed, shown = excluded.shown, revision = excluded.revision, \
                 changed_at = excluded.changed_at",
                params![name, sealed, shown.to_string(), before + 1, now()],
            )?;
            find(c, name)?.ok_or(StoreError::Changed)
        })
    }

    /// Forgets one; whether there was one.
    pub fn delete_endpoint(&self, name: &str, by: By<'_>) -> Result<bool> {
        self.write(|c| {
            let Some(before) = find(c, name)? else { return Ok(false) };
            note(c, by, &before.shown, &Value::Null)?;
            Ok(c.execute("DELETE FROM endpoint WHERE name = ?1", [name])? > 0)
        })
    }
}

const SELECT: &str = "SELECT name, shown, revision, changed_at FROM endpoint";

fn find(c: &Connection, name: &str) -> Result<Option<StoredEndpoint>> {
    let mut sql = c.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
    Ok(sql.query_row([name], stored).optional()?)
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredEndpoint> {
    let shown: String = row.get(1)?;
    let shown = serde_json::from_str(&shown).unwrap_or_default();
    Ok(StoredEndpoint { name: row.get(0)?, shown, revision: row.get(2)?, changed_at: row.get(3)? })
}
