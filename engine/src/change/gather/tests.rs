//! Sets within limits, cut where they may be.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::change::{ColumnMask, Op};
use crate::schema::{Column, Dialect, Identity, Native, SchemaChangeKind, TableId};
use crate::types::Type;

fn table(name: &str) -> Arc<TableSchema> {
    let native = Native { dialect: Dialect::new("test"), name: "int8".to_owned(), detail: String::new() };
    let column = Column { name: "id".to_owned(), ty: Type::Int64, native, nullable: false, omissible: false };
    Arc::new(TableSchema {
        id: TableId::new("s", name),
        native_id: None,
        columns: vec![column],
        key: vec![0],
        primary_key: vec![0],
        identity: Identity::Key,
        generated: Vec::new(),
        history: Default::default(),
    })
}

fn at(n: u128) -> Position {
    Position::new(n, n.to_string())
}

fn gather(max_rows: usize) -> Gather {
    Gather::new(BatchLimits { max_rows, ..BatchLimits::default() }, at(10))
}

fn put(into: &mut Gather, number: usize, table: &Arc<TableSchema>, id: i64) {
    put_large(into, number, table, id, 8);
}

fn put_large(into: &mut Gather, number: usize, table: &Arc<TableSchema>, id: i64, bytes: usize) {
    let put = |batch: &mut BatchBuilder| {
        batch.columns()[0].push_i64(id)?;
        batch.end_row(Op::Insert, &ColumnMask::default())
    };
    into.row(number, table, bytes, put).unwrap();
}

fn suspend(table: &Arc<TableSchema>) -> SchemaChange {
    SchemaChange { table: Arc::clone(table), kind: SchemaChangeKind::Reload { reason: "asked for".to_owned() } }
}

/// Each step: a table's rows, or what else it is.
fn steps(set: &ChangeSet) -> Vec<(String, Vec<i64>)> {
    let steps = set.steps.iter().map(|step| match step {
        Step::Rows(b) => (b.table.id.table.clone(), b.rows.column(0).as_primitive::<Int64Type>().values().to_vec()),
        Step::Truncate(t) => (format!("truncate {}", t.tables.len()), Vec::new()),
        Step::Schema(c) => (format!("schema {}", c.table.id.table), Vec::new()),
    });
    steps.collect()
}

fn commit(time: Option<SystemTime>) -> Commit {
    Commit { position: at(1), at: time, transaction: "1".to_owned() }
}

fn rows(name: &str, ids: &[i64]) -> (String, Vec<i64>) {
    (name.to_owned(), ids.to_vec())
}

#[test]
fn a_set_is_whole_transactions() {
    let (t, mut g) = (table("t"), gather(100));
    assert!(!g.ready() && g.take().unwrap().is_none());
    assert_eq!(g.between(), Some(&at(10)));
    g.begin(commit(Some(SystemTime::UNIX_EPOCH)));
    put(&mut g, 0, &t, 1);
    assert!(!g.ready() && g.take().unwrap().is_none() && g.between().is_none());
    g.commit(at(20), true);
    g.begin(commit(None));
    put(&mut g, 0, &t, 2);
    // Part of the next is there: the first must wait for it.
    assert!(g.take().unwrap().is_none());
    g.commit(at(30), true);
    assert_eq!(g.between(), Some(&at(30)));
    let set = g.take().unwrap().unwrap();
    assert_eq!(steps(&set), [rows("t", &[1, 2])]);
    let span = &set.span;
    assert_eq!((span.end.order(), span.transactions, span.open, span.committed_at), (30, 2, false, None));
    assert!(span.bytes > 0);
    assert!(!g.ready() && g.take().unwrap().is_none());
}

#[test]
fn a_position_moves_on_without_changes() {
    let mut g = gather(100);
    g.reached(at(10));
    assert!(!g.ready());
    g.reached(at(50));
    g.reached(at(40));
    let set = g.take().unwrap().unwrap();
    assert_eq!((set.span.end.order(), set.steps.len(), set.span.transactions), (50, 0, 0));
    g.begin(commit(Some(SystemTime::UNIX_EPOCH)));
    g.reached(at(60));
    assert!(!g.ready(), "a transaction has begun before it");
    g.commit(at(70), false);
    let set = g.take().unwrap().unwrap();
    assert_eq!((set.span.end.order(), set.span.transactions), (70, 0), "the target had it");
    assert!(set.span.committed_at.is_some());
}

#[test]
fn a_large_transaction_comes_in_parts() {
    let (t, mut g) = (table("t"), gather(2));
    g.begin(commit(Some(SystemTime::UNIX_EPOCH)));
    for id in 1..4 {
        put(&mut g, 0, &t, id);
        assert!(!g.full(), "there is as much room again inside of a transaction");
    }
    put(&mut g, 0, &t, 4);
    assert!(g.full() && g.ready());
    let set = g.take().unwrap().unwrap();
    assert_eq!((set.rows(), set.span.open, set.span.end.order(), set.span.transactions), (4, true, 10, 0));
    assert!(!g.full() && g.between().is_none());
    // With nothing left of it, its end is to come all the same.
    g.commit(at(20), true);
    let set = g.take().unwrap().unwrap();
    assert_eq!((set.rows(), set.span.open, set.span.end.order(), set.span.transactions), (0, false, 20, 1));
    // Between transactions it is full sooner.
    g.begin(commit(None));
    (5..7).for_each(|id| put(&mut g, 0, &t, id));
    assert!(!g.full());
    g.commit(at(30), true);
    assert!(g.full());
}

