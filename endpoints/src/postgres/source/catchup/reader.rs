//! Reads chunks ahead of whoever takes them in, so that the source decodes the next chunk while the target still works
//! on the last one. What lies between the two is bounded in bytes. When the target has nothing to do, two sessions
//! decode at a time, each its own range of the log; what they read is handed on in the log's order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use trem_engine::{Error, Result};

use super::super::shared::Inner;
use super::pace::{Balance, Next, Pace};
use super::session::{Ask, Failed, Place, Session};

/// What comes sooner was there already.
const WAITED: Duration = Duration::from_millis(1);
/// How much may have been read and not yet taken in.
const AHEAD_BYTES: usize = 8 << 20;

/// Some messages of the log, and perhaps the end of their chunk.
pub(super) struct Block {
    pub(super) messages: std::vec::IntoIter<Bytes>,
    pub(super) end: Option<End>,
    /// Their share of what may lie between.
    _room: OwnedSemaphorePermit,
}

/// Everything before `reached` has been read.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) reached: u64,
    pub(super) next: Next,
}

/// The reading half.
pub(super) struct Reader {
    inner: Arc<Inner>,
    binary: bool,
    /// The sessions that are reading, in the log's order.
    reading: VecDeque<Session>,
    /// And those that are not.
    spare: Vec<Session>,
    /// A second session on its way.
    opening: JoinSet<Result<Session>>,
    /// There can be no second one.
    alone: bool,
    /// A walsender is to go on when what has been asked for is read.
    leaving: bool,
    /// As [`super::CatchUp`] has it.
    idle: Arc<AtomicU64>,
    balance: Balance,
    pace: Pace,
    room: Arc<Semaphore>,
    blocks: mpsc::UnboundedSender<Result<Block>>,
}

impl Reader {
    pub(super) fn new(
        inner: &Arc<Inner>,
        session: Session,
        from: u64,
        binary: bool,
        idle: Arc<AtomicU64>,
        blocks: mpsc::UnboundedSender<Result<Block>>,
    ) -> Self {
        Self {
            inner: Arc::clone(inner),
            binary,
            pace: Pace::new(from),
            reading: VecDeque::new(),
            spare: vec![session],
            opening: JoinSet::new(),
            alone: inner.one_session.load(Ordering::Relaxed),
            leaving: false,
            idle,
            balance: Balance::default(),
            room: Arc::new(Semaphore::new(AHEAD_BYTES)),
            blocks,
        }
    }

    /// Reads chunks until another one does not pay, or nobody takes them.
    pub(super) async fn run(mut self) {
        if let Err(e) = self.read_all().await {
            // Without a taker nobody wants to know.
            let _ = self.blocks.send(Err(e));
        }
    }

    async fn read_all(&mut self) -> Result<()> {
        self.assign().await?;
        while let Some(front) = self.reading.front_mut() {
            let (began, before) = (Instant::now(), self.idle.load(Ordering::Relaxed));
            let read = tokio::select! {
                read = front.read() => read,
                Some(opened) = self.opening.join_next() => {
                    self.joined(opened).await?;
                    continue;
                }
            };
            let asked = front.asked;
            let read = read.map_err(|f| self.failed(f, asked))?;
            if read.first && !read.messages.is_empty() {
                let idle = before % 2 == 1 || self.idle.load(Ordering::Relaxed) != before;
                self.balance.weigh(asked.changes, self.pace.most, began.elapsed() >= WAITED, idle);
            }
            let end = match read.ended {
                Some(place) => Some(self.ended(place).await?),
                None => None,
            };
            if read.messages.is_empty() && end.is_none() {
                continue;
            }
            let share = usize::try_from(read.bytes).unwrap_or(AHEAD_BYTES).clamp(1, AHEAD_BYTES);
            let room = Arc::clone(&self.room).acquire_many_owned(u32::try_from(share).unwrap_or(1)).await;
            let _room = room.map_err(|e| Error::fatal("internal: the room between reader and taker").cause(e))?;
            if self.blocks.send(Ok(Block { messages: read.messages.into_iter(), end, _room })).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A session has read its chunk. What comes next is asked for at once, so that the source works on it while there
    /// may be no room for what has come.
    async fn ended(&mut self, place: Place) -> Result<End> {
        let Some(mut session) = self.reading.pop_front() else { return Err(Error::fatal("internal: no chunk ended")) };
        let before = self.pace.restart;
        self.pace.learn(&session, place);
        // A session behind the front may have looked at the log's end long ago.
        let place = Place { current: self.pace.current, ..place };
        let asked = session.asked;
        let next = if let Some(until) = asked.until.filter(|until| place.reached < *until) {
            let step = self.pace.step();
            let changes = self.pace.within(step, until - place.reached);
            session.ask(Ask { from: place.reached, changes, ..asked }).await?;
            self.reading.push_front(session);
            Next::Chunk
        } else {
            let cut = asked.until.is_some() || session.changes >= asked.changes;
            self.spare.push(session);
            let next = place.next(before, cut);
            self.leaving |= next == Next::Stream;
            match (self.reading.is_empty(), self.leaving) {
                (true, true) => Next::Stream,
                (true, false) => next,
                (false, _) => Next::Chunk,
            }
        };
        if next == Next::Chunk {
            self.assign().await?;
        }
        Ok(End { reached: place.reached, next })
    }

    /// Gives sessions that have nothing to read what is to be read next.
    async fn assign(&mut self) -> Result<()> {
        let second = !self.alone && self.balance.starved != Some(false);
        let sharing = second && self.balance.starved.is_some();
        while !self.leaving && !self.spare.is_empty() && (self.reading.is_empty() || sharing) {
            let Some(ask) = self.pace.next(sharing, self.reading.is_empty()) else { break };
            let Some(mut session) = self.spare.pop() else { break };
            session.ask(ask).await?;
            self.reading.push_back(session);
        }
        if !second {
            // Its slot would hold the source's log.
            self.spare.clear();
        } else if self.reading.len() + self.spare.len() + self.opening.len() < 2 && !self.pace.open && !self.leaving {
            self.opening.spawn(Session::second(Arc::clone(&self.inner), self.binary));
        }
        Ok(())
    }

    async fn joined(&mut self, opened: std::result::Result<Result<Session>, JoinError>) -> Result<()> {
        match opened.unwrap_or_else(|e| Err(Error::fatal("opening a session panicked").cause(e))) {
            Ok(session) => {
                tracing::debug!(slot = self.inner.name, "a second session is ready to read the backlog too");
                self.spare.push(session);
            }
            Err(error) => {
                tracing::debug!(slot = self.inner.name, %error, "one session reads the backlog, as a second cannot");
                self.alone = true;
            }
        }
        self.assign().await
    }

    /// Whatever it was, less may do: one session, or a walsender. (Too large a transaction for the source's disk, say.)
    fn failed(&self, failed: Failed, asked: Ask) -> Error {
        let error = match failed {
            Failed::Other(error) => return error,
            Failed::Server(error) => error,
        };
        let (less, instead) = if asked.shared || self.reading.len() > 1 {
            (&self.inner.one_session, "one session reads it next")
        } else {
            (&self.inner.stream_only, "the backlog is streamed instead")
        };
        less.store(true, Ordering::Relaxed);
        Error::transient(format!("catching up in chunks failed: {instead}")).cause(error)
    }
}
