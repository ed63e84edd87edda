//! Who has changed what.

use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Result, Store, now};

/// A change that somebody has made, without secrets.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Counts all changes.
    pub id: i64,
    /// When.
    pub at: String,
    /// Whose token.
    pub who: String,
    /// What was done, such as `put` or `start`.
    pub action: String,
    /// To what, such as `task shop`.
    pub object: String,
    /// What was there before.
    #[schema(value_type = Value)]
    pub before: Value,
    /// What is there now.
    #[schema(value_type = Value)]
    pub after: Value,
}

/// Who does what to what: written down in the transaction that does it, or before it is done.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// Whose token.
    pub who: &'a str,
    /// What is done, such as `put` or `start`.
    pub action: &'a str,
    /// What kind of thing it is done to, and its name.
    pub object: (&'a str, &'a str),
}

/// Writes it down, in the transaction at hand.
pub(super) fn note(c: &Connection, by: By<'_>, before: &Value, after: &Value) -> Result<()> {
    let sql = "INSERT INTO audit (at, who, action, object, before, after) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let By { who, action, object: (kind, name) } = by;
    let object = format!("{kind} {name}");
    c.execute(sql, params![now(), who, action, object, before.to_string(), after.to_string()])?;
    Ok(())
}

impl Store {
    /// Writes down what is about to be done, and is not in this file.
    pub fn audit(&self, by: By<'_>, before: &Value, after: &Value) -> Result<()> {
        self.write(|c| note(c, by, before, after))
    }

    /// The latest, the latest first.
    pub fn audited(&self, limit: u32) -> Result<Vec<Entry>> {
        self.read(|c| {
            let sql = "SELECT id, at, who, action, object, before, after FROM audit ORDER BY id DESC LIMIT ?1";
            let mut sql = c.prepare_cached(sql)?;
            let value = |text: Option<String>| text.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
            let one = |row: &Row<'_>| {
                Ok(Entry {
                    id: row.get(0)?,
                    at: row.get(1)?,
                    who: row.get(2)?,
                    action: row.get(3)?,
                    object: row.get(4)?,
                    before: value(row.get(5)?),
                    after: value(row.get(6)?),
                })
            };
            Ok(sql.query_map([limit], one)?.collect::<Result<_, _>>()?)
        })
    }
}
