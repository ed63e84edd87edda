//! The change stream: moves bytes, keeps the connection alive, and asks the server what the assembler needs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use trem_engine::change::Gather;
use trem_engine::ports::{ChangeStream, StreamRequest, StreamRole, StreamTable};
use trem_engine::position::Position;
use trem_engine::schema::{SchemaChangeKind, TableId};
use trem_engine::{Class, Error, Result};

use super::assemble::{Assembler, Need};
use super::catchup::{CatchUp, Next, Piece};
use super::drift::{self, Lost};
use super::lookup::{Answer, Question};
use super::lsn;
use super::setup;
use super::shared::Inner;
use super::walsender::{self, advance_after};
use crate::postgres::row::get;
use crate::postgres::types::TypeBook;
use crate::postgres::wire::pgoutput::Envelope;
use crate::postgres::wire::{Conn, sift};

/// How often the server hears of us at the least.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// An idle server is asked for its position, so that a dead line is noticed and an idle log is not held.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// A server that has not answered for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// How often the catalogue is looked at for what the log does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How soon it is when the log describes a table anew.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// How long reading pauses after a backlog for the target to have it all, so that the slot itself can be moved on: a
/// walsender decodes again, slowly, all that lies behind it.
const SETTLE: Duration = Duration::from_secs(2);

/// Where messages come from.
enum Feed {
    /// A walsender.
    Stream(Conn),
    /// Chunks of a backlog.
    Chunks(Box<CatchUp>),
    /// The backlog is read, and what has been read is on its way to the target.
    Settling(Settling),
    /// The next feed is being opened.
    Starting(JoinHandle<Result<Feed>>),
}

struct Settling {
    /// Until when the target is waited for.
    until: Instant,
    /// The task's own slot is being moved on.
    advancing: Option<JoinHandle<()>>,
    /// More chunks may follow, if much has come meanwhile.
    chunks: bool,
}

impl Feed {
    /// Chunks when much lies behind `from`, else a walsender.
    async fn open(inner: &Arc<Inner>, role: StreamRole, from: u64, binary: bool) -> Result<Self> {
        match CatchUp::open(inner, role, from, binary).await? {
            Some(chunks) => Ok(Self::Chunks(Box::new(chunks))),
            None => Self::stream(inner, role, from, binary).await,
        }
    }

    async fn stream(inner: &Arc<Inner>, role: StreamRole, from: u64, binary: bool) -> Result<Self> {
        match role {
            StreamRole::Main => walsender::start(inner, from, binary).await.map(Self::Stream),
            StreamRole::Aside => walsender::start_aside(inner, from, binary).await.map(Self::Stream),
        }
    }
}

/// The log of a database from one place on.
pub(super) struct PgStream {
    inner: Arc<Inner>,
    role: StreamRole,
    feed: Feed,
    assembler: Assembler,
    types: TypeBook,
    binary: bool,
    /// A message that waits for an answer of the server.
    held: Option<(Bytes, Need)>,
    /// The answer on its way.
    asking: Option<JoinHandle<Result<Answer>>>,
    /// A connection for rows that are read again.
    rows: Option<Conn>,
    /// A look at the catalogue on its way.
    looking: Option<JoinHandle<Result<Vec<Lost>>>>,
    every: Duration,
    status_at: Instant,
    heard_at: Instant,
    look_at: Instant,
    /// Everything before it has been received.
    received: u64,
    /// Everything before it is on the target for good.
    durable: u64,
}

