//! The suite that every pair of adapters runs: the same cases, through the ports and through the runner.
//!
//! An adapter's tests implement [`Rig`] and call [`crate::conformance!`] with what makes one.

mod dialects;
mod renames;
mod rig;

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::convert;
use super::generate;
use super::model::{Database, Event, ModelTable, Row};
use crate::change::{BatchBuilder, ChangeBatch, ColumnMask, Op, ReducedSet, Reducer, Span};
use crate::error::{Class, Error};
use crate::ports::{SnapshotKind, TargetLane};
use crate::position::{Checkpoint, Lineage, Position};
use crate::record::{LaneId, RecordChange, TableRecord, TableState};
use crate::schema::TableId;
use crate::task::OnExisting;

pub use dialects::*;
pub use renames::*;
pub use rig::{Rig, plan, sorted};
use rig::{body, catch_up, delete, insert, int, row, set, table, take_over, text};

/// Makes a test of every case. `$rig` is an expression to be awaited that makes a [`conformance::Rig`](Rig).
#[macro_export]
macro_rules! conformance {
    ($rig:expr) => {
        $crate::conformance!(@cases $rig,
            full_load_then_changes,
            key_swaps_and_chains,
            unchanged_big_values_are_kept,
            truncate_between_changes,
            empty_transactions_move_the_checkpoint,
            a_restart_goes_on_from_the_checkpoint,
            the_last_lane_wins,
            an_open_set_is_invisible_until_it_is_closed,
            rows_and_checkpoint_commit_together,
            another_history_is_refused,
            a_drop_leaves_nothing_and_may_be_repeated,
            a_reloaded_table_is_read_again,
            every_type_arrives_from_another_dialect,
            columns_of_every_type_are_added_from_another_dialect,
            types_that_would_be_lost_are_refused,
            renamed_tables_follow_their_sources,
            renamed_tables_are_truncated_with_others,
            columns_added_to_renamed_tables_are_renamed,
            tables_may_trade_their_names,
            a_traded_table_that_does_not_fit_is_left_out,
            suspended_renamed_tables_are_told_by_both_names,
            two_tables_never_become_one,
            random_transactions,
        );
    };
    (@cases $rig:expr, $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let rig = $rig.await;
                $crate::testkit::conformance::$case(&rig).await;
            }
        )*
    };
}

async fn assert_equal(rig: &dyn Rig, t: &ModelTable) {
    assert_eq!(rig.target_rows(t).await, rig.source_rows(t).await, "{} differs", t.id);
}

/// Rows that are there before, and changes that come after.
pub async fn full_load_then_changes(rig: &dyn Rig) {
    let (a, b) = (table("a"), table("b"));
    rig.create(&a).await;
    rig.create(&b).await;
    rig.commit(&(0..50).map(|id| insert(&a, id)).collect::<Vec<_>>()).await;
    catch_up(rig).await;
    assert_equal(rig, &a).await;
    rig.commit(&[insert(&b, 1), set(&a, 1, [(1, None), (3, int(-1))]), delete(&a, 2)]).await;
    rig.commit(&[insert(&a, 100), set(&a, 100, [(3, int(5))]), delete(&b, 1), insert(&b, 1)]).await;
    rig.commit(&[insert(&b, 2), delete(&b, 2)]).await;
    catch_up(rig).await;
    assert_equal(rig, &a).await;
    assert_equal(rig, &b).await;
    assert_eq!(rig.target_rows(&b).await.len(), 1);
}

/// A key change is one change: no stale row, whatever the order.
pub async fn key_swaps_and_chains(rig: &dyn Rig) {
    let t = table("t");
    rig.create(&t).await;
    rig.commit(&(0..6).map(|id| insert(&t, id)).collect::<Vec<_>>()).await;
    catch_up(rig).await;
    let to = |from, id| set(&t, from, [(0, int(id))]);
    rig.commit(&[to(0, 90), to(1, 0), to(90, 1)]).await;
    rig.commit(&[to(5, 6), to(4, 5), to(3, 4), to(2, 3)]).await;
    rig.commit(&[set(&t, 6, [(0, int(7)), (2, body(77))]), delete(&t, 7), insert(&t, 6)]).await;
    catch_up(rig).await;
    assert_equal(rig, &t).await;
}

