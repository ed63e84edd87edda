//! The record of a task in schema `trem`: who may write it, what is written together, and what is left alone.

use std::sync::Arc;

use crate::rig::{Keeper, Rig, V, batch, checkpoint, dump, i, insert, set, t, table, update};
use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::target::PostgresTarget;
use trem_engine::change::{ChangeSet, Step};
use trem_engine::chunk::Chunk;
use trem_engine::ports::Target;
use trem_engine::position::Position;
use trem_engine::record::{RecordChange, TableState, TaskRecord};
use trem_engine::schema::{Catalog, Identity, TableSchema};
use trem_engine::task::OnExisting;
use trem_engine::{Class, Error};

/// The target of a task, as another process would make it.
fn another(rig: &Rig, task: &str) -> PostgresTarget {
    PostgresTarget::new(PgConfig::parse(&rig.server.url("t")).unwrap(), task)
}

fn rows(table: &Arc<TableSchema>, ids: impl IntoIterator<Item = i32>) -> Vec<Step> {
    let changes: Vec<_> = ids.into_iter().map(|id| insert([i(id), i(id), t("row")])).collect();
    vec![Step::Rows(batch(table, &changes))]
}

async fn recorded(rig: &Rig) -> TaskRecord {
    rig.target.record().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_format_of_a_later_version_is_left_alone() {
    let rig = Rig::start().await;
    let id = table("t", Identity::Key).id.clone();
    for format in ["4", "0"] {
        rig.db.exec(&format!("UPDATE trem.meta SET format = {format}")).await;
        let before = dump(&rig.db).await;
        let catalog = Catalog { tables: vec![table("t", Identity::Key)], ..Catalog::default() };
        let (target, known) = (another(&rig, "my task"), TaskRecord::default());
        let refused: [Option<Error>; 5] = [
            target.record().await.err(),
            target.take_over().await.err(),
            target.request_reload(&id).await.err(),
            target.plan(&catalog, &known, OnExisting::Refuse, true).await.err(),
            target.forget().await.err(),
        ];
        for e in refused {
            let e = e.expect("a refusal");
            assert_eq!(e.class(), Class::Refused, "{e}");
            assert!(e.to_string().contains(&format!("format {format}, this program knows 1 to 3")), "{e}");
            assert!(e.advice().unwrap().to_string().contains("program version that wrote it"), "{e}");
        }
        assert_eq!(dump(&rig.db).await, before);
    }
    // Nothing was left open that would keep the version that knows it from its work.
    rig.db.exec("SET lock_timeout = '1s'; UPDATE trem.meta SET format = 3; DROP TABLE trem.lane").await;
}

#[tokio::test]
async fn the_format_before_is_brought_to_this_one() {
    let mut rig = Rig::start().await;
    let a = table("a", Identity::Key);
    rig.prepare(&a).await;
    rig.db.exec("DROP TABLE trem.quarantine; UPDATE trem.meta SET format = 2").await;
    let outside = another(&rig, "my task");
    let record = outside.record().await.unwrap().unwrap();
    assert_eq!((record.tables.len(), record.tables[0].quarantined), (1, 0));
    assert_eq!((outside.quarantined().await.unwrap().len(), outside.release(&[1]).await.unwrap()), (0, 0));
    assert_eq!(outside.take_over().await.unwrap().1, record);
    assert_eq!(rig.db.number("SELECT max(format) FROM trem.meta").await, 3);
    assert_eq!(outside.quarantined().await.unwrap().len(), 0);
}

#[tokio::test]
async fn requests_wait_until_they_are_taken_up() {
    let mut rig = Rig::start().await;
    let (a, b) = (table("a", Identity::Key), table("b", Identity::Key));
    rig.prepare(&a).await;
    rig.prepare(&b).await;
    let outside = another(&rig, "my task");
    for table in [&b, &a, &b] {
        outside.request_reload(&table.id).await.unwrap();
    }
    // Asked for once more, it is the last one.
    let wanted = [a.id.clone(), b.id.clone()];
    assert_eq!(rig.target.requests().await.unwrap(), wanted);
    let record = recorded(&rig).await;
    assert_eq!(record.requests, wanted);
    assert!(record.tables.iter().all(|t| t.state == TableState::Ready), "{record:?}");
    assert_eq!(rig.target.take_over().await.unwrap().1, record);

    let mut lane = Keeper::take_over(&rig.target).await.unwrap();
    lane.commit(&[RecordChange::Taken(a.id.clone()), RecordChange::state(&a.id, TableState::Reload)]).await.unwrap();
    assert_eq!(rig.target.requests().await.unwrap(), std::slice::from_ref(&b.id));
    let record = recorded(&rig).await;
    assert_eq!(record, lane.record());
    assert_eq!((record.state(&a.id), record.state(&b.id)), (Some(TableState::Reload), Some(TableState::Ready)));

    // A table that is prepared again and one that is forgotten leave the request to be taken up.
    lane.prepare(&b, OnExisting::Refuse, true).await.unwrap();
    lane.forget_table(&b.id).await.unwrap();
    assert_eq!(recorded(&rig).await, lane.record());
    assert_eq!(rig.target.requests().await.unwrap(), std::slice::from_ref(&b.id));
    lane.commit(&[RecordChange::Taken(b.id.clone())]).await.unwrap();
    assert_eq!(rig.target.requests().await.unwrap(), []);
    assert_eq!(recorded(&rig).await, lane.record());

    let other = another(&rig, "other");
    other.take_over().await.unwrap();
    for (target, id) in [(&outside, &b.id), (&other, &a.id)] {
        let e = target.request_reload(id).await.unwrap_err();
        assert_eq!(e.class(), Class::Refused, "{e}");
        assert!(e.advice().unwrap().to_string().contains("status of the task"), "{e}");
    }
    assert_eq!((rig.target.requests().await.unwrap(), other.requests().await.unwrap()), (vec![], vec![]));
}

/// A COMMIT goes on when its connection is gone; what is read after that is to know of it.
#[tokio::test]
async fn commits_on_their_way_are_waited_for() {
    let rig = Rig::start().await;
    let epoch = rig.lane.epoch;
    rig.target.settled(epoch).await.unwrap();
    rig.db.exec("BEGIN; SELECT FROM trem.task FOR SHARE").await;
    let wait = std::time::Duration::from_millis(200);
    assert!(tokio::time::timeout(wait, rig.target.settled(epoch)).await.is_err(), "it is not waited for");
    rig.db.exec("COMMIT").await;
    rig.target.settled(epoch).await.unwrap();
}

/// Whoever took the task over last is the only one that writes: rows, chunks, tables and the record alike.
#[tokio::test]
async fn an_old_epoch_writes_nothing() {
    let mut rig = Rig::start().await;
    let (table, made) = (table("t", Identity::Key), table("made too late", Identity::Key));
    rig.lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
    let chunk = Chunk { id: 0, range: "all".to_owned(), survives: false, rows: 1 };
    rig.lane.plan_chunks(&table, std::slice::from_ref(&chunk), false).await.unwrap();
    rig.lane.apply(set(rows(&table, [1]), 1)).await.unwrap();
    let mut loader = rig.lane.open_loader(&rig.target).await.unwrap();
    loader.start_chunk(&table, &chunk).await.unwrap();
    loader.load(batch(&table, &[insert([i(5), i(5), t("chunk")])])).await.unwrap();
    let mut open = rig.lane.beside(&rig.target).await.unwrap();
    open.apply(open_set(rows(&table, [3]), 2)).await.unwrap();

    let mut second = Keeper::take_over(&rig.target).await.unwrap();
    assert!(second.epoch > rig.lane.epoch);
    let mut late = rig.lane.beside(&rig.target).await.unwrap();
    let state = RecordChange::state(&table.id, TableState::Ready);
    let moved = RecordChange::Position(vec![table.id.clone()], checkpoint(9).position);
    let mut refused: Vec<Option<Error>> = vec![
        loader.finish_chunk(&checkpoint(2).position).await.err(),
        open.apply(set(rows(&table, [4]), 2)).await.err(),
        late.apply(set(Vec::new(), 3)).await.err(),
        late.apply_with(set(rows(&table, [6]), 3), moved).await.err(),
    ];
    drop((loader, open, late));
    refused.extend([
        rig.lane.apply(set(rows(&table, [2]), 2)).await.err(),
        rig.lane.commit(std::slice::from_ref(&state)).await.err(),
        rig.lane.prepare(&made, OnExisting::Refuse, true).await.err(),
        rig.lane.finish_table(&table).await.err(),
        rig.lane.plan_chunks(&table, &[], true).await.err(),
    ]);
    for (n, e) in refused.into_iter().enumerate() {
        let e = e.unwrap_or_else(|| panic!("{n} was let in"));
        assert_eq!(e.class(), Class::Fenced, "{n}: {e}");
        assert!(e.advice().is_some(), "{n}: {e}");
    }
    let e = rig.lane.durable(true).await.unwrap_err();
    assert_eq!(e.class(), Class::Fenced, "{e}");
    rig.lane = Keeper::take_over(&another(&rig, "nobody")).await.unwrap();

    assert_eq!(rig.rows(&table).await, ["(1,1,row)"]);
    assert_eq!(recorded(&rig).await, second.record());
    assert_eq!(rig.db.number("SELECT count(*) FROM pg_class WHERE relname = 'made too late'").await, 0);
    second.plan_chunks(&table, &[chunk], true).await.unwrap();
    second.apply(set(rows(&table, [7]), 2)).await.unwrap();
    assert_eq!(rig.rows(&table).await, ["(7,7,row)"]);
    assert_eq!(recorded(&rig).await, second.record());
}

fn open_set(steps: Vec<Step>, end: u128) -> ChangeSet {
    let mut set = set(steps, end);
    set.span.open = true;
    set
}

/// Tables that catch up beside the main lane have a place of their own.
#[tokio::test]
async fn a_side_lane_writes_rows_and_their_place_together() {
    let mut rig = Rig::start().await;
    let (main, a, b) = (table("main", Identity::Key), table("a", Identity::Key), table("b", Identity::Key));
    rig.prepare(&main).await;
    for table in [&a, &b] {
        rig.lane.prepare(table, OnExisting::Refuse, true).await.unwrap();
        rig.lane.finish_table(table).await.unwrap();
        rig.lane.commit(&[RecordChange::state(&table.id, TableState::Loading)]).await.unwrap();
    }
    rig.apply(&main, &[insert([i(1), i(1), t("row")])]).await;
    // The main lane's transaction is open: neither waits for the other.
    rig.lane.apply(open_set(rows(&main, [2]), 1)).await.unwrap();
    let mut side = rig.lane.beside(&rig.target).await.unwrap();
    let place = |n: u128| Position::new(n, format!("side {n}"));
    let both = || vec![a.id.clone(), b.id.clone()];
    side.apply_with(set(rows(&a, [1]), 40), RecordChange::Position(both(), place(40))).await.unwrap();
    rig.lane.apply(set(rows(&main, [3]), 2)).await.unwrap();
    let places = |record: &TaskRecord| -> Vec<Option<(u128, String)>> {
        record.tables.iter().map(|t| t.position.as_ref().map(|p| (p.order(), p.resume().to_owned()))).collect()
    };
    let at = |n: u128| Some((n, format!("side {n}")));
    let record = recorded(&rig).await;
    assert_eq!(places(&record), [at(40), at(40), None]);
    assert_eq!(record.checkpoint, Some(checkpoint(2)));
    assert_eq!((rig.rows(&a).await.len(), rig.rows(&main).await.len()), (1, 3));

    // Rows that cannot be take the place with them.
    let lost = vec![Step::Rows(batch(&a, &[insert([i(2), i(2), t("row")]), update([i(99), i(99), V::Unknown])]))];
    side.apply_with(set(lost, 50), RecordChange::Position(both(), place(50))).await.unwrap_err();
    drop(side);
    assert_eq!(places(&recorded(&rig).await), [at(40), at(40), None]);
    assert_eq!(rig.rows(&a).await, ["(1,1,row)"]);

    // Another process goes on from there, and a table that has joined the others has no place of its own any more.
    let second = Keeper::take_over(&rig.target).await.unwrap();
    assert_eq!(places(&second.record()), [at(40), at(40), None]);
    let mut side = second.beside(&rig.target).await.unwrap();
    side.apply_with(set(Vec::new(), 60), RecordChange::Position(vec![b.id.clone()], place(60))).await.unwrap();
    assert_eq!(places(&recorded(&rig).await), [at(40), at(60), None]);
    assert_eq!(recorded(&rig).await, second.record());
    side.prepare(&b, OnExisting::Refuse, true).await.unwrap();
    assert_eq!(places(&recorded(&rig).await), [at(40), None, None]);
    assert!(rig.rows(&b).await.is_empty());
}

#[tokio::test]
async fn the_last_task_that_goes_takes_the_schema_along() {
    let mut rig = Rig::start().await;
    let table = table("t", Identity::Key);
    rig.prepare(&table).await;
    rig.apply(&table, &[insert([i(1), i(1), t("row")])]).await;
    rig.target.request_reload(&table.id).await.unwrap();
    let other = another(&rig, "other");
    other.take_over().await.unwrap();
    rig.target.forget().await.unwrap();
    assert_eq!(rig.target.record().await.unwrap(), None);
    let left = "SELECT (SELECT count(*) FROM trem.table_state) + (SELECT count(*) FROM trem.lane) \
                + (SELECT count(*) FROM trem.request) + (SELECT count(*) FROM trem.chunk)";
    assert_eq!(rig.db.number(left).await, 0);
    assert_eq!(other.record().await.unwrap(), Some(TaskRecord::default()));
    // Whoever still runs it is locked out, and begun anew nothing of it comes back.
    let e = rig.lane.apply(set(rows(&table, [2]), 9)).await.unwrap_err();
    assert_eq!(e.class(), Class::Fenced, "{e}");
    rig.lane = Keeper::take_over(&rig.target).await.unwrap();
    assert_eq!(rig.lane.record(), TaskRecord::default());
    rig.target.forget().await.unwrap();
    for _ in 0..2 {
        other.forget().await.unwrap();
        assert_eq!(rig.db.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'trem'").await, 0);
    }
    assert_eq!(rig.rows(&table).await, ["(1,1,row)"]);
}
