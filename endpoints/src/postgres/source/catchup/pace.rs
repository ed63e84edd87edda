//! How long the chunks of a backlog are, where the next one begins, and whether two sessions share what is left.

use super::session::{Ask, Place, Session};

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
/// So many chunks in a row that were there already, and the target is the slower one. (Of two sessions that go side by
/// side every second chunk is there.)
const ENOUGH_EARLY: u32 = 4;

/// What follows a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres::source) enum Next {
    /// Another chunk.
    Chunk,
    /// Nothing: little is left, or little was when the chunk was asked for.
    Settle,
    /// Nothing, and however much is left, a walsender reads it faster.
    Stream,
}

/// Is it the target that waits, or is it waited for?
#[derive(Default)]
pub(super) struct Balance {
    /// The target had nothing to do while a chunk was waited for; `None` while no chunk was long enough to tell.
    pub(super) starved: Option<bool>,
    /// Chunks in a row that were there before they were waited for, while the target was busy.
    early: u32,
}

impl Balance {
    /// The first of a chunk of so many changes has come, where the longest has `most`.
    pub(super) fn weigh(&mut self, changes: u64, most: u64, waited: bool, idle: bool) {
        self.early = if waited || idle { 0 } else { self.early + 1 };
        if waited && idle && changes >= SHARED_CHANGES.min(most) {
            self.starved = Some(true);
        } else if waited && changes >= (SHARED_CHANGES * GROWTH).min(most) || self.early >= ENOUGH_EARLY {
            self.starved = Some(false);
        }
    }
}

/// How long chunks are, and where the next one begins.
pub(super) struct Pace {
    /// Changes of the next one, and of the longest.
    changes: u64,
    pub(super) most: u64,
    /// Bytes of log for each, as the last one had them.
    each: u64,
    /// Everything before it is being read.
    begun: u64,
    /// A chunk is being read whose end is not known.
    pub(super) open: bool,
    /// The end of the server's log, as far as known.
    pub(super) current: u64,
    /// Where the last one was decoded from.
    pub(super) restart: u64,
}

impl Pace {
    pub(super) fn new(from: u64) -> Self {
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
    pub(super) fn learn(&mut self, session: &Session, place: Place) {
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
    pub(super) fn next(&mut self, sharing: bool, first: bool) -> Option<Ask> {
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
    pub(super) fn step(&mut self) -> u64 {
        let step = self.changes;
        self.changes = (step * GROWTH).min(self.most);
        step
    }

    /// Changes of a chunk in a range of so much log: not so that a short rest is left.
    pub(super) fn within(&self, step: u64, log: u64) -> u64 {
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
    pub(super) fn next(self, before: u64, cut: bool) -> Next {
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
