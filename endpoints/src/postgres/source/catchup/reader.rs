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

use super::super::Inner;
use super::session::{Ask, Failed, Place, Session};

/// From this much unread log on, reading it in chunks pays.
pub(super) const WORTH_BYTES: u64 = 16 << 20;
/// And once it is read so, down to this.
pub(super) const REST_BYTES: u64 = 1 << 20;
/// A chunk is decoded from the slot's restart point on. What lies before the chunk costs a fraction of what the chunk
/// itself does; but when an old transaction holds that point, streaming is cheaper from here on.
const AGAIN_BYTES: u64 = 2 << 30;
/// A chunk is materialised at the source; this much of it is wanted: the least, unless so much is to be decoded again
/// for each chunk that only longer ones pay.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 32 << 20..=512 << 20;
/// And at least so many changes, whatever their size.
const LEAST_CHANGES: u64 = 1_000;
/// And at most, as the server counts them in 32 bits.
const MOST_CHANGES: u64 = 1_000_000_000;
/// The first chunk is short, so that the target has something to do, and they grow by this factor.
const FIRST_CHANGES: u64 = 2_000;
const GROWTH: u64 = 3;
/// The log of the first chunks. If nothing committed in it, a large transaction began before.
const FIRST_BYTES: u64 = 4 << 20;
/// A target that waits for a chunk of so many changes waits for the decoding: from then on two sessions share it.
const SHARED_CHANGES: u64 = 10_000;
/// What comes sooner was there already.
const WAITED: Duration = Duration::from_millis(1);
/// So many chunks in a row that were there already, and the target is the slower one. (Of two sessions that go side by
/// side every second chunk is there.)
const ENOUGH_EARLY: u32 = 4;
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

