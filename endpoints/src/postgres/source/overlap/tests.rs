//! What is to be done with changes of rows whose chunks were read at different places of the log.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::range::tests::{keys, whole};
use super::*;

fn key(n: i64) -> RowKey {
    RowKey { first: Some(KeyBound::Int(n)), whole: n.to_be_bytes().to_vec() }
}

/// Keys below 10 were read at 100, from 10 on at 200.
fn loaded() -> Overlap {
    Overlap::new(&[keys(Some(10), None, 200), keys(None, Some(10), 100)], None, 50).unwrap().unwrap()
}

fn at(commit: u64) -> Begin {
    Begin { final_lsn: commit, time: 0, xid: commit as u32 }
}

#[test]
fn a_change_is_left_out_where_its_row_was_read_later() {
    let l = loaded();
    assert_eq!((l.lowest, l.highest), (100, 200));
    for (n, commit, verdict) in [
        (9, 99, Verdict::Skip),
        (9, 100, Verdict::Apply),
        (10, 199, Verdict::Skip),
        (10, 200, Verdict::Apply),
        (i64::MIN, 99, Verdict::Skip),
    ] {
        assert_eq!(l.insert(&key(n), at(commit)), verdict, "{n} {commit}");
        assert_eq!(l.delete(&key(n), at(commit)), verdict, "{n} {commit}");
        assert_eq!(l.update(&key(n), &key(n), at(commit)), verdict, "{n} {commit}");
    }
}

#[test]
fn a_row_that_moves_between_chunks() {
    let l = loaded();
    assert_eq!(l.update(&key(1), &key(20), at(50)), Verdict::Skip);
    assert_eq!(l.update(&key(1), &key(20), at(150)), Verdict::DeleteOld);
    assert_eq!(l.update(&key(20), &key(1), at(150)), Verdict::PutNew);
    assert_eq!(l.update(&key(1), &key(20), at(250)), Verdict::Apply);
}

fn found(row: Option<&'static [u8]>, seen: &str, until: u64) -> Found {
    Found { row: row.map(Bytes::from_static), seen: Visibility::parse(seen).unwrap(), until }
}

#[test]
fn a_row_that_was_read_again_is_a_chunk_of_its_own() {
    let mut l = loaded();
    assert_eq!(l.read_again(&key(1), found(Some(b"row"), "300:310:305", 400)), None);
    assert!(l.waits(399) && !l.done(399) && !l.waits(400) && l.done(400));
    for (commit, verdict) in [(304, Verdict::Skip), (305, Verdict::Apply), (309, Verdict::Skip)] {
        assert_eq!(l.update(&key(1), &key(1), at(commit)), verdict, "{commit}");
    }
    assert_eq!(l.update(&key(1), &key(2), at(304)), Verdict::PutNew);
    assert_eq!(l.update(&key(2), &key(1), at(304)), Verdict::DeleteOld);
    assert_eq!((l.due(&key(2), at(305)), l.due(&key(1), at(304))), (None, None));
    assert_eq!(l.due(&key(1), at(305)), Some(Bytes::from_static(b"row")));
    assert_eq!(l.due(&key(1), at(305)), None, "it is there now");
    let _ = l.read_again(&key(3), found(Some(b"other"), "300:310:305", 350));
    assert!(l.passed(399).is_empty() && l.waits(399));
    assert_eq!(l.passed(400), [Bytes::from_static(b"other")]);
    assert!(!l.waits(300));
    let _ = l.read_again(&key(1), found(None, "300:310:305", 500));
    l.emptied();
    assert_eq!(l.insert(&key(1), at(304)), Verdict::Apply);
    assert!(!l.waits(300));
}

#[test]
fn what_is_read_again_has_its_limits() {
    let mut l = loaded();
    let read = |l: &mut Overlap, n| assert_eq!(l.read_again(&key(n), found(None, "300:310:", 400)), None);
    (0..MOST_AGAIN as i64).for_each(|n| read(&mut l, n));
    assert!(!l.is_too_much());
    read(&mut l, -1);
    assert!(l.is_too_much());
    let mut l = loaded();
    let half = Bytes::from(vec![0; MOST_HELD / 2]);
    let row =
        |n: i64| (key(n), Found { row: Some(half.clone()), seen: Visibility::parse("300:310:").unwrap(), until: 400 });
    for (n, at_once) in [(1, false), (2, false), (3, true)] {
        let (key, found) = row(n);
        assert_eq!(l.read_again(&key, found).is_some(), at_once, "{n}");
    }
    assert_eq!((l.due(&key(3), at(310)), l.due(&key(1), at(310))), (None, Some(half.clone())));
    let (key, found) = row(4);
    assert_eq!(l.read_again(&key, found), None, "there is room again");
    assert!(l.waits(399) && l.passed(400).len() == 2);
}

