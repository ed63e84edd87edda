//! The change stream: the binary log from a place on, transaction by transaction.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use mysql_async::binlog::BinlogChecksumAlg;
use mysql_async::binlog::events::Event as Raw;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest};
use tokio::task::JoinHandle;
use trem_engine::change::{Commit, Gather, Truncate};
use trem_engine::ports::{ChangeStream, StreamRequest, StreamTable};
use trem_engine::position::Position;
use trem_engine::schema::{SchemaChangeKind, TableId};
use trem_engine::{Error, Remedy, Result};

use super::followed::Tables;
use super::place::Place;
use super::shape::{self, Answer, Doubt};
use super::shared::Inner;
use super::statement::{Statement, Word, mentions, words};
use crate::mysql::binlog::event::Event;
use crate::mysql::binlog::gtid::Gtids;
use crate::mysql::error::error;
use crate::mysql::quote;
use crate::mysql::row::get;

/// How often an idle server says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A server that has said nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// A transaction that has begun.
struct Open {
    /// It is the next event alone.
    standalone: bool,
    /// What the log is behind at its end.
    gtids: Gtids,
    /// The place there.
    end: Position,
}

/// An event that waits for what the catalogue says of its table.
struct Held {
    event: Raw,
    doubt: Doubt,
    asking: JoinHandle<Result<Answer>>,
}

pub(super) struct MyStream {
    inner: Arc<Inner>,
    held: Option<Held>,
    log: Pin<Box<BinlogStream>>,
    tables: Tables,
    /// Behind the last transaction that has been read.
    place: Place,
    open: Option<Open>,
    /// What the server says before it says that events have checksums has one all the same.
    checksums: bool,
}

/// Asks a server for its log. (MariaDB knowledge base, "Replication Protocol: 5. Slave registration".)
pub(super) async fn open_log(inner: &Inner, from: &Place, to_its_end: bool) -> Result<BinlogStream> {
    let mut session = inner.open().await?;
    let gtids = quote::literal(&from.gtids.to_string());
    for statement in [
        // Of GTIDs, and of what came with them.
        "SET @mariadb_slave_capability = 4".to_owned(),
        format!("SET @slave_connect_state = {gtids}"),
        "SET @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0".to_owned(),
        format!("SET @master_heartbeat_period = {}", HEARTBEAT.as_nanos()),
    ] {
        session.conn.query_drop(statement).await.map_err(error)?;
    }
    // Two readers of one number would cut each other off.
    let request = BinlogStreamRequest::new(rand::random::<u32>() | 1 << 31).with_pos(4);
    let request = if to_its_end { request.with_non_blocking() } else { request };
    session.conn.get_binlog_stream(request).await.map_err(error)
}

impl MyStream {
    pub(super) async fn open(inner: &Arc<Inner>, request: StreamRequest) -> Result<Self> {
        let place = Place::of(&request.from)?;
        let log = open_log(inner, &place, false).await?;
        let rows = inner.rows("SHOW GLOBAL VARIABLES LIKE 'binlog_checksum'").await?;
        let checksums = rows.first().is_some_and(|row| get::<String>(row, 1).is_ok_and(|value| value != "NONE"));
        let mut tables = Tables::default();
        let mut session = inner.session().await?;
        tables.add(&mut session, request.tables).await?;
        inner.give_back(session).await;
        tracing::debug!(task = inner.task, from = %request.from, "following the log");
        let (log, inner) = (Box::pin(log), Arc::clone(inner));
        Ok(Self { inner, held: None, log, tables, place, open: None, checksums })
    }

    fn next(&mut self, next: Option<mysql_async::Result<Raw>>, into: &mut Gather) -> Result<()> {
        let raw = next.ok_or_else(|| Error::transient("the source has ended its log"))?.map_err(error)?;
        self.take(&raw, into)
    }