/// Unknown is not NULL.
pub async fn unchanged_big_values_are_kept(rig: &dyn Rig) {
    let t = table("t");
    rig.create(&t).await;
    rig.commit(&(0..8).map(|id| insert(&t, id)).collect::<Vec<_>>()).await;
    catch_up(rig).await;
    rig.commit(&[set(&t, 0, [(3, int(1))]), set(&t, 1, [(2, None)]), set(&t, 1, [(3, int(2))])]).await;
    rig.commit(&[insert(&t, 20), set(&t, 20, [(3, int(3))]), set(&t, 2, [(0, int(30))])]).await;
    rig.commit(&[set(&t, 3, [(2, body(99))]), set(&t, 3, [(1, text("x"))]), set(&t, 3, [(0, int(31))])]).await;
    catch_up(rig).await;
    assert_equal(rig, &t).await;
    assert_eq!(rig.target_rows(&t).await[0][2], body(0));
}

/// A truncate takes what was there before it and nothing that comes after.
pub async fn truncate_between_changes(rig: &dyn Rig) {
    let (a, b) = (table("a"), table("b"));
    rig.create(&a).await;
    rig.create(&b).await;
    rig.commit(&[insert(&a, 1), insert(&b, 1)]).await;
    catch_up(rig).await;
    rig.commit(&[insert(&a, 2), Event::Truncate(vec![a.id.clone(), b.id.clone()]), insert(&a, 1)]).await;
    rig.commit(&[insert(&b, 5)]).await;
    catch_up(rig).await;
    assert_equal(rig, &a).await;
    assert_equal(rig, &b).await;
    assert_eq!(rig.target_rows(&a).await.len(), 1);
}

/// An idle table must not hold the source's log.
pub async fn empty_transactions_move_the_checkpoint(rig: &dyn Rig) {
    let t = table("t");
    rig.create(&t).await;
    catch_up(rig).await;
    let before = rig.target().record().await.unwrap().unwrap().checkpoint.unwrap().position;
    rig.commit(&[insert(&t, 1), delete(&t, 1)]).await;
    rig.commit(&[]).await;
    catch_up(rig).await;
    let after = rig.target().record().await.unwrap().unwrap().checkpoint.unwrap().position;
    assert!(after > before, "{after} is not behind {before}");
}

/// A second process goes on where the first one ended.
pub async fn a_restart_goes_on_from_the_checkpoint(rig: &dyn Rig) {
    let t = table("t");
    rig.create(&t).await;
    rig.commit(&[insert(&t, 1)]).await;
    for id in 2..6 {
        catch_up(rig).await;
        assert_equal(rig, &t).await;
        rig.commit(&[insert(&t, id), set(&t, id - 1, [(3, int(id))])]).await;
    }
    catch_up(rig).await;
    assert_equal(rig, &t).await;
}

fn begun() -> RecordChange {
    RecordChange::Begin(Lineage("l".to_owned()))
}

/// Another process that takes the task over locks the first one out.
pub async fn the_last_lane_wins(rig: &dyn Rig) {
    let mut first = take_over(rig.target().as_ref()).await;
    first.commit(&[begun()]).await.unwrap();
    let mut second = take_over(rig.target().as_ref()).await;
    let (set, changes) = set_of(Vec::new(), 7, false);
    let refused = first.apply(set.clone(), &changes).await.expect_err("it was taken over");
    assert_eq!(refused.class(), Class::Fenced, "{refused}");
    let refused = first.commit(&[begun()]).await.expect_err("it was taken over");
    assert_eq!(refused.class(), Class::Fenced, "{refused}");
    second.apply(set, &changes).await.unwrap();
}