#[test]
fn older_chunks_need_no_filter() {
    let chunk = whole(50);
    assert!(Overlap::new(std::slice::from_ref(&chunk), None, 50).unwrap().is_none());
    assert!(Overlap::new(&[chunk], None, 49).unwrap().unwrap().contains(&key(1), at(49)));
}

/// A table that has caught up on its own has more than its chunks brought.
#[test]
fn what_committed_before_the_tables_own_place_is_left_out() {
    let chunks = [keys(None, Some(10), 100), keys(Some(10), None, 200)];
    let l = Overlap::new(&chunks, Some(150), 50).unwrap().unwrap();
    assert_eq!((l.lowest, l.highest), (150, 200));
    for (n, commit, verdict) in
        [(9, 149, Verdict::Skip), (9, 150, Verdict::Apply), (10, 199, Verdict::Skip), (10, 200, Verdict::Apply)]
    {
        assert_eq!(l.insert(&key(n), at(commit)), verdict, "{n} {commit}");
    }
    let l = Overlap::new(&[], Some(150), 50).unwrap().unwrap();
    assert_eq!((l.lowest, l.highest), (150, 150));
    assert_eq!(l.delete(&key(1), at(149)), Verdict::Skip);
    assert_eq!(l.delete(&key(1), at(150)), Verdict::Apply);
    assert!(l.done(150) && !l.done(149));
    assert!(Overlap::new(&[], Some(50), 50).unwrap().is_none());
}

#[test]
fn keys_from_text_and_binary_are_the_same_bound() {
    let text = bound(&Type::Int32, Wire::Int4, Field::Text(b"-7")).unwrap();
    assert_eq!(text, bound(&Type::Int32, Wire::Int4, Field::Binary(&(-7i32).to_be_bytes())).unwrap());
    assert_eq!(literal(Wire::Int4, Field::Binary(&(-7i32).to_be_bytes())).unwrap(), "'-7'");
    assert_eq!(literal(Wire::Text, Field::Text(b"it's")).unwrap(), "'it''s'");
    assert!(bound(&Type::Int32, Wire::Int4, Field::Null).is_err());
}

/// One change of rows that are told apart by a large value, which the log has only when it is new.
#[derive(Clone, Copy, Debug)]
enum Act {
    Insert(i64, u32),
    Delete(i64),
    Move(i64, i64),
}

/// Which row is under each key.
type Rows = BTreeMap<i64, u32>;

/// The transactions of a source, and its rows before the first and after each.
#[derive(Debug)]
struct History {
    transactions: Vec<Vec<Act>>,
    rows: Vec<Rows>,
    /// Given when transactions begin, so in another order than they commit in.
    xids: Vec<u32>,
}

const KEYS: i64 = 12;

/// Where the transaction of that number commits.
fn place(n: usize) -> u64 {
    100 * (n as u64 + 1)
}

impl History {
    fn of(wishes: &[Vec<(u8, i64, i64)>]) -> Self {
        let mut rows: Rows = (0..KEYS / 2).map(|key| (key, key as u32)).collect();
        let mut history = Self { transactions: Vec::new(), rows: vec![rows.clone()], xids: Vec::new() };
        let mut next = KEYS as u32;
        for wishes in wishes {
            let mut acts = Vec::new();
            for &(kind, from, to) in wishes {
                acts.extend(match (kind, rows.remove(&from)) {
                    (_, None) => {
                        next += 1;
                        rows.insert(from, next);
                        Some(Act::Insert(from, next))
                    }
                    (0, Some(_)) => Some(Act::Delete(from)),
                    (_, Some(row)) if rows.contains_key(&to) => {
                        rows.insert(from, row);
                        None
                    }
                    (_, Some(row)) => {
                        rows.insert(to, row);
                        Some(Act::Move(from, to))
                    }
                });
            }
            history.xids.push(1000 + (history.transactions.len() as u32 ^ 3));
            history.transactions.push(acts);
            history.rows.push(rows.clone());
        }
        history
    }

    /// What a session sees after the first `count` transactions.
    fn seen(&self, count: usize) -> Visibility {
        let running: Vec<String> = self.xids[count..].iter().map(u32::to_string).collect();
        Visibility::parse(&format!("1000:2000:{}", running.join(","))).unwrap()
    }
}

/// A target, and what its chunks were read at.
struct Target {
    rows: Rows,
    loaded: Overlap,
    /// How many transactions the last chunk had: nothing is read again before that was read.
    chunks: usize,
}