#[test]
fn bytes_are_a_limit_too() {
    let (t, limits) = (table("t"), BatchLimits { max_bytes: 1000, ..BatchLimits::default() });
    let mut g = Gather::new(limits, at(10));
    g.begin(commit(None));
    put_large(&mut g, 0, &t, 1, 1000);
    assert!(!g.full());
    g.commit(at(20), true);
    assert!(g.full());
    assert_eq!(g.take().unwrap().unwrap().rows(), 1);
    g.begin(commit(None));
    let mut count = 0;
    while !g.full() {
        put_large(&mut g, 0, &t, count, 0);
        count += 1;
    }
    // Whatever a row's values take, it takes 8 bytes for the number and some of its own.
    assert!((20..2000 / 8).contains(&count), "{count}");
}

#[test]
fn what_is_not_rows_stands_between_rows() {
    let (t, u, mut g) = (table("t"), table("u"), gather(100));
    g.begin(commit(None));
    put(&mut g, 0, &t, 1);
    put(&mut g, 1, &u, 2);
    put(&mut g, 0, &t, 3);
    let emptied = |tables| Truncate { tables, cascade: false, restart_identity: false, commit: None };
    g.truncate(emptied(Vec::new())).unwrap();
    put(&mut g, 1, &u, 4);
    g.truncate(emptied(vec![Arc::clone(&t)])).unwrap();
    put(&mut g, 0, &t, 5);
    g.schema(suspend(&u)).unwrap();
    g.commit(at(20), true);
    let wanted =
        [rows("t", &[1, 3]), rows("u", &[2, 4]), rows("truncate 1", &[]), rows("t", &[5]), rows("schema u", &[])];
    assert_eq!(steps(&g.take().unwrap().unwrap()), wanted);
    // A step that comes between two transactions is to be taken, though the position has not moved.
    g.schema(suspend(&t)).unwrap();
    assert!(g.ready());
    assert_eq!(g.take().unwrap().unwrap().span.end.order(), 20);
}

#[test]
fn rows_of_another_shape_are_another_batch() {
    let (mut wide, t, mut g) = ((*table("t")).clone(), table("t"), gather(100));
    wide.columns.push(Column { name: "more".to_owned(), nullable: true, ..wide.columns[0].clone() });
    let wide = Arc::new(wide);
    g.begin(commit(None));
    put(&mut g, 0, &t, 1);
    let put_wide = |batch: &mut BatchBuilder| {
        batch.columns()[0].push_i64(2)?;
        batch.columns()[1].push_null();
        batch.end_row(Op::Insert, &ColumnMask::default())
    };
    g.row(0, &wide, 16, put_wide).unwrap();
    g.commit(at(20), true);
    let set = g.take().unwrap().unwrap();
    assert_eq!(steps(&set), [rows("t", &[1]), rows("t", &[2])]);
}

#[test]
fn a_large_row_is_a_batch_of_its_own() {
    let (t, mut g) = (table("t"), gather(100));
    g.begin(commit(None));
    put(&mut g, 0, &t, 1);
    put_large(&mut g, 0, &t, 2, LARGE_ROW);
    put(&mut g, 0, &t, 3);
    g.commit(at(20), true);
    assert_eq!(steps(&g.take().unwrap().unwrap()), [rows("t", &[1]), rows("t", &[2]), rows("t", &[3])]);
}

#[test]
fn a_set_stays_open_while_the_target_lacks_something() {
    let (t, mut g) = (table("t"), gather(100));
    g.begin(commit(Some(SystemTime::UNIX_EPOCH)));
    put(&mut g, 0, &t, 1);
    g.hold(true);
    g.commit(at(20), true);
    assert_eq!(g.between(), None);
    let set = g.take().unwrap().unwrap();
    assert!(set.span.open && set.span.committed_at.is_some());
    assert!(!g.ready());
    g.reached(at(30));
    assert!(g.take().unwrap().unwrap().span.open);
    g.hold(false);
    assert_eq!(g.between(), Some(&at(30)));
    // Nothing else has to come for the target's transaction to end.
    let set = g.take().unwrap().unwrap();
    assert!(!set.span.open && set.steps.is_empty() && set.span.end.order() == 30);
    assert!(set.span.committed_at.is_some(), "when the transaction before it committed");
    assert!(!g.ready());
}

proptest! {
    /// Wherever sets are taken: every row once, in order, and an open set exactly where a transaction is not over.
    #[test]
    fn no_row_is_lost_or_doubled(
        transactions in proptest::collection::vec(0usize..9, 1..12),
        max_rows in 1usize..6,
        takes in proptest::collection::vec(any::<bool>(), 120),
    ) {
        let (tables, mut g) = ([table("t"), table("u")], gather(max_rows));
        let (mut takes, mut next) = (takes.into_iter().cycle(), 0i64);
        let (mut got, mut ended, mut open) = ([Vec::new(), Vec::new()], 0, false);
        let mut take = |g: &mut Gather, inside: bool| {
            let Some(set) = g.take().unwrap() else { return };
            assert_eq!(set.span.open, inside);
            open = set.span.open;
            ended += set.span.transactions as usize;
            for (name, ids) in steps(&set) {
                got[usize::from(name == "u")].extend(ids);
            }
        };
        for (n, count) in transactions.iter().enumerate() {
            g.begin(commit(None));
            for _ in 0..*count {
                put(&mut g, next as usize % 2, &tables[next as usize % 2], next);
                next += 1;
                if g.full() || takes.next() == Some(true) {
                    take(&mut g, true);
                }
            }
            g.commit(at(100 + n as u128), true);
            if takes.next() == Some(true) {
                take(&mut g, false);
            }
        }
        take(&mut g, false);
        prop_assert!(!open);
        prop_assert_eq!(ended, transactions.len());
        for (n, got) in got.iter().enumerate() {
            prop_assert_eq!(got, &(n as i64..next).step_by(2).collect::<Vec<_>>());
        }
    }
}