fn checkpoint(n: u128) -> Checkpoint {
    Checkpoint { lineage: Lineage("l".to_owned()), position: Position::new(n, format!("0/{n:X}")) }
}

/// A set of these rows, and what is written down with it.
fn set_of(batches: Vec<ChangeBatch>, n: u128, open: bool) -> (ReducedSet, Vec<RecordChange>) {
    let at = checkpoint(n);
    let span = Span { end: at.position.clone(), committed_at: None, open, transactions: 1, bytes: 0 };
    let mut reducer = Reducer::new(crate::change::Reduction::Net);
    batches.into_iter().for_each(|batch| reducer.rows(batch));
    let moved = RecordChange::Checkpoint { lane: LaneId::MAIN, at, committed_at: None };
    (reducer.finish(span).unwrap(), if open { Vec::new() } else { vec![moved] })
}

fn inserts(t: &ModelTable, ids: impl IntoIterator<Item = i64>) -> ChangeBatch {
    let mut builder = BatchBuilder::new(t.schema());
    for id in ids {
        builder.columns().iter_mut().zip(row(id)).for_each(|(b, v)| convert::push(b, v.as_ref()));
        builder.end_row(Op::Insert, &ColumnMask::default()).unwrap();
    }
    builder.finish().unwrap()
}

async fn lane_with(rig: &dyn Rig, t: &ModelTable) -> Box<dyn TargetLane> {
    let mut lane = take_over(rig.target().as_ref()).await;
    lane.commit(&[begun()]).await.unwrap();
    let table = TableRecord::new(&t.schema(), &t.schema(), TableState::Ready);
    lane.prepare(table, None, OnExisting::Keep).await.unwrap();
    lane
}

async fn apply(lane: &mut dyn TargetLane, batches: Vec<ChangeBatch>, n: u128, open: bool) -> Result<(), Error> {
    let (set, changes) = set_of(batches, n, open);
    lane.apply(set, &changes).await.map(drop)
}

/// A transaction larger than the budget arrives in parts and shows as one.
pub async fn an_open_set_is_invisible_until_it_is_closed(rig: &dyn Rig) {
    let t = table("t");
    let mut lane = lane_with(rig, &t).await;
    apply(lane.as_mut(), vec![inserts(&t, [1])], 1, false).await.unwrap();
    apply(lane.as_mut(), vec![inserts(&t, [2])], 1, true).await.unwrap();
    assert_eq!(rig.target_rows(&t).await.len(), 1, "the open part shows");
    drop(lane);
    let mut lane = take_over(rig.target().as_ref()).await;
    let record = rig.target().record().await.unwrap().unwrap();
    assert_eq!(record.checkpoint.unwrap().position, checkpoint(1).position);
    apply(lane.as_mut(), vec![inserts(&t, [2])], 1, true).await.unwrap();
    apply(lane.as_mut(), vec![inserts(&t, [3])], 2, false).await.unwrap();
    assert_eq!(rig.target_rows(&t).await.len(), 3);
}

