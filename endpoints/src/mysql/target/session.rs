//! A connection that writes.

use std::collections::HashSet;

use mysql_async::prelude::{AsQuery, Queryable};
use mysql_async::{Conn, Row};
use trem_engine::schema::TableId;
use trem_engine::{Error, Result};

use crate::mysql::config::MyConfig;
use crate::mysql::counterpart::Target;
use crate::mysql::error;
use crate::mysql::row::get;

/// Bytes of statements that are sent at a time, where the server takes so many.
const PACKET: usize = 1 << 20;

/// What sessions that write want beyond what all have: foreign keys have done their work at the source already, and
/// locks between rows are of no use.
const SETTINGS: [&str; 2] =
    ["SET SESSION foreign_key_checks = 0, unique_checks = 1", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"];

/// A connection that writes.
pub(super) struct Session {
    pub(super) conn: Conn,
    /// What the server has.
    pub(super) server: Target,
    /// Bytes of statements that may be sent at a time.
    pub(super) packet: usize,
    /// Bytes of a statement that the server takes at most.
    pub(super) most: usize,
    /// LOAD DATA LOCAL is allowed.
    pub(super) local_infile: bool,
    /// A commit is on the server's disk when it is answered.
    pub(super) durable: bool,
    /// Names of databases and tables are kept in lower case, or compared so.
    pub(super) folds: bool,
    /// A first column of type TIMESTAMP would be changed by every update.
    pub(super) odd_timestamps: bool,
}

impl Session {
    /// Connects.
    pub(super) async fn open(config: &MyConfig, application: &str) -> Result<Self> {
        let session = config.connect(application).await?;
        let mut conn = session.conn;
        let server = Target::of(session.flavor, &session.version, collations(&mut conn).await?);
        let sql = "SELECT @@max_allowed_packet, @@local_infile, @@innodb_flush_log_at_trx_commit, \
                   @@explicit_defaults_for_timestamp, @@lower_case_table_names";
        let row: Option<Row> = conn.query_first(sql).await.map_err(error::error)?;
        let row = row.ok_or_else(|| Error::fatal("the server does not say its settings"))?;
        let most = usize::try_from(get::<u64>(&row, 0)?).unwrap_or(PACKET);
        for sql in SETTINGS {
            conn.query_drop(sql).await.map_err(error::error)?;
        }
        Ok(Self {
            conn,
            server,
            packet: PACKET.min(most / 2),
            most,
            local_infile: get::<i64>(&row, 1)? == 1,
            durable: get::<i64>(&row, 2)? == 1,
            folds: get::<i64>(&row, 4)? != 0,
            odd_timestamps: get::<i64>(&row, 3)? == 0,
        })
    }

    /// Which of these tables the server means by this name.
    pub(super) fn meant<'a>(&self, ids: &[&'a TableId], schema: &str, table: &str) -> Option<&'a TableId> {
        let same = |a: &str, b: &str| a == b || (self.folds && a.to_lowercase() == b.to_lowercase());
        ids.iter().find(|id| same(&id.schema, schema) && same(&id.table, table)).copied()
    }

    /// Runs a statement; how many rows it has changed.
    pub(super) async fn execute(&mut self, sql: impl AsQuery + 'static) -> Result<u64> {
        self.conn.query_drop(sql).await.map_err(error::error)?;
        Ok(self.conn.affected_rows())
    }

    /// Runs a statement with parameters; how many rows it has changed.
    pub(super) async fn execute_with(&mut self, sql: &str, parameters: Vec<mysql_async::Value>) -> Result<u64> {
        self.conn.exec_drop(sql, parameters).await.map_err(error::error)?;
        Ok(self.conn.affected_rows())
    }

    /// Rows that the last statement has met, whether it has changed them or not.
    pub(super) fn matched(&self) -> u64 {
        told(&self.conn.info(), "Rows matched: ")
    }

    /// The rows of an answer.
    pub(super) async fn rows(&mut self, sql: &str, parameters: Vec<mysql_async::Value>) -> Result<Vec<Row>> {
        self.conn.exec(sql, parameters).await.map_err(error::error)
    }

    /// Takes a lock of the server's that has nothing to do with rows, or gives up after a while.
    pub(super) async fn lock(&mut self, name: &str) -> Result<()> {
        let rows = self.rows("SELECT coalesce(GET_LOCK(sha2(?, 256), 10), 0)", vec![name.into()]).await?;
        match rows.first().map(|row| get::<i64>(row, 0)).transpose()? {
            Some(1) => Ok(()),
            _ => Err(Error::transient("another task does the same at this moment, and takes its time")),
        }
    }

    /// Gives a lock back.
    pub(super) async fn unlock(&mut self, name: &str) -> Result<()> {
        self.rows("SELECT RELEASE_LOCK(sha2(?, 256))", vec![name.into()]).await.map(drop)
    }
}

/// The collations of a server. Since MariaDB 10.10 some have a name for each character set beside the one of all.
async fn collations(conn: &mut Conn) -> Result<HashSet<String>> {
    let sql = "SELECT collation_name FROM information_schema.collations";
    let full = "SELECT full_collation_name FROM information_schema.collation_character_set_applicability";
    let mut all: Vec<String> = conn.query(sql).await.map_err(error::error)?;
    // Others have no such column.
    all.extend(conn.query::<String, _>(full).await.unwrap_or_default());
    Ok(all.into_iter().collect())
}

/// A number that the server says of a statement. (MySQL manual, `mysql_info()`.)
pub(super) fn told(info: &str, label: &str) -> u64 {
    let rest = info.split_once(label).map_or("", |(_, rest)| rest);
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
