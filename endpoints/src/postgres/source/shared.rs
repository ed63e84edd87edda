//! What the source, its snapshots and its streams share: the connection, names, and what was learnt of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;
use tokio_postgres::{Client, Row};
use trem_engine::position::Lineage;
use trem_engine::{Error, Result};

use super::lsn;
use crate::postgres::config::PgConfig;
use crate::postgres::row::get;
use crate::postgres::sqlstate;
use crate::postgres::wire::Conn;

/// What the source, its snapshots and its streams share.
pub(super) struct Inner {
    pub(super) config: PgConfig,
    pub(super) task: String,
    /// The slot's name, and the publication's.
    pub(super) name: String,
    pub(super) application: String,
    client: Mutex<Option<Arc<Client>>>,
    /// A column without binary decoder was met in a binary stream: from then on streams are text.
    force_text: AtomicBool,
    /// Catching up in chunks has failed once: from then on backlogs are streamed.
    pub(super) stream_only: AtomicBool,
    /// Two sessions at a time have failed to read chunks.
    pub(super) one_session: AtomicBool,
}

/// The history that positions belong to, as the server is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    pub(super) system: String,
    pub(super) database: u32,
    pub(super) timeline: u32,
}

impl History {
    pub(super) fn lineage(&self) -> Lineage {
        Lineage(format!("system {} database {} timeline {}", self.system, self.database, self.timeline))
    }

    pub(super) fn parse(lineage: &Lineage) -> Result<Self> {
        let words: Vec<&str> = lineage.0.split(' ').collect();
        let parsed = match words[..] {
            ["system", system, "database", database, "timeline", timeline] => database
                .parse()
                .ok()
                .zip(timeline.parse().ok())
                .map(|(database, timeline)| Self { system: system.to_owned(), database, timeline }),
            _ => None,
        };
        parsed.ok_or_else(|| {
            Error::lineage(format!("the recorded lineage `{lineage}` is not one of a PostgreSQL database"))
        })
    }
}

impl Inner {
    /// Of this task, whose slot and publication have this name; nothing is connected yet.
    pub(super) fn new(config: PgConfig, task: &str, name: String) -> Self {
        Self {
            config,
            name,
            application: format!("trem {task}"),
            task: task.to_owned(),
            client: Mutex::new(None),
            force_text: AtomicBool::new(false),
            stream_only: AtomicBool::new(false),
            one_session: AtomicBool::new(false),
        }
    }

    /// A connection for ordinary SQL, shared while it lives.
    pub(super) async fn client(&self) -> Result<Arc<Client>> {
        let mut held = self.client.lock().await;
        match held.as_ref() {
            Some(client) if !client.is_closed() => Ok(Arc::clone(client)),
            _ => {
                let client = Arc::new(self.writing().await?);
                *held = Some(Arc::clone(&client));
                Ok(client)
            }
        }
    }

    /// A connection of its own that may write: a publication, to the catalogue alone. At a target the setting holds: it
    /// is how a server that runs out of disk, or its operator, keeps everybody from writing.
    pub(super) async fn writing(&self) -> Result<Client> {
        let client = self.config.connect(&self.application).await?;
        client.batch_execute("SET default_transaction_read_only TO off").await.map_err(sqlstate::error)?;
        Ok(client)
    }

    /// A name for a temporary slot beside the task's own; a slot's name has at most 63 characters.
    pub(super) fn temporary_slot(&self) -> String {
        format!("{:.54}_{:08x}", self.name, rand::random::<u32>())
    }

    /// A connection that reads the log.
    pub(super) async fn replication(&self) -> Result<Conn> {
        Conn::connect(&self.config, &self.application, true).await
    }

    /// A connection that hands out COPY data.
    pub(super) async fn copying(&self) -> Result<Conn> {
        Conn::connect(&self.config, &self.application, false).await
    }

    pub(super) async fn one(&self, sql: &str) -> Result<Row> {
        self.client().await?.query_one(sql, &[]).await.map_err(sqlstate::error)
    }

    pub(super) async fn history(&self) -> Result<History> {
        // Unlike pg_control_checkpoint, this knows the timeline of a server promoted a moment ago.
        let identify = async { self.replication().await?.query("IDENTIFY_SYSTEM").await };
        let database = self.one("SELECT oid FROM pg_database WHERE datname = current_database()");
        let (rows, database) = tokio::try_join!(identify, database)?;
        let mut fields = rows.into_iter().next().unwrap_or_default().into_iter();
        let system = fields.next().flatten();
        let timeline = fields.next().flatten().and_then(|t| t.parse().ok());
        match (system, timeline) {
            (Some(system), Some(timeline)) => Ok(History { system, database: get(&database, 0)?, timeline }),
            _ => Err(Error::fatal("the server did not identify itself (IDENTIFY_SYSTEM)")),
        }
    }

    /// Everything committed so far lies before it, and a reader of the log gets there.
    pub(super) async fn current(&self) -> Result<u64> {
        let sql = format!(
            "SELECT {}, {}, current_setting('wal_block_size'), \
             pg_size_bytes(current_setting('wal_segment_size'))::text",
            lsn::now("pg_current_wal_insert_lsn"),
            lsn::now("pg_current_wal_flush_lsn")
        );
        let row = self.one(&sql).await?;
        let number = |text: String| text.parse::<u64>().ok().filter(|n| *n > 0).unwrap_or(8192);
        let (page, segment) = (number(get(&row, 2)?), number(get(&row, 3)?));
        let insert = lsn::reachable(lsn::parse(get(&row, 0)?)?, page, segment);
        if lsn::parse(get(&row, 1)?)? < insert {
            // Asynchronous commits may lie unflushed for a while; an empty commit takes them along to the disk.
            let nudge = "SELECT pg_logical_emit_message(true, 'trem', '')";
            if let Err(e) = self.client().await?.batch_execute(nudge).await {
                tracing::debug!(error = %e, "could not hurry the log's flush");
            }
        }
        Ok(insert)
    }

    /// Whether streams are text.
    pub(super) fn force_text(&self) -> bool {
        self.force_text.load(Ordering::Relaxed)
    }

    /// From now on streams are text.
    pub(super) fn set_force_text(&self) {
        self.force_text.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lineages_read_back() {
        let history = History { system: "7300".to_owned(), database: 5, timeline: 2 };
        assert_eq!(History::parse(&history.lineage()).unwrap(), history);
        assert!(History::parse(&Lineage("mysql".to_owned())).is_err());
    }
}
