//! The assembler, driven by messages as the server would send them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use arrow_array::{Array, Int64Array, StringArray};
use proptest::prelude::*;
use trem_engine::Remedy;
use trem_engine::change::{ChangeBatch, ChangeSet, Step};
use trem_engine::chunk::LoadedChunk;
use trem_engine::ports::{StreamRole, StreamTable};
use trem_engine::position::Position;
use trem_engine::schema::{Identity, TableId};
use trem_engine::task::BatchLimits;

mod joining;
mod known;

use super::super::drift::Verdict;
use super::super::range::tests::{keys, whole};
use super::super::relation;
use super::super::relation::tests::{one_more, relation, table};
use super::super::visibility::Visibility;
use super::*;
use crate::postgres::types::Wire;

fn begin(commit: u64) -> Vec<u8> {
    let mut m = vec![b'B'];
    m.extend(commit.to_be_bytes());
    m.extend([0; 8]);
    m.extend([0, 0, 0, 1]);
    m
}

fn commit(at: u64) -> Vec<u8> {
    let mut m = vec![b'C', 0];
    m.extend(at.to_be_bytes());
    m.extend((at + 8).to_be_bytes());
    m.extend(1_000_000i64.to_be_bytes());
    m
}

fn described(r: &Relation) -> Vec<u8> {
    let mut m = vec![b'R'];
    m.extend(r.id.to_be_bytes());
    m.extend(format!("{}\0{}\0", r.schema, r.name).into_bytes());
    m.push(r.replica_identity);
    m.extend((r.columns.len() as u16).to_be_bytes());
    for c in &r.columns {
        m.push(u8::from(c.key));
        m.extend(format!("{}\0", c.name).into_bytes());
        m.extend(c.type_id.to_be_bytes());
        m.extend(c.modifier.to_be_bytes());
    }
    m
}

/// `None` is NULL, `"?"` a value that is not sent.
fn tuple(kind: u8, values: &[Option<&str>]) -> Vec<u8> {
    let mut m = vec![kind];
    m.extend((values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            None => m.push(b'n'),
            Some("?") => m.push(b'u'),
            Some(text) => {
                m.push(b't');
                m.extend((text.len() as u32).to_be_bytes());
                m.extend(text.as_bytes());
            }
        }
    }
    m
}

fn row(tag: u8, tuples: &[Vec<u8>]) -> Vec<u8> {
    let mut m = vec![tag, 0, 0, 0, 7];
    tuples.iter().for_each(|t| m.extend(t));
    m
}

fn insert(id: &str, v: &str) -> Vec<u8> {
    row(b'I', &[tuple(b'N', &[Some(id), Some(v)])])
}

/// An assembler, and what it fills.
struct Rig {
    assembler: Assembler,
    into: Gather,
}

impl Rig {
    fn message(&mut self, whole: &Bytes) -> Option<Need> {
        self.assembler.message(whole, whole, &mut self.into).unwrap()
    }

    fn reached(&mut self, end: u64) {
        self.assembler.reached(end, &mut self.into).unwrap();
    }

    fn reshape(&mut self, kind: SchemaChangeKind, wires: Vec<Wire>) {
        self.assembler.reshape(0, kind, wires, &mut self.into).unwrap();
    }

    fn take(&mut self) -> Option<ChangeSet> {
        self.into.take().unwrap()
    }

    fn between(&self) -> Option<u128> {
        self.into.between().map(Position::order)
    }
}

fn assembler(identity: Identity, loaded: Vec<LoadedChunk>, limits: BatchLimits) -> Rig {
    let mut schema = table();
    schema.identity = identity;
    assembler_of(vec![StreamTable { schema: Arc::new(schema), from: None, loaded }], limits)
}

