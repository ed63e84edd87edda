//! What the source, its snapshots and its streams share.

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use tokio::sync::Mutex;
use trem_engine::{Error, Result};

use super::place::Place;
use crate::mysql::binlog::gtid::Gtids;
use crate::mysql::config::MyConfig;
use crate::mysql::connect::{Flavor, Session};
use crate::mysql::error::error;
use crate::mysql::quote;
use crate::mysql::row::get;

pub(super) struct Inner {
    pub(super) config: MyConfig,
    pub(super) task: String,
    pub(super) application: String,
    idle: Mutex<Option<Session>>,
}

impl Inner {
    pub(super) fn new(config: MyConfig, task: &str) -> Self {
        Self { config, task: task.to_owned(), application: format!("trem {task}"), idle: Mutex::new(None) }
    }

    /// A session of its own.
    pub(super) async fn open(&self) -> Result<Session> {
        let session = self.config.connect(&self.application).await?;
        match session.flavor {
            Flavor::MariaDb => Ok(session),
            Flavor::MySql => Err(Error::refused(format!("the source is MySQL {}", session.version))
                .remedy("this version of trem reads from MariaDB alone")),
        }
    }

    /// A session that is given back afterwards, unless something failed in it.
    pub(super) async fn session(&self) -> Result<Session> {
        let idle = self.idle.lock().await.take();
        if let Some(mut session) = idle
            && session.conn.ping().await.is_ok()
        {
            return Ok(session);
        }
        self.open().await
    }

    pub(super) async fn give_back(&self, session: Session) {
        *self.idle.lock().await = Some(session);
    }

    /// Rows of one statement.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Row>> {
        let mut session = self.session().await?;
        let rows = session.conn.query(sql).await.map_err(error)?;
        self.give_back(session).await;
        Ok(rows)
    }

    /// The end of the log.
    pub(super) async fn current(&self) -> Result<Place> {
        let mut session = self.session().await?;
        let place = here(&mut session).await?;
        self.give_back(session).await;
        Ok(place)
    }
}

/// The end of the log. (MariaDB knowledge base, `SHOW BINLOG STATUS`.)
pub(super) async fn here(session: &mut Session) -> Result<Place> {
    let status: Option<Row> = session.conn.query_first("SHOW MASTER STATUS").await.map_err(error)?;
    let status = status.ok_or_else(no_log)?;
    at(session, get(&status, 0)?, get(&status, 1)?).await
}

pub(super) fn no_log() -> Error {
    Error::refused("the source writes no binary log")
        .remedy("start it with log_bin, binlog_format = ROW and binlog_row_metadata = FULL")
}

/// What a place of a file is behind.
pub(super) async fn at(session: &mut Session, file: String, offset: u64) -> Result<Place> {
    let sql = format!("SELECT BINLOG_GTID_POS({}, {offset})", quote::literal(&file));
    let gtids: Option<Option<String>> = session.conn.query_first(sql).await.map_err(error)?;
    let gtids =
        gtids.flatten().ok_or_else(|| Error::fatal(format!("{file}:{offset} is no place in the source's log")))?;
    Ok(Place { gtids: Gtids::parse(&gtids)?, file, offset })
}
