//! Answers to requests that brought a key, for who sends them again without knowing whether they came through.

use rusqlite::{OptionalExtension, Row, params};

use super::{Result, Store, now};

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// A hash of what was asked.
    pub request: Vec<u8>,
    /// The HTTP status.
    pub status: u16,
    /// The type of the body.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Answers that are kept.
const KEPT: i64 = 10_000;

impl Store {
    /// What was answered to whom under this key.
    pub fn answer(&self, who: &str, key: &str) -> Result<Option<Answer>> {
        let sql = "SELECT request, status, content_type, body FROM answer WHERE who = ?1 AND key = ?2";
        let one = |row: &Row<'_>| {
            Ok(Answer { request: row.get(0)?, status: row.get(1)?, content_type: row.get(2)?, body: row.get(3)? })
        };
        self.read(|c| Ok(c.prepare_cached(sql)?.query_row([who, key], one).optional()?))
    }

    /// Keeps an answer. A first one stays.
    pub fn keep_answer(&self, who: &str, key: &str, answer: &Answer) -> Result<()> {
        self.write(|c| {
            let sql = "INSERT INTO answer (at, who, key, request, status, content_type, body) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
            let Answer { request, status, content_type, body } = answer;
            c.prepare_cached(sql)?.execute(params![now(), who, key, request, status, content_type, body])?;
            c.prepare_cached("DELETE FROM answer WHERE id <= ?1")?.execute([c.last_insert_rowid() - KEPT])?;
            Ok(())
        })
    }
}
