//! Tables that come to a stream that is under way, and tables that leave it.

use trem_engine::schema::TableId;

use super::*;

fn types() -> TypeBook {
    TypeBook::with([(20, Wire::Int8), (25, Wire::Text)])
}

fn joining(from: Option<u64>, loaded: Vec<LoadedChunk>) -> Vec<StreamTable> {
    vec![StreamTable { schema: Arc::new(table()), from: from.map(lsn::position), loaded }]
}

fn leave() -> SchemaChangeKind {
    SchemaChangeKind::Reload { reason: "asked for".to_owned() }
}

/// The rows of a set, by their keys.
fn taken(a: &mut Rig) -> Vec<i64> {
    let set = a.take().unwrap();
    batches(&set).into_iter().flat_map(ids).collect()
}

#[test]
fn a_table_is_delivered_from_where_it_joins() {
    let mut a = assembler_of(Vec::new(), BatchLimits::default());
    assert_eq!(a.between(), Some(10));
    give(&mut a, &[begin(100), described(&relation()), insert("1", "a")]);
    assert_eq!(a.between(), None, "inside of a transaction");
    give(&mut a, &[commit(100)]);
    assert_eq!(a.between(), Some(108));
    a.assembler.add(joining(None, Vec::new()), &types()).unwrap();
    assert_eq!(a.assembler.followed().len(), 1);
    // The server has said what the table is like, and does not say it again.
    give(&mut a, &[begin(200), insert("2", "b"), commit(200)]);
    assert_eq!(taken(&mut a), [2]);
}

#[test]
fn a_table_that_joins_brings_its_chunks_and_its_place() {
    let chunk = whole(250);
    for (from, loaded) in [(None, vec![chunk.clone()]), (Some(250), Vec::new()), (Some(220), vec![chunk])] {
        let mut a = assembler_of(Vec::new(), BatchLimits::default());
        give(&mut a, &[begin(100), described(&relation()), commit(100)]);
        a.assembler.add(joining(from, loaded), &types()).unwrap();
        give(&mut a, &[begin(200), insert("2", "b"), commit(200), begin(300), insert("3", "c"), commit(300)]);
        assert_eq!(taken(&mut a), [3], "{from:?}");
    }
}

#[test]
fn what_the_log_has_said_of_a_table_before_it_joins_is_looked_at() {
    let mut a = assembler_of(Vec::new(), BatchLimits::default());
    let mut other = relation();
    other.columns[1].type_id = 20;
    give(&mut a, &[begin(100), described(&other), commit(100)]);
    a.assembler.add(joining(None, Vec::new()), &types()).unwrap();
    give(&mut a, &[begin(200), insert("2", "3"), commit(200)]);
    let set = a.take().unwrap();
    let [Step::Schema(change)] = set.steps.as_slice() else { panic!("{set:?}") };
    assert!(matches!(&change.kind, SchemaChangeKind::Suspend { .. }), "{change:?}");
}

#[test]
fn what_leaves_is_delivered_up_to_there_and_may_come_back() {
    let mut a = plain();
    give(&mut a, &[begin(100), described(&relation()), insert("1", "a"), commit(100)]);
    a.assembler.withdraw(&TableId::new("s", "nobody's"), leave(), &mut a.into).unwrap();
    a.assembler.withdraw(&table().id, leave(), &mut a.into).unwrap();
    // It is gone already.
    a.assembler.withdraw(&table().id, leave(), &mut a.into).unwrap();
    give(&mut a, &[begin(200), insert("2", "b"), commit(200)]);
    let set = a.take().unwrap();
    let [Step::Rows(rows), Step::Schema(change)] = set.steps.as_slice() else { panic!("{set:?}") };
    assert_eq!(ids(rows), [1]);
    assert!(matches!(&change.kind, SchemaChangeKind::Reload { reason } if reason == "asked for"), "{change:?}");
    assert_eq!((set.span.transactions, set.span.end.order()), (2, 208));
    assert!(a.assembler.followed().is_empty());

    a.assembler.add(joining(Some(300), Vec::new()), &types()).unwrap();
    give(&mut a, &[begin(250), insert("3", "c"), commit(250), begin(300), insert("4", "d"), commit(300)]);
    assert_eq!(taken(&mut a), [4]);
    assert_eq!(a.assembler.followed().len(), 1);
}

/// A row that was read again is ahead of the log: nobody meets the stream there.
#[test]
fn a_row_that_is_waited_for_is_between_no_two_transactions() {
    let mut a = waiting();
    assert_eq!(a.between(), None);
    a.reached(300);
    assert_eq!(a.between(), Some(300));
}