impl PgStream {
    pub(super) async fn open(inner: &Arc<Inner>, request: StreamRequest) -> Result<Self> {
        let (from, role) = (lsn::of(&request.from)?, request.role);
        let client = inner.client().await?;
        let schemas = || request.tables.iter().map(|t| &t.schema).chain(&request.expected).map(AsRef::as_ref);
        let types = TypeBook::of(&client, schemas()).await?;
        let binary = !inner.force_text() && types.all_binary(schemas());
        let timeout = inner.one("SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'").await?;
        let timeout = Duration::from_millis(u64::try_from(get::<i64>(&timeout, 0)?).unwrap_or(0));
        let every = if timeout.is_zero() { STATUS_EVERY } else { STATUS_EVERY.min(timeout / 3) };
        let assembler = Assembler::new(request, &types)?;
        let feed = Feed::open(inner, role, from, binary).await?;
        if role == StreamRole::Aside {
            // Afterwards: a slot's place only ever moves on, and the server skips what lies before it without a word.
            setup::reaches_back(inner, from, &assembler.followed()).await?;
        }
        tracing::debug!(slot = inner.name, from = %lsn::text(from), binary, "following the log");
        let now = Instant::now();
        Ok(Self {
            inner: Arc::clone(inner),
            role,
            feed,
            assembler,
            types,
            binary,
            held: None,
            asking: None,
            rows: None,
            looking: None,
            every,
            status_at: now + every,
            heard_at: now,
            look_at: now + LOOK_EVERY,
            received: from,
            // Until it is told: tables that catch up beside the main stream may need the log from before its start.
            durable: 0,
        })
    }

    /// Takes in what has been read, until nothing is left or the limits are reached. Whether something was taken in.
    async fn digest(&mut self, into: &mut Gather) -> Result<bool> {
        let mut progress = false;
        while !into.full() {
            if let Some((_, need)) = &self.held {
                // Message and question stay held while the answer is awaited, so nothing is lost and nothing is asked
                // twice if the caller gives up for a while.
                let asking = match &mut self.asking {
                    Some(asking) => asking,
                    none => none.insert(tokio::spawn(
                        Question::of(&self.assembler, need).ask(Arc::clone(&self.inner), self.rows.take()),
                    )),
                };
                let answer = asking.await;
                self.asking = None;
                let answer = answer.map_err(|e| Error::fatal("asking the source panicked").cause(e))??;
                if let Some((payload, need)) = self.held.take() {
                    self.settle(answer, &need, into)?;
                    self.message(payload, into)?;
                }
            } else if !self.next_buffered(into)? {
                break;
            }
            progress = true;
        }
        Ok(progress)
    }

    /// Goes over to the next feed once it is open. Cancel-safe.
    async fn started(&mut self) -> Result<()> {
        if let Feed::Starting(starting) = &mut self.feed {
            let feed = starting.await.map_err(|e| Error::fatal("starting the stream panicked").cause(e))??;
            self.heard_at = Instant::now();
            self.feed = feed;
        }
        Ok(())
    }

    /// Waits until the target has the backlog, then opens the next feed. Cancel-safe.
    async fn settled(&mut self) {
        let Feed::Settling(settling) = &mut self.feed else { return };
        let (role, main) = (self.role, self.role == StreamRole::Main);
        if main && self.durable < self.received {
            sleep_until(settling.until).await;
        }
        let (inner, from, binary) = (Arc::clone(&self.inner), self.received, self.binary);
        let (durable, advancing, chunks) = (self.durable, settling.advancing.take(), settling.chunks);
        self.feed = Feed::Starting(tokio::spawn(async move {
            if main {
                advance_after(advancing, &inner, durable).await;
            }
            match chunks {
                true => Feed::open(&inner, role, from, binary).await,
                false => Feed::stream(&inner, role, from, binary).await,
            }
        }));
    }

