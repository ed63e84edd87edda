//! Places in the log that a source cannot go back to.

use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::source::PostgresSource;
use trem_engine::Class;
use trem_engine::ports::{SnapshotKind, Source, StreamRequest, StreamRole, StreamTable};
use trem_engine::remedy::Remedy;
use trem_engine::task::{Pattern, Selection, TableRule};
use trem_tests::{PgCluster, PgOptions};

/// The server would leave out what lies between, without a word.
#[tokio::test]
async fn a_side_stream_refuses_a_slot_that_has_moved_on() {
    let server = PgCluster::start(PgOptions::default());
    let db = server.create_database("s").await;
    db.exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int)").await;
    let source = PostgresSource::new(PgConfig::parse(&server.url("s")).unwrap(), "task");
    let include = vec![Pattern::glob("public.a").unwrap()];
    let selection = Selection { rules: vec![TableRule { include, exclude: Vec::new() }] };
    let tables = source.discover(&selection).await.unwrap().tables;
    let snapshot = source.snapshot(&tables, SnapshotKind::Initial, 1).await.unwrap();
    let from = snapshot.start().clone();
    let aside = async || {
        let tables = tables.iter().map(|t| StreamTable { schema: t.clone(), from: None, loaded: Vec::new() }).collect();
        source.stream(StreamRequest { tables, from: from.clone(), expected: Vec::new(), role: StreamRole::Aside }).await
    };
    db.exec("INSERT INTO a VALUES (1)").await;
    aside().await.expect("the log is there").close(None).await.unwrap();
    db.exec("SELECT pg_replication_slot_advance('trem_task', pg_current_wal_lsn())").await;
    let error = aside().await.err().expect("the log is gone");
    assert_eq!(error.class(), Class::Lineage, "{error}");
    assert!(
        error.to_string().contains("has been moved on to")
            && matches!(error.advice(), Some(Remedy::Then(all)) if all.len() == 1),
        "{error}"
    );
}