fn assembler_of(tables: Vec<StreamTable>, limits: BatchLimits) -> Rig {
    let (from, expected, role) = (lsn::position(10), Vec::new(), StreamRole::Main);
    let into = Gather::new(limits, from.clone());
    let request = StreamRequest { from, tables, expected, role };
    let types = TypeBook::with([(20, Wire::Int8), (25, Wire::Text)]);
    Rig { assembler: Assembler::new(request, &types).unwrap(), into }
}

fn plain() -> Rig {
    assembler(Identity::Key, Vec::new(), BatchLimits::default())
}

fn give(a: &mut Rig, messages: &[Vec<u8>]) {
    for message in messages {
        let whole = Bytes::copy_from_slice(message);
        assert!(a.message(&whole).is_none());
    }
}

fn ids(batch: &ChangeBatch) -> Vec<i64> {
    batch.rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
}

fn batches(set: &ChangeSet) -> Vec<&ChangeBatch> {
    set.steps.iter().filter_map(|s| if let Step::Rows(b) = s { Some(b) } else { None }).collect()
}

#[test]
fn only_whole_transactions_are_given() {
    let mut a = plain();
    give(&mut a, &[begin(100), described(&relation()), insert("1", "a")]);
    assert!(!a.into.ready());
    assert!(a.take().is_none());
    give(&mut a, &[commit(100), begin(200), commit(200)]);
    let set = a.take().unwrap();
    assert_eq!((set.span.transactions, set.span.open, set.span.end.order()), (2, false, 208));
    assert_eq!(ids(batches(&set)[0]), [1]);
    assert!(set.span.bytes > 0 && set.span.committed_at.is_some());
    assert!(!a.into.ready());
}

#[test]
fn keepalives_move_the_position_between_transactions_only() {
    let mut a = plain();
    a.reached(50);
    assert_eq!(a.take().unwrap().span.end.order(), 50);
    give(&mut a, &[begin(100)]);
    a.reached(90);
    assert!(!a.into.ready());
    give(&mut a, &[commit(100)]);
    a.reached(60);
    assert_eq!(a.take().unwrap().span.end.order(), 108);
}

#[test]
fn what_the_target_has_already_is_left_out() {
    let mut a = plain();
    give(&mut a, &[begin(9), described(&relation()), insert("1", "a"), commit(9), begin(10), insert("2", "b")]);
    give(&mut a, &[commit(10)]);
    assert_eq!(ids(batches(&a.take().unwrap())[0]), [2]);
}

/// Of two sessions one reads up to a place and one from there on; both may send the commit behind it.
#[test]
fn what_was_read_up_to_a_place_is_not_taken_in_again() {
    let mut a = plain();
    let first = [begin(100), described(&relation()), insert("1", "a"), commit(100)];
    give(&mut a, &first);
    a.assembler.read_up_to(108, &mut a.into).unwrap();
    give(&mut a, &first);
    give(&mut a, &[begin(108), insert("2", "b"), commit(108)]);
    let set = a.take().unwrap();
    assert_eq!((ids(batches(&set)[0]), set.span.transactions, set.span.end.order()), (vec![1, 2], 2, 116));
}

#[test]
fn a_large_transaction_is_split_and_closed() {
    let limits = BatchLimits { max_rows: 2, ..BatchLimits::default() };
    let mut a = assembler(Identity::Key, Vec::new(), limits);
    give(&mut a, &[begin(100), described(&relation())]);
    for id in ["1", "2", "3"] {
        give(&mut a, &[insert(id, "a")]);
        assert!(!a.into.full());
    }
    give(&mut a, &[insert("4", "a")]);
    assert!(a.into.full() && a.into.ready());
    let set = a.take().unwrap();
    assert_eq!((set.span.open, set.span.transactions, set.span.end.order(), set.rows()), (true, 0, 10, 4));
    give(&mut a, &[commit(100)]);
    let set = a.take().unwrap();
    assert_eq!((set.span.open, set.span.transactions, set.span.end.order(), set.rows()), (false, 1, 108, 0));
}