    /// Takes in one message from the feed's buffer; whether there was one.
    fn next_buffered(&mut self, into: &mut Gather) -> Result<bool> {
        match &mut self.feed {
            Feed::Settling(..) | Feed::Starting(_) => Ok(false),
            Feed::Chunks(chunks) => match chunks.buffered()? {
                None => Ok(false),
                Some(Piece::Message(payload)) => self.message(payload, into).map(|()| true),
                Some(Piece::End { reached, next }) => {
                    self.assembler.read_up_to(reached, into)?;
                    self.received = self.received.max(reached);
                    if next != Next::Chunk {
                        self.feed = Feed::Settling(Settling {
                            until: Instant::now() + SETTLE,
                            advancing: chunks.advancing(),
                            chunks: next == Next::Settle,
                        });
                    }
                    Ok(true)
                }
            },
            Feed::Stream(conn) => loop {
                let Some(frame) = conn.buffered()? else { return Ok(false) };
                self.heard_at = Instant::now();
                if frame.tag == b'N' {
                    walsender::left_out(&frame.body)?;
                }
                match sift(frame).map_err(walsender::on_stream)? {
                    Some(frame) if frame.tag == b'd' => return self.take_in(frame.body, into).map(|()| true),
                    Some(frame) if frame.tag == b'c' => {
                        return Err(Error::transient("the source's server ended the replication stream"));
                    }
                    _ => {}
                }
            },
        }
    }

    fn message(&mut self, payload: Bytes, into: &mut Gather) -> Result<()> {
        if let Some(need) = self.assembler.message(&payload, &payload, into)? {
            self.held = Some((payload, need));
        }
        Ok(())
    }

    fn take_in(&mut self, body: Bytes, into: &mut Gather) -> Result<()> {
        match Envelope::decode(&body)? {
            Envelope::Keepalive { server_end, reply } => {
                self.received = self.received.max(server_end);
                self.assembler.reached(server_end, into)?;
                if reply {
                    self.queue_status(false);
                }
            }
            Envelope::XLogData { payload, .. } => self.message(body.slice_ref(payload), into)?,
        }
        Ok(())
    }

    /// Tells the server where we are; `ask`: it is to answer.
    fn queue_status(&mut self, ask: bool) {
        let Feed::Stream(conn) = &mut self.feed else { return };
        walsender::queue_status(conn, self.received, self.durable, ask);
        self.status_at = Instant::now() + self.every;
    }

    async fn flush(&mut self) -> Result<()> {
        match &mut self.feed {
            Feed::Stream(conn) => conn.flush().await,
            Feed::Chunks(_) | Feed::Settling(..) | Feed::Starting(_) => Ok(()),
        }
    }

    /// Looks at the catalogue from time to time, beside reading.
    async fn look(&mut self) -> Result<()> {
        if self.looking.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(looking) = self.looking.take()
        {
            let found = looking.await.map_err(|e| Error::fatal("looking at the catalogue panicked").cause(e))??;
            if !found.is_empty() {
                // What was found holds from a place on that an idle server does not tell of by itself.
                self.queue_status(true);
            }
            found.into_iter().for_each(|lost| self.assembler.is_lost(lost));
        }
        if self.assembler.described() {
            self.look_at = self.look_at.min(Instant::now() + LOOK_AFTER);
        }
        if self.looking.is_none() && Instant::now() >= self.look_at {
            let (inner, tables) = (Arc::clone(&self.inner), self.assembler.followed());
            self.look_at = Instant::now() + LOOK_EVERY;
            self.looking = Some(tokio::spawn(async move { drift::look(&inner, &tables).await }));
        }
        Ok(())
    }

    fn settle(&mut self, answer: Answer, need: &Need, into: &mut Gather) -> Result<()> {
        match (answer, need) {
            (Answer::Row(found, conn), _) => {
                self.rows = Some(conn);
                self.assembler.found(found);
            }
            (Answer::Shape(kind, types), Need::Added { table, .. }) => {
                let mut wires = Vec::new();
                self.types.add(types);
                if let SchemaChangeKind::AddColumns { next, .. } = &kind {
                    if self.binary && !self.types.all_binary([next.as_ref()]) {
                        self.inner.set_force_text();
                        let what = "a column was added whose type is read as text: the stream starts again as text";
                        return Err(Error::new(Class::Again, what).table(&next.id));
                    }
                    wires = self.types.wires(next);
                }
                self.assembler.reshape(*table, kind, wires, into)?;
            }
            (Answer::Computed(columns), Need::Added { table, relation }) => {
                self.assembler.computed(*table, relation.id, &columns);
            }
            (Answer::Shape(..) | Answer::Computed(_), Need::Row { .. }) => {}
        }
        Ok(())
    }
}

