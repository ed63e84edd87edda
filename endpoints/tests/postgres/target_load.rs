//! Loads that begin again, rows that are kept, and tables that belong to another task.

use std::sync::Arc;

use crate::rig::{Keeper, Rig, batch, checkpoint, i, insert, t, table};
use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::target::PostgresTarget;
use trem_engine::chunk::Chunk;
use trem_engine::ports::{Severity, Target};
use trem_engine::schema::{Catalog, Identity, TableId};
use trem_engine::task::OnExisting;
use trem_engine::{Class, Error};

fn refused(e: Error) -> String {
    assert_eq!(e.class(), Class::Refused, "{e}");
    e.to_string()
}

/// Loading again would have to empty the table: nothing tells loaded rows from kept ones. That an interrupted load does
/// not begin again is the engine's matter.
#[tokio::test]
async fn kept_rows_are_never_emptied() {
    let mut rig = Rig::start().await;
    rig.db.exec("CREATE TABLE kept (id int PRIMARY KEY, u int, \"Text\" text); INSERT INTO kept VALUES (1)").await;
    let mut kept = (*table("kept", Identity::Key)).clone();
    kept.id = TableId::new("public", "kept");
    let kept = Arc::new(kept);
    let chunks: Vec<Chunk> = (0..2).map(|id| Chunk { id, range: "all".to_owned(), survives: false, rows: 2 }).collect();
    rig.lane.prepare(&kept, OnExisting::Keep, true).await.unwrap();
    rig.lane.plan_chunks(&kept, &chunks, false).await.unwrap();
    let mut loader = rig.lane.open_loader(&rig.target).await.unwrap();
    loader.start_chunk(&kept, &chunks[0]).await.unwrap();
    loader.load(batch(&kept, &[insert([i(2), i(5), t("new")])])).await.unwrap();
    loader.finish_chunk(&checkpoint(1).position).await.unwrap();
    rig.reload(&kept.id).await;
    let e = rig.lane.prepare(&kept, OnExisting::Keep, true).await.unwrap_err();
    assert_eq!(e.class(), Class::Refused, "{e}");
    assert!(e.advice().unwrap().to_string().contains("DELETE FROM"), "{e}");
    assert_eq!(rig.rows(&kept).await, ["(1,,)", "(2,5,new)"]);
    // What the operator asks for by another setting, or has done, is done.
    rig.lane.prepare(&kept, OnExisting::Truncate, true).await.unwrap();
    assert!(rig.rows(&kept).await.is_empty());
    rig.reload(&kept.id).await;
    rig.lane.prepare(&kept, OnExisting::Keep, true).await.unwrap();
}

/// Rows of chunks that were read at a snapshot that is gone go, whatever the configuration has become since.
#[tokio::test]
async fn chunks_planned_anew_begin_with_an_empty_table() {
    let mut rig = Rig::start().await;
    let table = table("again", Identity::Key);
    let chunk = Chunk { id: 0, range: "all".to_owned(), survives: false, rows: 1 };
    rig.lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
    rig.lane.plan_chunks(&table, std::slice::from_ref(&chunk), false).await.unwrap();
    let mut loader = rig.lane.open_loader(&rig.target).await.unwrap();
    loader.start_chunk(&table, &chunk).await.unwrap();
    loader.load(batch(&table, &[insert([i(2), i(5), t("new")])])).await.unwrap();
    loader.finish_chunk(&checkpoint(1).position).await.unwrap();
    rig.lane.plan_chunks(&table, std::slice::from_ref(&chunk), false).await.unwrap();
    assert!(rig.rows(&table).await.is_empty());
}

/// The answer to a commit may be lost, and the commit take effect after the record was read again.
#[tokio::test]
async fn a_chunk_that_is_in_is_not_loaded_twice() {
    let mut rig = Rig::start().await;
    let table = table("once", Identity::Key);
    let chunk = Chunk { id: 0, range: "all".to_owned(), survives: true, rows: 1 };
    rig.lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
    rig.lane.plan_chunks(&table, std::slice::from_ref(&chunk), false).await.unwrap();
    for again in [false, true] {
        let mut loader = rig.lane.open_loader(&rig.target).await.unwrap();
        loader.start_chunk(&table, &chunk).await.unwrap();
        loader.load(batch(&table, &[insert([i(2), i(5), t("new")])])).await.unwrap();
        let finished = loader.finish_chunk(&checkpoint(1).position).await;
        assert_eq!(finished.err().map(|e| e.class()), again.then_some(Class::Transient));
    }
    assert_eq!(rig.rows(&table).await, ["(2,5,new)"]);
}

/// Without a key no row can be met again, so an empty table is filled as any other.
#[tokio::test]
async fn keeping_the_rows_of_an_empty_table_without_a_key() {
    let mut rig = Rig::start().await;
    rig.db.exec("CREATE TABLE bag (id int, u int, \"Text\" text)").await;
    let mut bag = (*table("bag", Identity::Full)).clone();
    bag.id = TableId::new("public", "bag");
    let bag = Arc::new(bag);
    let chunk = Chunk { id: 0, range: "all".to_owned(), survives: false, rows: 1 };
    rig.lane.prepare(&bag, OnExisting::Keep, true).await.unwrap();
    rig.lane.plan_chunks(&bag, std::slice::from_ref(&chunk), false).await.unwrap();
    let mut loader = rig.lane.open_loader(&rig.target).await.unwrap();
    loader.start_chunk(&bag, &chunk).await.unwrap();
    loader.load(batch(&bag, &[insert([i(2), i(5), t("new")])])).await.unwrap();
    loader.finish_chunk(&checkpoint(1).position).await.unwrap();
    assert_eq!(rig.lane.table(&bag.id).rows_loaded(), 1);
    assert_eq!(rig.rows(&bag).await, ["(2,5,new)"]);
}

#[tokio::test]
async fn a_table_of_another_task_is_refused() {
    let mut rig = Rig::start().await;
    let table = table("shared", Identity::Key);
    rig.lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
    let other = PostgresTarget::new(
        PgConfig::parse(&format!("postgres://postgres@127.0.0.1:{}/t", rig.server.port())).unwrap(),
        "other",
    );
    let mut lane = Keeper::take_over(&other).await.unwrap();
    let text = refused(lane.prepare(&table, OnExisting::Keep, true).await.unwrap_err());
    assert!(text.contains("writes this table of the target already"), "{text}");
    let catalog = Catalog { tables: vec![Arc::clone(&table)], ..Catalog::default() };
    let preview = other.plan(&catalog, &lane.record(), OnExisting::Keep, true).await.unwrap();
    assert_eq!(preview[0].findings[0].severity, Severity::Error);
    // Whoever has it suspended does not write it.
    rig.lane.suspend(&table, "left", "nothing").await.unwrap();
    rig.db.exec("ALTER TABLE \"s x\".shared ADD PRIMARY KEY (id)").await;
    lane.prepare(&table, OnExisting::Keep, true).await.unwrap();
    rig.reload(&table.id).await;
    refused(rig.lane.prepare(&table, OnExisting::Keep, true).await.unwrap_err());
}
