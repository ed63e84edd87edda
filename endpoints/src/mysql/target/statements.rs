//! Statements on their way to the server: several in one packet, each with what it must have done.

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use trem_engine::schema::TableId;
use trem_engine::{Class, Error, Result};

use super::session::{Session, told};
use crate::mysql::error;
use crate::mysql::row::get;

/// What a statement has done.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    /// Rows changed; an upsert counts those twice that it meets and changes.
    pub(super) affected: u64,
    /// What else the server says of it.
    info: String,
}

impl Done {
    /// Rows that an upsert of so many has put in, and not met.
    pub(super) fn put_in(&self, rows: u64) -> u64 {
        if rows == 1 {
            return u64::from(self.affected == 1);
        }
        self.affected.saturating_sub(2 * told(&self.info, "Duplicates: "))
    }

    /// Rows that an update has met, whether it has changed them or not.
    pub(super) fn matched(&self) -> u64 {
        told(&self.info, "Rows matched: ")
    }
}

/// Runs statements that were put together, separated by semicolons; what each has done. With the error of one of them
/// comes its place.
pub(super) async fn run(session: &mut Session, sql: &[u8]) -> std::result::Result<Vec<Done>, (usize, Error)> {
    let mut all = Vec::new();
    let mut result = session.conn.query_iter(sql).await.map_err(|e| (0, error::error(e)))?;
    loop {
        if result.warnings() > 0 {
            let at = all.len();
            drop(result);
            return Err((at, warned(session).await));
        }
        all.push(Done { affected: result.affected_rows(), info: result.info().into_owned() });
        if result.is_empty() {
            return Ok(all);
        }
        result.for_each(drop).await.map_err(|e| (all.len(), error::error(e)))?;
    }
}

/// A value that does not fit is an error, whatever the server makes of it.
pub(super) async fn warned(session: &mut Session) -> Error {
    let told: std::result::Result<Vec<Row>, _> = session.conn.query("SHOW WARNINGS").await;
    let first = told.ok().and_then(|rows| {
        let row = rows.first()?;
        Some(format!("{} ({})", get::<String>(row, 2).ok()?, get::<u64>(row, 1).ok()?))
    });
    let what = first.unwrap_or_else(|| "the server has warned, and does not say of what".to_owned());
    Error::new(Class::Table, format!("a value would not be stored as it is: {what}"))
        .remedy("let the target's column hold what the source's does")
}

/// What a statement was for.
#[derive(Clone, Debug)]
pub(super) struct Purpose<T> {
    pub(super) table: TableId,
    pub(super) what: T,
    /// How many rows it is about.
    pub(super) rows: u64,
}

/// Statements that wait to be sent.
#[derive(Debug)]
pub(super) struct Pending<T> {
    sql: Vec<u8>,
    purposes: Vec<Purpose<T>>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { sql: Vec::new(), purposes: Vec::new() }
    }
}

impl<T> Pending<T> {
    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.sql.len()
    }

    /// Puts a statement behind the others.
    pub(super) fn push(&mut self, sql: &[u8], purpose: Purpose<T>) {
        if !self.sql.is_empty() {
            self.sql.extend_from_slice(b";\n");
        }
        self.sql.extend_from_slice(sql);
        self.purposes.push(purpose);
    }

    /// Sends all; each purpose with what has been done for it.
    pub(super) async fn send(&mut self, session: &mut Session) -> Result<Vec<(Purpose<T>, Done)>> {
        let (sql, purposes) = (std::mem::take(&mut self.sql), std::mem::take(&mut self.purposes));
        if purposes.is_empty() {
            return Ok(Vec::new());
        }
        match run(session, &sql).await {
            Ok(done) if done.len() == purposes.len() => Ok(purposes.into_iter().zip(done).collect()),
            Ok(_) => Err(Error::fatal("internal: as many answers as statements")),
            Err((at, error)) => Err(match purposes.get(at) {
                Some(purpose) => error.target_table(&purpose.table),
                None => error,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_tells_what_was_met() {
        let done = |affected, info: &str| Done { affected, info: info.to_owned() };
        assert_eq!(done(1, "").put_in(1), 1);
        assert_eq!((done(2, "").put_in(1), done(0, "").put_in(1)), (0, 0));
        assert_eq!(done(5, "Records: 4  Duplicates: 1  Warnings: 0").put_in(4), 3);
        assert_eq!(done(0, "Rows matched: 12  Changed: 0  Warnings: 0").matched(), 12);
        assert_eq!(done(3, "").matched(), 0);
    }
}