    /// Takes an event in.
    fn take(&mut self, raw: &Raw, into: &mut Gather) -> Result<()> {
        verified(raw)?;
        let header = raw.header();
        let sum = if self.checksums && raw.checksum().is_none() { 4 } else { 0 };
        let data = raw.data();
        let data = &data[..data.len().saturating_sub(sum)];
        let event = Event::parse(header.event_type_raw(), header.flags_raw(), data)?;
        if header.log_pos() != 0 && !matches!(event, Event::Rotate { .. }) {
            self.place.offset = header.log_pos().into();
        }
        match event {
            Event::Gtid { prepared: true, .. } => Err(xa()),
            Event::Gtid { domain, sequence, standalone, .. } => {
                self.begin(raw, (domain, header.server_id(), sequence), standalone, into)
            }
            Event::Rotate { file, offset } => {
                (self.place.file, self.place.offset) = (file, offset);
                self.tables.forget_numbers();
                Ok(())
            }
            Event::TableMap(map) => {
                let at = self.end();
                if let Some(doubt) = self.tables.map(map, &at) {
                    let asking = tokio::spawn(shape::ask(Arc::clone(&self.inner), doubt.clone()));
                    self.held = Some(Held { event: raw.clone(), doubt, asking });
                }
                Ok(())
            }
            Event::Rows(rows) => {
                let open = self.open.as_ref().ok_or_else(outside)?;
                self.tables.rows(&rows, &open.end, into)
            }
            Event::Query { schema, sql } => self.query(&schema, &sql, into),
            Event::Commit => self.commit(into),
            Event::Nothing => Ok(()),
        }
    }

    /// Where the log stands behind the transaction at hand.
    fn end(&self) -> Position {
        self.open.as_ref().map_or_else(|| self.place.position(), |open| open.end.clone())
    }

    fn begin(
        &mut self,
        raw: &Raw,
        (domain, server, sequence): (u32, u32, u64),
        standalone: bool,
        into: &mut Gather,
    ) -> Result<()> {
        if self.open.is_some() {
            // What a crash of the server cut off; it is not sent again.
            return Err(Error::transient("a transaction of the binary log begins before the one before it has ended"));
        }
        let mut behind = self.place.clone();
        behind.gtids.advance(domain, server, sequence)?;
        let end = behind.position();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(raw.header().timestamp().into());
        let transaction = format!("{domain}-{server}-{sequence}");
        into.begin(Commit { position: end.clone(), at: Some(at), transaction });
        self.open = Some(Open { standalone, gtids: behind.gtids, end });
        Ok(())
    }

    fn commit(&mut self, into: &mut Gather) -> Result<()> {
        let open = self.open.take().ok_or_else(outside)?;
        self.place.gtids = open.gtids;
        into.commit(self.place.position(), true);
        Ok(())
    }

    fn query(&mut self, schema: &str, sql: &str, into: &mut Gather) -> Result<()> {
        let words = words(sql);
        let standalone = self.open.as_ref().is_some_and(|open| open.standalone);
        match Statement::of(&words, schema) {
            Statement::Marker => return Ok(()),
            Statement::End => return self.commit(into),
            Statement::Xa => return Err(xa()),
            Statement::RollbackTo => return Err(taken_back()),
            Statement::Truncate(id) => self.truncate(&id, into)?,
            Statement::Shape => {
                for id in self.about(&words, schema) {
                    self.tables.doubt(&id, &shown(sql), &self.end(), into)?;
                }
            }
            Statement::Other => self.other(&words, schema, sql, standalone, into)?,
        }
        if standalone { self.commit(into) } else { Ok(()) }
    }

    fn truncate(&mut self, id: &TableId, into: &mut Gather) -> Result<()> {
        let Some(table) = self.tables.emptied(id, &self.end()) else { return Ok(()) };
        into.truncate(Truncate { tables: vec![table], cascade: false, restart_identity: true, commit: None })
    }

    /// The tables that are followed and named by a statement.
    fn about(&self, words: &[Word], schema: &str) -> Vec<TableId> {
        self.tables.ids().filter(|id| mentions(words, schema, id)).cloned().collect()
    }