#[async_trait]
impl ChangeStream for PgStream {
    async fn fill(&mut self, into: &mut Gather) -> Result<()> {
        loop {
            self.look().await?;
            let progress = self.digest(into).await?;
            self.flush().await?;
            let whole = !self.assembler.in_transaction();
            if into.full() || (progress && whole && into.ready()) {
                return Ok(());
            }
            if Instant::now() >= self.status_at {
                self.queue_status(false);
                self.flush().await?;
            }
            let ask_at = self.heard_at + ASK_AFTER;
            let wake = self.status_at.min(ask_at.max(self.status_at - self.every + ASK_AFTER));
            match &mut self.feed {
                Feed::Chunks(chunks) => chunks.read().await?,
                Feed::Settling(..) => self.settled().await,
                Feed::Starting(_) => self.started().await?,
                Feed::Stream(conn) => tokio::select! {
                    // What has arrived while nobody read is looked at before the server is called silent.
                    biased;
                    read = conn.read() => read?,
                    () = sleep_until(wake) => {
                        if self.heard_at.elapsed() > SILENCE {
                            return Err(Error::transient("the source's server does not answer any more"));
                        }
                        self.queue_status(ask_at <= Instant::now());
                    }
                },
            }
        }
    }

    fn pace(&mut self, idle: bool) {
        if let Feed::Chunks(chunks) = &self.feed {
            chunks.pace(idle);
        }
    }

    async fn ack(&mut self, durable: Option<&Position>) -> Result<()> {
        let durable = durable.map_or(Ok(0), lsn::of)?;
        let news = durable > self.durable;
        self.durable = self.durable.max(durable);
        if let Feed::Chunks(chunks) = &mut self.feed
            && self.role == StreamRole::Main
        {
            chunks.acknowledge(self.durable);
        }
        // While nobody fills, as the limits are reached, the new connection is to be kept alive too.
        if matches!(&self.feed, Feed::Starting(starting) if starting.is_finished()) {
            self.started().await?;
            self.queue_status(false);
        }
        if news || Instant::now() + self.every / 2 >= self.status_at {
            self.queue_status(false);
        }
        self.flush().await
    }

    async fn add(&mut self, tables: Vec<StreamTable>) -> Result<()> {
        let client = self.inner.client().await?;
        let schemas = || tables.iter().map(|t| t.schema.as_ref());
        let types = TypeBook::of(&client, schemas()).await?;
        if self.binary && !types.all_binary(schemas()) {
            self.inner.set_force_text();
            let what = "a table has a type that is read as text: the stream starts again as text";
            return Err(Error::new(Class::Again, what));
        }
        self.types.add(types);
        self.assembler.add(tables, &self.types)
    }

    fn withdraw(&mut self, table: &TableId, last: SchemaChangeKind, into: &mut Gather) -> Result<()> {
        self.assembler.withdraw(table, last, into)
    }

    async fn close(&mut self, durable: Option<&Position>) -> Result<()> {
        if self.role == StreamRole::Aside {
            // Its slots go with their sessions.
            return Ok(());
        }
        self.durable = self.durable.max(durable.map_or(Ok(0), lsn::of)?);
        if let Feed::Starting(_) = &self.feed
            && let Err(error) = self.started().await
        {
            tracing::debug!(%error, "what was to be read next could not be opened");
        }
        let advancing = match &mut self.feed {
            Feed::Stream(conn) => return walsender::leave(conn, self.received, self.durable).await.map(drop),
            Feed::Chunks(chunks) => chunks.advancing(),
            Feed::Settling(settling) => settling.advancing.take(),
            Feed::Starting(_) => None,
        };
        advance_after(advancing, &self.inner, self.durable).await;
        Ok(())
    }
}
