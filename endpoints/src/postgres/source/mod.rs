//! PostgreSQL as a source: snapshots by COPY, changes by logical replication.

mod ask;
mod assemble;
#[cfg(feature = "bench")]
pub mod bench;
mod catchup;
mod check;
mod chunks;
mod image;
mod loaded;
mod lsn;
mod read;
mod relation;
mod seen;
mod setup;
mod snapshot;
mod stream;

mod walsender;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Row};
use trem_engine::ports::{ChangeStream, Finding, Lag, Snapshot, SnapshotKind, Source, StreamRequest};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::schema::{Catalog, TableId, TableSchema};
use trem_engine::task::Selection;
use trem_engine::{Error, Result};

use super::catalog::{self, get};
use super::config::PgConfig;
use super::connect::database_identity;
use super::sqlstate;
use super::wire::Conn;

/// A PostgreSQL database that one task reads from.
pub struct PostgresSource {
    inner: Arc<Inner>,
}

/// What the source, its snapshots and its streams share.
struct Inner {
    config: PgConfig,
    task: String,
    /// The slot's name, and the publication's.
    name: String,
    application: String,
    client: Mutex<Option<Arc<Client>>>,
    /// A column without binary decoder was met in a binary stream: from then on streams are text.
    force_text: AtomicBool,
    /// Catching up in chunks has failed once: from then on backlogs are streamed.
    stream_only: AtomicBool,
    /// Two sessions at a time have failed to read chunks.
    one_session: AtomicBool,
    /// What the catalogue said of the tables when their rows were last known to be followed.
    marks: watch::Marks,
}

impl fmt::Debug for PostgresSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresSource({}, {})", self.inner.task, self.inner.config.describe())
    }
}

impl PostgresSource {
    /// The source of `task`; connects when it is first asked something.
    pub fn new(config: PgConfig, task: &str) -> Self {
        let mut name = object_name(task);
        name.truncate(LONGEST_NAME);
        Self {
            inner: Arc::new(Inner {
                config,
                name,
                application: format!("trem {task}"),
                task: task.to_owned(),
                client: Mutex::new(None),
                force_text: AtomicBool::new(false),
                stream_only: AtomicBool::new(false),
                one_session: AtomicBool::new(false),
                marks: watch::Marks::default(),
            }),
        }
    }
}

/// What the server cuts off of a longer name would make it a different one.
pub(super) const LONGEST_NAME: usize = 63;

/// The name of a task's slot and publication: of characters that need no quoting and that slots allow.
pub(super) fn object_name(task: &str) -> String {
    let kept = |c: char| if matches!(c, 'a'..='z' | '0'..='9' | '_') { c } else { '_' };
    format!("trem_{}", task.to_lowercase()).chars().map(kept).collect()
}

/// The history that positions belong to, as the server is now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct History {
    system: String,
    database: u32,
    timeline: u32,
}

impl History {
    fn lineage(&self) -> Lineage {
        Lineage(format!("system {} database {} timeline {}", self.system, self.database, self.timeline))
    }

    fn parse(lineage: &Lineage) -> Result<Self> {
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
    /// A connection for ordinary SQL, shared while it lives.
    async fn client(&self) -> Result<Arc<Client>> {
        let mut held = self.client.lock().await;
        match held.as_ref() {
            Some(client) if !client.is_closed() => Ok(Arc::clone(client)),
            _ => {
                let client = Arc::new(self.config.connect(&self.application).await?);
                *held = Some(Arc::clone(&client));
                Ok(client)
            }
        }
    }

    /// A name for a temporary slot beside the task's own; a slot's name has at most 63 characters.
    fn temporary_slot(&self) -> String {
        format!("{:.54}_{:08x}", self.name, rand::random::<u32>())
    }

    async fn replication(&self) -> Result<Conn> {
        Conn::connect(&self.config, &self.application, true).await
    }

    async fn one(&self, sql: &str) -> Result<Row> {
        self.client().await?.query_one(sql, &[]).await.map_err(sqlstate::error)
    }

    async fn history(&self) -> Result<History> {
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
    async fn current(&self) -> Result<u64> {
        let sql = "SELECT pg_current_wal_insert_lsn()::text, pg_current_wal_flush_lsn()::text, \
                   current_setting('wal_block_size'), \
                   pg_size_bytes(current_setting('wal_segment_size'))::text";
        let row = self.one(sql).await?;
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
}

#[async_trait]
impl Source for PostgresSource {
    async fn identity(&self) -> Result<String> {
        database_identity(&*self.inner.client().await?).await
    }

    async fn discover(&self, want: &Selection) -> Result<Catalog> {
        catalog::discover(&*self.inner.client().await?, want).await
    }

    async fn check(&self, want: &Selection, cdc: bool) -> Result<Vec<Finding>> {
        check::check(&self.inner, want, cdc).await
    }

    async fn lineage(&self) -> Result<Lineage> {
        Ok(self.inner.history().await?.lineage())
    }

    async fn vacant(&self) -> Result<()> {
        setup::vacant(&self.inner).await
    }

    async fn current(&self) -> Result<Position> {
        Ok(lsn::position(self.inner.current().await?))
    }

    async fn verify(&self, checkpoint: &Checkpoint) -> Result<Lineage> {
        setup::verify(&self.inner, checkpoint).await
    }

    async fn select(&self, tables: &[Arc<TableSchema>], followed: &[TableId]) -> Result<()> {
        setup::publish(&self.inner, tables, Some(followed)).await
    }

    async fn snapshot(
        &self,
        tables: &[Arc<TableSchema>],
        kind: SnapshotKind,
        _readers: usize,
    ) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(snapshot::PgSnapshot::take(&self.inner, tables, kind).await?))
    }

    async fn stream(&self, request: StreamRequest) -> Result<Box<dyn ChangeStream>> {
        Ok(Box::new(stream::PgStream::open(&self.inner, request).await?))
    }

    async fn retire(&self) -> Result<()> {
        setup::retire(&self.inner).await
    }

    async fn lag(&self, from: Option<&Position>) -> Result<Lag> {
        let current = self.inner.current().await?;
        let bytes = from.map(lsn::of).transpose()?.map(|at| current.saturating_sub(at));
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 FROM pg_replication_slots \
                   WHERE slot_name = $1";
        let client = self.inner.client().await?;
        let row = client.query_opt(sql, &[&self.inner.name]).await.map_err(sqlstate::error)?;
        let retained: Option<i64> = row.map(|r| get(&r, 0)).transpose()?.flatten();
        let retained_bytes = retained.and_then(|b| u64::try_from(b).ok());
        Ok(Lag { current: lsn::position(current), bytes, retained_bytes })
    }
}

impl Inner {
    fn force_text(&self) -> bool {
        self.force_text.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn names_need_no_quoting() {
        assert_eq!(object_name("shop-to-reports"), "trem_shop_to_reports");
        assert_eq!(object_name("Größe 1"), "trem_gr__e_1");
        let config = PgConfig::parse("postgres://u@h/d").unwrap();
        assert_eq!(PostgresSource::new(config, &"x".repeat(80)).inner.name.len(), 63);
    }

    #[test]
    fn lineages_read_back() {
        let history = History { system: "7300".to_owned(), database: 5, timeline: 2 };
        assert_eq!(History::parse(&history.lineage()).unwrap(), history);
        assert!(History::parse(&Lineage("mysql".to_owned())).is_err());
    }
}