#[test]
fn unknown_is_not_null_and_a_deleted_row_is_its_key() {
    let mut a = plain();
    let update = row(b'U', &[tuple(b'K', &[Some("1"), None]), tuple(b'N', &[Some("2"), Some("?")])]);
    let delete = row(b'D', &[tuple(b'K', &[Some("3"), None])]);
    let null = row(b'U', &[tuple(b'N', &[Some("4"), None])]);
    give(&mut a, &[begin(100), described(&relation()), update, delete, null, commit(100)]);
    let set = a.take().unwrap();
    let batch = batches(&set)[0];
    assert_eq!(batch.ops, [Op::Update, Op::Delete, Op::Update]);
    assert_eq!(ids(batch), [2, 3, 4]);
    assert!(batch.mask(0).contains(1) && batch.mask(1).contains(1) && batch.mask(2).is_empty());
    let old = batch.old.as_ref().unwrap();
    assert_eq!((old.rows.as_slice(), old.images.num_columns()), (&[0][..], 1));
    assert!(batch.rows.column(1).is_null(2));
}

#[test]
fn a_full_image_fills_what_was_not_sent() {
    let mut a = assembler(Identity::KeyWithFullImage, Vec::new(), BatchLimits::default());
    let mut full = relation();
    full.replica_identity = b'f';
    let update = row(b'U', &[tuple(b'O', &[Some("1"), Some("long")]), tuple(b'N', &[Some("1"), Some("?")])]);
    give(&mut a, &[begin(100), described(&full), update, commit(100)]);
    let set = a.take().unwrap();
    let batch = batches(&set)[0];
    let text = batch.rows.column(1).as_any().downcast_ref::<StringArray>().unwrap();
    assert_eq!(text.value(0), "long");
    assert!(batch.mask(0).is_empty());
    assert_eq!(batch.old.as_ref().unwrap().images.num_columns(), 2);
}

/// A partition made later has its own identity, whatever that of the partitioned table.
#[test]
fn a_key_alone_under_a_full_image_leaves_the_rest_unknown() {
    let mut a = assembler(Identity::KeyWithFullImage, Vec::new(), BatchLimits::default());
    let mut full = relation();
    full.replica_identity = b'f';
    // The server takes the mark from the partitioned table.
    let update = row(b'U', &[tuple(b'O', &[Some("1"), None]), tuple(b'N', &[Some("2"), Some("?")])]);
    let delete = row(b'D', &[tuple(b'K', &[Some("3"), None])]);
    give(&mut a, &[begin(100), described(&full), update, delete, commit(100)]);
    let set = a.take().unwrap();
    let batch = batches(&set)[0];
    assert_eq!((ids(batch), batch.ops.as_slice()), (vec![2, 3], &[Op::Update, Op::Delete][..]));
    assert!(batch.mask(0).contains(1) && batch.mask(1).contains(1));
}

#[test]
fn a_row_that_the_log_does_not_identify_suspends() {
    let mut full = relation();
    full.replica_identity = b'f';
    let unidentified = [
        (Identity::Full, row(b'U', &[tuple(b'N', &[Some("1"), Some("b")])])),
        (Identity::Full, row(b'D', &[tuple(b'K', &[Some("1"), None])])),
        (Identity::KeyWithFullImage, row(b'D', &[tuple(b'K', &[None, Some("x")])])),
    ];
    for (identity, message) in unidentified {
        let mut a = assembler(identity, Vec::new(), BatchLimits::default());
        give(&mut a, &[begin(100), described(&full), message, commit(100)]);
        let set = a.take().unwrap();
        let [Step::Schema(change)] = set.steps.as_slice() else { panic!("{set:?}") };
        assert!(matches!(&change.kind, SchemaChangeKind::Suspend { reason, .. } if reason.contains("partition")));
    }
}