/// What follows a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Next {
    /// Another chunk.
    Chunk,
    /// Nothing: little is left, or little was when the chunk was asked for.
    Settle,
    /// Nothing, and however much is left, a walsender reads it faster.
    Stream,
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
        let sharing = self.balance.starved == Some(true) && !self.alone;
        while !self.leaving && !self.spare.is_empty() && (self.reading.is_empty() || sharing) {
            let Some(ask) = self.pace.next(sharing, self.reading.is_empty()) else { break };
            let Some(mut session) = self.spare.pop() else { break };
            session.ask(ask).await?;
            self.reading.push_back(session);
        }
        let useful = match self.balance.starved {
            None => !self.alone,
            Some(_) => sharing && !self.pace.open,
        };
        if !useful && !sharing {
            // Its slot would hold the source's log.
            self.spare.clear();
        } else if useful && self.reading.len() + self.spare.len() + self.opening.len() < 2 && !self.leaving {
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

/// Is it the target that waits, or is it waited for?
#[derive(Default)]
struct Balance {
    /// The target had nothing to do while a chunk was waited for; `None` while no chunk was long enough to tell.
    starved: Option<bool>,
    /// Chunks in a row that were there before they were waited for, while the target was busy.
    early: u32,
}

impl Balance {
    /// The first of a chunk of so many changes has come, where the longest has `most`.
    fn weigh(&mut self, changes: u64, most: u64, waited: bool, idle: bool) {
        self.early = if waited || idle { 0 } else { self.early + 1 };
        if waited && idle && changes >= SHARED_CHANGES.min(most) {
            self.starved = Some(true);
        } else if waited && changes >= (SHARED_CHANGES * GROWTH).min(most) || self.early >= ENOUGH_EARLY {
            self.starved = Some(false);
        }
    }
}

/// How long chunks are, and where the next one begins.
struct Pace {
    /// Changes of the next one, and of the longest.
    changes: u64,
    most: u64,
    /// Bytes of log for each, as the last one had them.
    each: u64,
    /// Everything before it is being read.
    begun: u64,
    /// A chunk is being read whose end is not known.
    open: bool,
    /// The end of the server's log, as far as known.
    current: u64,
    /// Where the last one was decoded from.
    restart: u64,
}

impl Pace {
    fn new(from: u64) -> Self {
        Self {
            changes: FIRST_CHANGES,
            most: MOST_CHANGES / 2,
            each: 0,
            begun: from,
            open: false,
            current: 0,
            restart: 0,
        }
    }

    /// How long a chunk may be follows the size of the changes met.
    fn learn(&mut self, session: &Session, place: Place) {
        self.current = self.current.max(place.current);
        self.restart = place.restart;
        // A record may reach beyond the place where it was to end.
        self.begun = self.begun.max(place.reached);
        self.open &= session.asked.until.is_some();
        let Some(bytes) = session.bytes.checked_div(session.changes) else { return };
        let again = place.reached.saturating_sub(place.restart);
        let wanted = (again / 2).clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
        self.most = (wanted / bytes.max(1)).clamp(LEAST_CHANGES, MOST_CHANGES / 2);
        let least = (again / 2).min(*CHUNK_BYTES.end()) / bytes.max(1);
        self.changes = self.changes.max(least).min(self.most);
        self.each = place.reached.saturating_sub(session.asked.from) / session.changes;
    }

    /// What is to be read next; `None` while that is not known. When the log is shared it ends at a place, so that
    /// another session can begin there. `first`: nobody reads now.
    fn next(&mut self, sharing: bool, first: bool) -> Option<Ask> {
        if self.open {
            return None;
        }
        let from = self.begun;
        let step = self.step();
        if self.current == 0 {
            self.begun = from.saturating_add(FIRST_BYTES);
            return Some(Ask { from, until: Some(self.begun), changes: step, shared: false });
        }
        let left = self.current.saturating_sub(from);
        let length = step.saturating_mul(self.each);
        // What two can finish together is not cut once more: each chunk decodes again what lies before it.
        let longest = (self.most.saturating_mul(self.each) / 2).saturating_mul(3);
        let part = if left / 2 <= longest { left / 2 } else { length.max(REST_BYTES) };
        if sharing && part >= REST_BYTES && (first || left > longest) {
            self.begun = from + part;
            // The target waits for the first one of all, but not for the others.
            let changes = if first { self.within(step, part) } else { self.all(part) };
            return Some(Ask { from, until: Some(self.begun), changes, shared: true });
        }
        self.open = true;
        let changes = match (sharing, self.each) {
            (true, _) => self.all(left.min(longest)),
            // Nothing has committed: cut behind a large transaction, all of it would be decoded once more for the
            // little that follows. (Or the log is of other tables, and then a chunk of it is small.)
            (false, 0) if left <= *CHUNK_BYTES.end() => MOST_CHANGES,
            (false, _) => step,
        };
        Some(Ask { from, until: None, changes, shared: sharing })
    }

    /// Changes of the next chunk; the one after it is longer.
    fn step(&mut self) -> u64 {
        let step = self.changes;
        self.changes = (step * GROWTH).min(self.most);
        step
    }

    /// Changes of a chunk in a range of so much log: not so that a short rest is left.
    fn within(&self, step: u64, log: u64) -> u64 {
        if log / 3 <= step.saturating_mul(self.each) / 2 { self.all(log) } else { step }
    }

    /// More changes than so much log has, even if they turn out half as large as they were.
    fn all(&self, log: u64) -> u64 {
        log.checked_div(self.each).unwrap_or(0).clamp(LEAST_CHANGES, MOST_CHANGES / 2) * 2
    }
}

impl Place {
    /// What pays next. `before`: where this chunk was decoded from; `cut`: it ended by its length, and not by the end
    /// of the log.
    fn next(self, before: u64, cut: bool) -> Next {
        let held = self.restart <= before && self.reached.saturating_sub(self.restart) > AGAIN_BYTES;
        let least = if cut { REST_BYTES } else { WORTH_BYTES };
        if self.current.saturating_sub(self.reached) < least {
            Next::Settle
        } else if held {
            Next::Stream
        } else {
            Next::Chunk
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_held_restart_point_ends_catching_up() {
        let place = |reached, restart| Place { reached, current: 10 << 30, restart };
        assert_eq!(place(3 << 30, 1 << 20).next(0, true), Next::Chunk, "it moves on");
        assert_eq!(place(200 << 20, 5).next(5, true), Next::Chunk, "little is decoded again");
        assert_eq!(place(3 << 30, 5).next(5, true), Next::Stream);
        assert_eq!(place((10 << 30) - 1, 9 << 30).next(5, true), Next::Settle, "nothing is left");
        let near = place((10 << 30) - (2 << 20), 9 << 30);
        assert_eq!(near.next(5, true), Next::Chunk);
        assert_eq!(near.next(5, false), Next::Settle, "what came meanwhile is streamed");
    }

    #[test]
    fn a_long_chunk_tells_whether_the_target_waits() {
        let mut balance = Balance::default();
        balance.weigh(FIRST_CHANGES, u64::MAX, true, true);
        balance.weigh(SHARED_CHANGES, u64::MAX, true, false);
        assert_eq!(balance.starved, None, "too short");
        balance.weigh(SHARED_CHANGES, u64::MAX, true, true);
        assert_eq!(balance.starved, Some(true));
        balance.weigh(SHARED_CHANGES * GROWTH, u64::MAX, true, false);
        assert_eq!(balance.starved, Some(false));
        let mut wide = Balance::default();
        wide.weigh(LEAST_CHANGES, LEAST_CHANGES, true, false);
        assert_eq!(wide.starved, Some(false), "none is longer");
        let mut early = Balance::default();
        (0..ENOUGH_EARLY).for_each(|_| early.weigh(LEAST_CHANGES, u64::MAX, false, false));
        assert_eq!(early.starved, Some(false));
    }

    #[test]
    fn shared_ranges_meet_and_the_last_one_is_open() {
        let current = 1000 + (512 << 20);
        let mut pace =
            Pace { changes: 1 << 20, most: 1 << 20, each: 100, begun: 1000, open: false, current, restart: 0 };
        let (mut from, mut ranges) = (1000, 0);
        loop {
            let ask = pace.next(true, ranges == 0).unwrap();
            assert_eq!(ask.from, from);
            ranges += 1;
            let Some(until) = ask.until else { break };
            assert!(until > from);
            from = until;
        }
        assert!((4..7).contains(&ranges), "{ranges} for 5.1 times the length of one");
        assert_eq!(pace.next(true, false), None, "nobody knows where the open one ends");
    }

    #[test]
    fn a_large_transaction_at_the_beginning_is_read_with_what_follows() {
        let mut pace = Pace::new(7);
        let until = 7 + FIRST_BYTES;
        assert_eq!(
            pace.next(false, true),
            Some(Ask { from: 7, until: Some(until), changes: FIRST_CHANGES, shared: false })
        );
        pace.current = until + (400 << 20);
        let all = Ask { from: until, until: None, changes: MOST_CHANGES, shared: false };
        assert_eq!(pace.next(false, true), Some(all));
        (pace.open, pace.current) = (false, until + (4 << 30));
        let cut = pace.next(false, true).unwrap();
        assert!(cut.changes < 100_000, "what follows may be larger than the source's disk: {cut:?}");
    }
}