impl Target {
    /// Three ranges of keys, each read after so many transactions.
    fn load(history: &History, read_after: &[usize]) -> Option<Self> {
        let bounds = [None, Some(KEYS / 3), Some(KEYS / 3 * 2), None];
        let (mut rows, mut chunks) = (Rows::new(), Vec::new());
        for (n, after) in read_after.iter().enumerate() {
            let (lower, upper) = (bounds[n], bounds[n + 1]);
            let within = |key: &i64| lower.is_none_or(|l| *key >= l) && upper.is_none_or(|u| *key < u);
            rows.extend(history.rows[*after].iter().filter(|(key, _)| within(key)));
            chunks.push(keys(lower, upper, place(*after)));
        }
        let last = *read_after.iter().max()?;
        Some(Self { rows, loaded: Overlap::new(&chunks, None, 0).unwrap()?, chunks: last })
    }

    /// Takes in one change of transaction `n`; a row is read again after `later` more.
    fn take_in(&mut self, history: &History, n: usize, act: Act, later: usize) {
        let begin = Begin { final_lsn: place(n), time: 0, xid: history.xids[n] };
        if self.loaded.done(begin.final_lsn) {
            self.put_held(begin.final_lsn);
            return self.write(Verdict::Apply, act);
        }
        let (one, other) = match act {
            Act::Insert(k, _) | Act::Delete(k) => (k, k),
            Act::Move(from, to) => (from, to),
        };
        for k in [one, other] {
            self.loaded.due(&key(k), begin).into_iter().for_each(|row| self.put(&row));
        }
        let verdict = match act {
            Act::Insert(k, _) => self.loaded.insert(&key(k), begin),
            Act::Delete(k) => self.loaded.delete(&key(k), begin),
            Act::Move(from, to) => self.loaded.update(&key(from), &key(to), begin),
        };
        match (verdict, act) {
            (Verdict::PutNew, Act::Move(_, to)) => {
                let count = (n + 1 + later).min(history.transactions.len()).max(self.chunks);
                let row = history.rows[count].get(&to).map(|row| [&to.to_be_bytes()[..], &row.to_be_bytes()].concat());
                let found = Found { row: row.map(Bytes::from), seen: history.seen(count), until: place(count) };
                assert_eq!(self.loaded.read_again(&key(to), found), None);
            }
            _ => self.write(verdict, act),
        }
    }

    fn write(&mut self, verdict: Verdict, act: Act) {
        match (verdict, act) {
            (Verdict::Skip | Verdict::PutNew, _) => {}
            (_, Act::Insert(k, row)) => assert!(self.rows.insert(k, row).is_none(), "{k} is there already"),
            (_, Act::Delete(k)) => assert!(self.rows.remove(&k).is_some(), "{k} is not there"),
            (Verdict::Apply, Act::Move(from, to)) => {
                let row = self.rows.remove(&from).expect("what moves is there");
                assert!(self.rows.insert(to, row).is_none(), "{to} is there already");
            }
            (Verdict::DeleteOld, Act::Move(from, _)) => assert!(self.rows.remove(&from).is_some(), "{from}"),
        }
    }

    fn put(&mut self, row: &[u8]) {
        let (key, row) = row.split_at(8);
        let (key, row) = (i64::from_be_bytes(key.try_into().unwrap()), u32::from_be_bytes(row.try_into().unwrap()));
        assert!(self.rows.insert(key, row).is_none(), "{key} is there already");
    }

    fn put_held(&mut self, end: u64) {
        self.loaded.passed(end).iter().for_each(|row| self.put(row));
    }
}

proptest! {
    /// However rows move between ranges that were read at different places, and however late they are read again:
    /// behind every transaction the target has what the source had, but for rows that are still held.
    #[test]
    fn rows_end_where_the_source_has_them(
        wishes in vec(vec((0u8..8, 0..KEYS, 0..KEYS), 1..6), 20..40),
        read_after in vec(0usize..20, 3),
        later in vec(0usize..12, 200),
    ) {
        let history = History::of(&wishes);
        let Some(mut target) = Target::load(&history, &read_after) else { return Ok(()) };
        let mut later = later.into_iter().cycle();
        for (n, acts) in history.transactions.iter().enumerate() {
            for act in acts {
                target.take_in(&history, n, *act, later.next().unwrap());
            }
            let end = place(n) + 8;
            target.put_held(end);
            if end >= target.loaded.highest {
                let held = |key: &i64| target.loaded.again.contains_key(key.to_be_bytes().as_slice());
                let mut wanted = history.rows[n + 1].clone();
                wanted.retain(|key, _| target.rows.contains_key(key) || !held(key));
                prop_assert_eq!(&target.rows, &wanted, "after transaction {}", n);
            }
        }
        target.put_held(place(history.transactions.len()));
        prop_assert_eq!(&target.rows, history.rows.last().unwrap());
    }
}