#[test]
fn a_truncate_stands_between_what_was_before_and_after() {
    let mut a = plain();
    let truncate = vec![b'T', 0, 0, 0, 2, 3, 0, 0, 0, 7, 0, 0, 0, 99];
    let mut other = relation();
    (other.id, other.name) = (99, "not ours".to_owned());
    give(&mut a, &[begin(100), described(&relation()), described(&other), insert("1", "a"), truncate]);
    give(&mut a, &[insert("2", "b"), commit(100)]);
    let set = a.take().unwrap();
    let [Step::Rows(before), Step::Truncate(t), Step::Rows(after)] = set.steps.as_slice() else { panic!("{set:?}") };
    assert_eq!((ids(before), ids(after)), (vec![1], vec![2]));
    assert!(t.cascade && t.restart_identity && t.tables.len() == 1);
}

#[test]
fn a_changed_shape_suspends_once() {
    let mut a = plain();
    let mut renamed = relation();
    renamed.columns[1].name = "w".to_owned();
    give(&mut a, &[begin(100), described(&relation()), insert("1", "a"), described(&renamed), insert("2", "b")]);
    give(&mut a, &[insert("3", "c"), commit(100)]);
    let set = a.take().unwrap();
    let [Step::Rows(_), Step::Schema(change)] = set.steps.as_slice() else { panic!("{set:?}") };
    let SchemaChangeKind::Suspend { reason, remedy } = &change.kind else { panic!("{change:?}") };
    assert!(reason.contains("column v was dropped or renamed"), "{reason}");
    assert_eq!(*remedy, Remedy::Reload(TableId::new("s", "t")));
}

#[test]
fn added_columns_are_asked_for_and_then_the_row_comes_again() {
    let mut a = plain();
    let mut more = relation();
    let mut column = more.columns[1].clone();
    column.name = "w".to_owned();
    more.columns.push(column);
    give(&mut a, &[begin(100), described(&more)]);
    let message = Bytes::from(row(b'I', &[tuple(b'N', &[Some("1"), Some("a"), Some("b")])]));
    let Some(Need::Added { table: 0, .. }) = a.message(&message) else { panic!("no need") };
    a.reshape(one_more(), vec![Wire::Int8, Wire::Text, Wire::Text]);
    give(&mut a, &[message.to_vec(), commit(100)]);
    let set = a.take().unwrap();
    let [Step::Schema(_), Step::Rows(rows)] = set.steps.as_slice() else { panic!("{set:?}") };
    assert_eq!(rows.rows.num_columns(), 3);
}

/// A COPY row of this key.
fn copied(id: i64) -> Bytes {
    Bytes::from([b"\0\x02\0\0\0\x08", id.to_be_bytes().as_slice(), b"\0\0\0\x01x"].concat())
}

/// Keys below 10 were read at 10, those from there on at 200.
fn two_ranges() -> Vec<LoadedChunk> {
    vec![keys(None, Some(10), 10), keys(Some(10), None, 200)]
}

#[test]
fn a_row_that_no_chunk_has_is_read_again() {
    let mut a = assembler(Identity::Key, two_ranges(), BatchLimits::default());
    let moved = row(b'U', &[tuple(b'K', &[Some("20"), None]), tuple(b'N', &[Some("2"), Some("?")])]);
    let again = row(b'U', &[tuple(b'K', &[Some("2"), None]), tuple(b'N', &[Some("3"), Some("?")])]);
    give(&mut a, &[begin(100), described(&relation())]);
    let whole = Bytes::from(moved);
    let Some(Need::Row { key, .. }) = a.message(&whole) else { panic!("no need") };
    assert_eq!(key, ["'2'"]);
    let seen = Visibility::parse("2:2:").unwrap();
    a.assembler.found(Found { row: None, seen: seen.clone(), until: 300 });
    assert!(a.message(&whole).is_none());
    let whole = Bytes::from(again);
    let Some(Need::Row { key, .. }) = a.message(&whole) else { panic!("no need") };
    assert_eq!(key, ["'3'"]);
    a.assembler.found(Found { row: Some(copied(3)), seen, until: 400 });
    assert!(a.message(&whole).is_none());
    give(&mut a, &[commit(100)]);
    // It may be too new: the target's transaction stays open, and lacks it, until the log is where it was read.
    let set = a.take().unwrap();
    assert!(set.span.open && set.span.committed_at.is_some() && batches(&set).is_empty());
    a.reached(399);
    assert!(a.take().unwrap().span.open);
    a.reached(400);
    let set = a.take().unwrap();
    let batch = batches(&set)[0];
    assert_eq!((batch.ops.as_slice(), ids(batch)), (&[Op::Insert][..], vec![3]));
    assert!(!set.span.open && set.span.committed_at.is_some());
}