/// What the record says is what the rows are.
pub async fn rows_and_checkpoint_commit_together(rig: &dyn Rig) {
    let t = table("t");
    let mut lane = lane_with(rig, &t).await;
    apply(lane.as_mut(), vec![inserts(&t, [1, 2])], 5, false).await.unwrap();
    let again = apply(lane.as_mut(), vec![inserts(&t, [3]), broken(&t)], 6, false).await;
    assert!(again.is_err(), "a row that cannot be");
    drop(lane);
    let record = rig.target().record().await.unwrap().unwrap();
    assert_eq!(record.checkpoint, Some(checkpoint(5)));
    assert_eq!(record.tables[0].state, TableState::Ready);
    assert_eq!(rig.target_rows(&t).await, vec![row(1), row(2)]);
    let mut lane = take_over(rig.target().as_ref()).await;
    let mut durable = None;
    for _ in 0..100 {
        durable = lane.durable(false).await.unwrap();
        if durable.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(durable, Some(checkpoint(5).position));
}

/// Moves a row that is not there to another key, with a value only the target could know.
fn broken(t: &ModelTable) -> ChangeBatch {
    let mut builder = BatchBuilder::new(t.schema());
    let mut unknown = ColumnMask::default();
    unknown.insert(2);
    builder.columns().iter_mut().zip(row(78)).for_each(|(b, v)| convert::push(b, v.as_ref()));
    let (old, _) = builder.old_columns();
    convert::push(&mut old[0], int(77).as_ref());
    builder.end_old();
    builder.end_row(Op::Update, &unknown).unwrap();
    builder.finish().unwrap()
}

/// A database that is not the one loaded is never followed.
pub async fn another_history_is_refused(rig: &dyn Rig) {
    let t = table("t");
    rig.create(&t).await;
    catch_up(rig).await;
    let real = rig.target().record().await.unwrap().unwrap().checkpoint.unwrap();
    let class = |r: Result<Lineage, Error>| r.err().map(|e| e.class());
    let other = Checkpoint { lineage: Lineage("another".to_owned()), ..real.clone() };
    assert_eq!(class(rig.source().verify(&other).await), Some(Class::Lineage));
    rig.source().retire().await.unwrap();
    let gone = rig.source_keeps_something().then_some(Class::Lineage);
    assert_eq!(class(rig.source().verify(&real).await), gone);
}

/// After a drop nothing is left, and dropping nothing is no error.
pub async fn a_drop_leaves_nothing_and_may_be_repeated(rig: &dyn Rig) {
    let t = table("t");
    rig.create(&t).await;
    catch_up(rig).await;
    for there in [true, false] {
        assert_eq!(rig.source().retire().await.unwrap(), there && rig.source_keeps_something());
        assert_eq!(rig.target().forget().await.unwrap(), there);
        assert!(rig.target().record().await.unwrap().is_none());
    }
    let tables = rig.source().discover(&plan().selection).await.unwrap().tables;
    rig.source().vacant().await.expect("the name is free again");
    drop(rig.source().snapshot(&tables, SnapshotKind::Initial, 1).await.unwrap());
    let taken = rig.source().vacant().await.err().map(|e| e.class());
    assert_eq!(taken, rig.source_keeps_something().then_some(Class::Refused));
    rig.source().retire().await.unwrap();
}

/// The operator's way out of a suspended table.
pub async fn a_reloaded_table_is_read_again(rig: &dyn Rig) {
    let (a, b) = (table("a"), table("b"));
    rig.create(&a).await;
    rig.create(&b).await;
    rig.commit(&[insert(&a, 1), insert(&b, 1)]).await;
    catch_up(rig).await;
    rig.target().request_reload(&a.id).await.unwrap();
    rig.commit(&[insert(&a, 2), delete(&a, 1), insert(&b, 2)]).await;
    catch_up(rig).await;
    rig.commit(&[insert(&a, 3), set(&a, 2, [(1, text("after"))])]).await;
    catch_up(rig).await;
    assert_equal(rig, &a).await;
    assert_equal(rig, &b).await;
}

/// Random tables and transactions, in several runs.
pub async fn random_transactions(rig: &dyn Rig) {
    let seed = std::env::var("TREM_SEED").map_or(20_261_122, |s| s.parse().expect("a number"));
    eprintln!("replay with TREM_SEED={seed}");
    let rng = &mut StdRng::seed_from_u64(seed);
    let tables: Vec<ModelTable> =
        (0..4).map(|i| generate::table(rng, TableId::new("public", format!("r{i}")))).collect();
    for t in &tables {
        rig.create(t).await;
    }
    let mut now = Database::default();
    for _ in 0..6 {
        for _ in 0..25 {
            rig.commit(&generate::transaction(rng, &tables, &mut now)).await;
        }
        catch_up(rig).await;
        for t in &tables {
            let expected: Vec<Row> = now.table(&t.id).values().cloned().collect();
            assert_eq!(rig.target_rows(t).await, sorted(expected), "{} differs", t.id);
        }
    }
}