    /// What may have changed rows that the log has no images of, or have put another table in the place of one.
    fn other(&mut self, words: &[Word], schema: &str, sql: &str, standalone: bool, into: &mut Gather) -> Result<()> {
        let what = match standalone {
            true => "a statement at the source may have changed it",
            false => "a session at the source wrote a statement in the place of rows (binlog_format)",
        };
        for id in self.about(words, schema) {
            self.tables.suspend(&id, format!("{what}: {}", shown(sql)), &self.end(), into)?;
        }
        Ok(())
    }

    /// Waits for what the catalogue says of the event at hand, and takes the event in again. Cancel-safe.
    async fn answered(&mut self, into: &mut Gather) -> Result<()> {
        while let Some(held) = &mut self.held {
            let answer =
                (&mut held.asking).await.map_err(|e| Error::fatal("asking the source panicked").cause(e))??;
            let Some(Held { event, doubt, .. }) = self.held.take() else { break };
            let at = self.end();
            self.tables.settle(&doubt, answer, &at, into)?;
            self.take(&event, into)?;
        }
        Ok(())
    }
}

/// As much of a statement as a message takes.
fn shown(sql: &str) -> String {
    sql.chars().take(200).collect()
}

/// Fails if an event is not what the server wrote.
fn verified(raw: &Raw) -> Result<()> {
    let algorithm = raw.footer().get_checksum_alg();
    let checked = matches!(algorithm, Ok(Some(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32)));
    match raw.checksum() {
        Some(sum)
            if checked
                && u32::from_le_bytes(sum) != raw.calc_checksum(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32) =>
        {
            Err(Error::transient("an event of the binary log came with a wrong checksum"))
        }
        _ => Ok(()),
    }
}

fn outside() -> Error {
    Error::fatal("rows of the binary log are outside of any transaction")
}

fn xa() -> Error {
    let keep = "let XA transactions write no table that is replicated";
    Error::fatal("the binary log has a distributed transaction (XA), which this version does not follow")
        .remedy(Remedy::from(keep).then(Remedy::StartAnew))
}

fn taken_back() -> Error {
    let keep = "let no transaction write tables that have none (MyISAM, temporary ones) between its savepoints";
    Error::fatal("the binary log takes a transaction back in part (ROLLBACK TO SAVEPOINT)")
        .remedy(Remedy::from(keep).then(Remedy::StartAnew))
}

#[async_trait]
impl ChangeStream for MyStream {
    async fn fill(&mut self, into: &mut Gather) -> Result<()> {
        self.answered(into).await?;
        // Once at least: whoever asks again while there is something to be taken wants to wait for more.
        loop {
            let waited = tokio::time::timeout(SILENCE, self.log.next()).await;
            let silent = |_| Error::transient(format!("the source has been silent for {} s", SILENCE.as_secs()));
            self.next(waited.map_err(silent)?, into)?;
            self.answered(into).await?;
            while !into.full()
                && let Some(next) = self.log.next().now_or_never()
            {
                self.next(next, into)?;
                self.answered(into).await?;
            }
            if into.ready() {
                return Ok(());
            }
        }
    }

    async fn ack(&mut self, _durable: Option<&Position>) -> Result<()> {
        // The server keeps its log for as long as it likes, whoever reads it.
        Ok(())
    }

    async fn add(&mut self, tables: Vec<StreamTable>) -> Result<()> {
        let mut session = self.inner.session().await?;
        self.tables.add(&mut session, tables).await?;
        self.inner.give_back(session).await;
        Ok(())
    }

    fn withdraw(&mut self, table: &TableId, last: SchemaChangeKind, into: &mut Gather) -> Result<()> {
        self.tables.leave(table, last, into)
    }

    async fn close(&mut self, _durable: Option<&Position>) -> Result<()> {
        Ok(())
    }
}