/// A row that moved from a range read late to one read early, and was read again up to the place 300.
fn waiting() -> Rig {
    let mut a = assembler(Identity::Key, two_ranges(), BatchLimits::default());
    give(&mut a, &[begin(100), described(&relation())]);
    let moved = Bytes::from(row(b'U', &[tuple(b'K', &[Some("20"), None]), tuple(b'N', &[Some("2"), Some("?")])]));
    assert!(matches!(a.message(&moved), Some(Need::Row { table: 0, .. })));
    a.assembler.found(Found { row: Some(copied(2)), seen: Visibility::parse("2:2:").unwrap(), until: 300 });
    assert!(a.message(&moved).is_none());
    give(&mut a, &[commit(100)]);
    a
}

#[test]
fn a_held_row_is_there_before_what_was_not_seen() {
    let mut a = waiting();
    let unseen = |commit: u64| [&begin(commit)[..17], &[0, 0, 0, 2]].concat();
    let delete = row(b'D', &[tuple(b'K', &[Some("2"), None])]);
    give(&mut a, &[begin(150), delete.clone(), commit(150), unseen(160), delete, commit(160)]);
    let set = a.take().unwrap();
    assert_eq!((batches(&set)[0].ops.as_slice(), ids(batches(&set)[0])), (&[Op::Insert, Op::Delete][..], vec![2, 2]));
    // And the others when a transaction begins behind them.
    let mut a = waiting();
    give(&mut a, &[unseen(350), insert("5", "a"), commit(350)]);
    let set = a.take().unwrap();
    assert_eq!((ids(batches(&set)[0]), set.span.open), (vec![2, 5], false));
}

#[test]
fn a_column_added_while_rows_are_held_loads_the_table_anew() {
    let mut a = waiting();
    a.reshape(one_more(), vec![Wire::Int8, Wire::Text, Wire::Text]);
    let set = a.take().unwrap();
    let [Step::Schema(change)] = set.steps.as_slice() else { panic!("{set:?}") };
    assert!(matches!(&change.kind, SchemaChangeKind::Reload { reason } if reason.contains("column")), "{change:?}");
    assert!(!set.span.open);
}

#[test]
fn an_older_shape_before_the_snapshot_does_not_matter() {
    let loaded = vec![whole(150)];
    let mut a = assembler(Identity::Key, loaded, BatchLimits::default());
    let mut older = relation();
    older.columns.pop();
    let message = row(b'I', &[tuple(b'N', &[Some("1")])]);
    give(&mut a, &[begin(100), described(&older), message, commit(100)]);
    give(&mut a, &[begin(160), described(&relation()), insert("2", "b"), commit(160)]);
    let set = a.take().unwrap();
    assert_eq!(set.steps.len(), 1);
    assert_eq!(ids(batches(&set)[0]), [2]);
}

#[test]
fn a_table_that_is_gone_is_suspended_behind_its_last_change() {
    let mut a = plain();
    assert_eq!(a.assembler.followed().len(), 1);
    let of = Arc::clone(&a.assembler.followed()[0].1);
    let lost = |place, reason: &str| {
        let verdict = Verdict::Change(relation::suspend(&of, reason.to_owned()));
        Lost { index: 0, of: Arc::clone(&of), place, verdict }
    };
    a.assembler.is_lost(lost(150, "it was dropped"));
    a.assembler.is_lost(lost(190, "again"));
    give(&mut a, &[begin(100), described(&relation()), insert("1", "a"), commit(100)]);
    a.reached(160);
    a.reached(200);
    let set = a.take().unwrap();
    let [Step::Rows(_), Step::Schema(change)] = set.steps.as_slice() else { panic!("{set:?}") };
    assert!(matches!(&change.kind, SchemaChangeKind::Suspend { reason, .. } if reason.contains("dropped")));
    assert!(a.assembler.followed().is_empty());
}

/// A renamed table that was taken in under its new name too: two records with one number.
#[test]
fn two_records_of_one_table_do_not_take_each_others_rows() {
    let mut new = table();
    new.id = trem_engine::schema::TableId::new("s", "u");
    let chunk = whole(150);
    let tables = vec![
        StreamTable { schema: Arc::new(table()), from: None, loaded: Vec::new() },
        StreamTable { schema: Arc::new(new), from: None, loaded: vec![chunk] },
    ];
    let mut a = assembler_of(tables, BatchLimits::default());
    let mut renamed = relation();
    renamed.name = "u".to_owned();
    give(&mut a, &[begin(100), described(&relation()), insert("1", "a"), commit(100)]);
    give(&mut a, &[begin(200), described(&renamed), insert("2", "b"), insert("3", "c"), commit(200)]);
    let set = a.take().unwrap();
    let [Step::Rows(old), Step::Schema(change), Step::Rows(new)] = set.steps.as_slice() else { panic!("{set:?}") };
    assert_eq!((old.table.id.table.as_str(), ids(old)), ("t", vec![1]));
    assert_eq!((new.table.id.table.as_str(), ids(new)), ("u", vec![2, 3]));
    assert_eq!(change.table.id.table, "t");
    assert!(matches!(&change.kind, SchemaChangeKind::Suspend { reason, .. } if reason.contains("renamed to s.u")));
}

proptest! {
    #[test]
    fn no_row_is_lost_or_doubled_wherever_sets_are_cut(
        transactions in proptest::collection::vec(0usize..9, 1..12),
        max_rows in 1usize..6,
        takes in proptest::collection::vec(any::<bool>(), 120),
    ) {
        let limits = BatchLimits { max_rows, ..BatchLimits::default() };
        let mut a = assembler(Identity::Key, Vec::new(), limits);
        let mut takes = takes.into_iter().cycle();
        let (mut next, mut got, mut ended, mut open) = (0i64, Vec::new(), 0, false);
        let mut messages = Vec::new();
        for (n, rows) in transactions.iter().enumerate() {
            let at = 100 * (n as u64 + 1);
            messages.push(begin(at));
            messages.push(described(&relation()));
            for _ in 0..*rows {
                messages.push(insert(&next.to_string(), "v"));
                next += 1;
            }
            messages.push(commit(at));
        }
        for message in messages {
            give(&mut a, &[message]);
            if a.into.full() || takes.next() == Some(true) {
                let inside = a.assembler.in_transaction();
                if let Some(set) = a.take() {
                    prop_assert_eq!(set.span.open, inside);
                    open = set.span.open;
                    ended += set.span.transactions;
                    batches(&set).into_iter().for_each(|b| got.extend(ids(b)));
                }
            }
        }
        if let Some(set) = a.take() {
            open = set.span.open;
            ended += set.span.transactions;
            batches(&set).into_iter().for_each(|b| got.extend(ids(b)));
        }
        prop_assert!(!open);
        prop_assert_eq!(ended as usize, transactions.len());
        prop_assert_eq!(got, (0..next).collect::<Vec<_>>());
    }
}
