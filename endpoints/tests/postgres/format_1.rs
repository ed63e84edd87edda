//! What version 0.1.0 has written in schema `trem` of a target: it is read as it is, and a task goes on from it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::rig::{Keeper, batch, dump, i, insert, set, t, table};
use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::target::PostgresTarget;
use trem_engine::Class;
use trem_engine::change::Step;
use trem_engine::chunk::Chunk;
use trem_engine::ports::{Severity, Target};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::record::{ChunkRecord, Origin, TableRecord, TableState, TaskRecord};
use trem_engine::remedy::Remedy;
use trem_engine::schema::{Catalog, Column, Dialect, GeneratedColumn, Identity, Native, TableId, TableSchema, Type};
use trem_engine::task::OnExisting;
use trem_engine::template::Template;
use trem_tests::{Db, PgCluster, PgOptions};

/// As version 0.1.0 creates it.
const CREATE: &str = "
CREATE SCHEMA trem;
CREATE TABLE IF NOT EXISTS trem.meta (format int NOT NULL);
CREATE TABLE IF NOT EXISTS trem.task (
    task text PRIMARY KEY,
    epoch bigint NOT NULL,
    lineage text,
    position_order numeric(39),
    position text,
    committed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE TABLE IF NOT EXISTS trem.table_state (
    task text NOT NULL REFERENCES trem.task ON DELETE CASCADE,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    state text NOT NULL,
    shape text NOT NULL,
    reason text,
    remedy text,
    created_by_trem boolean NOT NULL,
    keeps_rows boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (task, schema_name, table_name)
);
CREATE TABLE IF NOT EXISTS trem.chunk (
    task text NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    id bigint NOT NULL,
    chunk text NOT NULL,
    snapshot_order numeric(39),
    snapshot text,
    row_count bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (task, schema_name, table_name, id),
    FOREIGN KEY (task, schema_name, table_name) REFERENCES trem.table_state ON DELETE CASCADE
);
INSERT INTO trem.meta SELECT 1 WHERE NOT EXISTS (SELECT FROM trem.meta);
";

/// The shape of a table of this name, as version 0.1.0 writes it.
fn shape(name: &str) -> String {
    let column = |name: &str, logical: &str, native: &str, id: u32, modifier: i32, nullable: bool| {
        let native = format!(r#"{{"name":"{native}","id":{id},"modifier":{modifier}}}"#);
        format!(r#"{{"name":"{name}","logical":"{logical}","native":{native},"nullable":{nullable}}}"#)
    };
    let columns = [
        column("id", "int32", "integer", 23, -1, false),
        column("amount", "numeric", "numeric(10,2)", 1700, 655_366, true),
        column("at", "timestamp-tz", "timestamp with time zone", 1184, -1, true),
        column("mood", "other", "public.mood", 16_400, -1, true),
    ];
    format!(
        r#"{{"id":{{"schema":"s x","table":"{name}"}},"native_id":16384,"columns":[{}],"key":[0],"primary_key":[0],"#,
        columns.join(",")
    ) + r#""identity":"key-with-full-image","generated":[{"name":"twice","native":{"name":"numeric","id":1700,"#
        + r#""modifier":-1},"expression":"(amount * (2)::numeric)"}]}"#
}

/// The same as this version sees it.
fn schema(name: &str) -> Arc<TableSchema> {
    let dialect = Dialect::new("postgres");
    let native = |name: &str, id: u32, modifier: i32| Native {
        dialect: dialect.clone(),
        name: name.to_owned(),
        detail: format!("{id}:{modifier}"),
    };
    let column =
        |name: &str, ty, native| Column { name: name.to_owned(), ty, native, nullable: name != "id", omissible: false };
    let expression = Template::verbatim(dialect.clone(), "(amount * (2)::numeric)");
    let generated = native("numeric", 1700, -1);
    Arc::new(TableSchema {
        id: TableId::new("s x", name),
        native_id: Some(16_384),
        columns: vec![
            column("id", Type::Int32, native("integer", 23, -1)),
            column("amount", Type::Decimal(Some((10, 2))), native("numeric(10,2)", 1700, 655_366)),
            column("at", Type::TimestampTz(6), native("timestamp with time zone", 1184, -1)),
            column("mood", Type::Named("public.mood".to_owned()), native("public.mood", 16_400, -1)),
        ],
        key: vec![0],
        primary_key: vec![0],
        identity: Identity::KeyWithFullImage,
        generated: vec![GeneratedColumn { name: "twice".to_owned(), native: generated, expression }],
        history: Default::default(),
    })
}

const LINEAGE: &str = "system 7300 database 5 timeline 1";

/// Task `first` with tables in three states, and task `second` with one.
async fn begun_by_0_1_0() -> (PgCluster, Db) {
    let server = PgCluster::start(PgOptions::default());
    let db = server.create_database("t").await;
    let (ready, half, left, other) = (shape("ready"), shape("half"), shape("Left"), shape("other"));
    let chunk = |id: u32, lower: &str, upper: &str| {
        format!(r#"{{"id":{id},"range":{{"key":{{"column":0,"lower":{lower},"upper":{upper}}}}},"rows":40}}"#)
    };
    let (one, two) = (chunk(0, "null", r#"{"int":40}"#), chunk(1, r#"{"int":40}"#, "null"));
    db.exec(&format!(
        "{CREATE}
         INSERT INTO trem.task VALUES
             ('first', 5, '{LINEAGE}', 26743328, '0/1981220', '2026-10-01 12:00:00.25+00'),
             ('second', 2, '{LINEAGE}', 26743328, '0/1981220', NULL);
         INSERT INTO trem.table_state VALUES
             ('first', 's x', 'ready', 'ready', '{ready}', NULL, NULL, true, false),
             ('first', 's x', 'half', 'loading', '{half}', NULL, NULL, true, false),
             ('first', 's x', 'Left', 'suspended', '{left}', 'a reason', 'a remedy', false, true),
             ('second', 's x', 'other', 'ready', '{other}', NULL, NULL, false, false);
         INSERT INTO trem.chunk VALUES
             ('first', 's x', 'half', 0, '{one}', 26743000, '0/19810D8', 41),
             ('first', 's x', 'half', 1, '{two}', NULL, NULL, 0)"
    ))
    .await;
    (server, db)
}

fn of_task(server: &PgCluster, task: &str) -> PostgresTarget {
    PostgresTarget::new(PgConfig::parse(&server.url("t")).unwrap(), task)
}

fn at(order: u128, resume: &str) -> Option<Checkpoint> {
    Some(Checkpoint { lineage: Lineage(LINEAGE.to_owned()), position: Position::new(order, resume) })
}

fn record_of(name: &str, state: TableState, created: bool, keeps_rows: bool) -> TableRecord {
    let origin = Origin { created, keeps_rows };
    TableRecord { origin, ..TableRecord::new(&schema(name), &schema(name), state) }
}

fn first() -> TaskRecord {
    let chunk = |id, lower: &str, upper: &str| {
        let range = format!(r#"{{"key":{{"column":0,"lower":{lower},"upper":{upper}}}}}"#);
        Chunk { id, range, survives: true, rows: 40 }
    };
    let done = Some(Position::new(26_743_000, "0/19810D8"));
    let mut left = record_of("Left", TableState::Suspended, false, true);
    (left.reason, left.remedy) = (Some("a reason".to_owned()), Some(Remedy::Text("a remedy".to_owned())));
    let mut half = record_of("half", TableState::Loading, true, false);
    half.chunks = vec![
        ChunkRecord { chunk: chunk(0, "null", r#"{"int":40}"#), done, rows: 41 },
        ChunkRecord { chunk: chunk(1, r#"{"int":40}"#, "null"), done: None, rows: 0 },
    ];
    TaskRecord {
        lineage: Some(Lineage(LINEAGE.to_owned())),
        checkpoint: at(26_743_328, "0/1981220"),
        committed_at: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_856_000_250)),
        tables: vec![left, half, record_of("ready", TableState::Ready, true, false)],
        requests: Vec::new(),
        failing: Vec::new(),
    }
}

fn second() -> TaskRecord {
    TaskRecord {
        lineage: Some(Lineage(LINEAGE.to_owned())),
        checkpoint: at(26_743_328, "0/1981220"),
        tables: vec![record_of("other", TableState::Ready, false, false)],
        ..TaskRecord::default()
    }
}

/// Two positions are equal if their order is: the texts that resume are to be compared too. Says where they part.
#[track_caller]
fn assert_same(found: &TaskRecord, wanted: &TaskRecord) {
    let (found, wanted) = (format!("{found:#?}"), format!("{wanted:#?}"));
    let same = found.lines().zip(wanted.lines()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.lines().skip(same.saturating_sub(8)).take(12).collect::<Vec<_>>().join("\n");
    assert!(found == wanted, "found\n{}\nand not\n{}", around(&found), around(&wanted));
}

async fn recorded(server: &PgCluster, task: &str) -> TaskRecord {
    of_task(server, task).record().await.unwrap().unwrap()
}

#[tokio::test]
async fn it_is_read_without_a_change() {
    let (server, db) = begun_by_0_1_0().await;
    let before = dump(&db).await;
    assert_same(&recorded(&server, "first").await, &first());
    assert_same(&recorded(&server, "second").await, &second());
    assert_eq!(of_task(&server, "third").record().await.unwrap(), None);
    // What another task would be told of its tables.
    let catalog = Catalog { tables: vec![schema("other"), schema("Left")], ..Catalog::default() };
    let known = TaskRecord::default();
    let plan = of_task(&server, "third").plan(&catalog, &known, OnExisting::Keep, true).await.unwrap();
    let held = |n: usize| plan[n].findings.iter().any(|f| f.message.contains("task second writes this table"));
    assert!(held(0) && !held(1), "{plan:?}");
    assert!(plan[1].findings.iter().all(|f| !f.message.contains("task first")), "suspended there: {plan:?}");
    assert_eq!(dump(&db).await, before);
}

#[tokio::test]
async fn a_reload_that_is_asked_for_is_its_state() {
    let (server, db) = begun_by_0_1_0().await;
    let target = of_task(&server, "first");
    target.request_reload(&schema("Left").id).await.unwrap();
    let mut wanted = first();
    (wanted.tables[0].state, wanted.tables[0].reason, wanted.tables[0].remedy) = (TableState::Reload, None, None);
    assert_same(&recorded(&server, "first").await, &wanted);
    assert_eq!(db.number("SELECT format FROM trem.meta").await, 1);
    let before = dump(&db).await;
    for (task, table) in [("first", "other"), ("second", "Left"), ("third", "Left")] {
        let e = of_task(&server, task).request_reload(&schema(table).id).await.unwrap_err();
        assert_eq!(e.class(), Class::Refused, "{e}");
        assert!(e.advice().is_some(), "{e}");
    }
    assert_eq!(dump(&db).await, before);
    let (_, taken) = target.take_over().await.unwrap();
    assert_same(&taken, &wanted);
}

/// The statement by which version 0.1.0 moves a checkpoint; the number of rows that it found.
async fn move_the_old_way(db: &Db, task: &str, epoch: i64, order: u128, position: &str) -> i64 {
    db.number(&format!(
        "WITH moved AS (UPDATE trem.task SET lineage = '{LINEAGE}', position_order = '{order}'::text::numeric, \
             position = '{position}', committed_at = coalesce('2026-10-02 00:00:00+00', committed_at), \
             updated_at = clock_timestamp() WHERE task = '{task}' AND epoch = {epoch} RETURNING task) \
         SELECT count(*) FROM moved"
    ))
    .await
}

#[tokio::test]
async fn a_task_is_taken_over_and_goes_on() {
    let (server, db) = begun_by_0_1_0().await;
    let target = of_task(&server, "first");
    let (epoch, taken) = target.take_over().await.unwrap();
    assert_eq!(epoch.0, 6);
    assert_same(&taken, &first());
    assert_eq!(db.number("SELECT format FROM trem.meta").await, 3);
    assert_same(&recorded(&server, "first").await, &first());
    // Whoever still runs the old way is locked out.
    assert_eq!(move_the_old_way(&db, "first", 5, 26_743_500, "0/19812CC").await, 0);

    let mut lane = Keeper::take_over(&target).await.unwrap();
    assert_eq!(lane.epoch.0, 7);
    db.exec("CREATE TYPE mood AS ENUM ('sad'); CREATE SCHEMA \"s x\"").await;
    db.exec("CREATE TABLE \"s x\".half (id int, amount numeric(10,2), at timestamptz, mood mood)").await;
    let mut loader = lane.open_loader(&target).await.unwrap();
    let rest = lane.table(&schema("half").id).chunks[1].chunk.clone();
    loader.start_chunk(&schema("half"), &rest).await.unwrap();
    loader.finish_chunk(&Position::new(26_743_400, "0/1981268")).await.unwrap();
    lane.finish_table(&schema("half")).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM pg_index WHERE indrelid = '\"s x\".half'::regclass").await, 1);
    lane.prepare(&table("new", Identity::Key), OnExisting::Refuse, false).await.unwrap();
    let rows = batch(&table("new", Identity::Key), &[insert([i(1), i(1), t("a")])]);
    lane.apply(set(vec![Step::Rows(rows)], 26_743_600)).await.unwrap();
    let record = recorded(&server, "first").await;
    assert_same(&record, &lane.record());
    let states: Vec<TableState> = record.tables.iter().map(|t| t.state).collect();
    assert_eq!(states, [TableState::Suspended, TableState::Ready, TableState::Ready, TableState::Ready]);
    assert_eq!(record.checkpoint.unwrap().position.order(), 26_743_600);
    assert_eq!(record.committed_at, first().committed_at, "it goes on from what was known");
}

/// A process of version 0.1.0 has read the format when it began, and runs on while another task is upgraded.
#[tokio::test]
async fn a_task_beside_it_runs_on_the_old_way() {
    let (server, db) = begun_by_0_1_0().await;
    of_task(&server, "first").take_over().await.unwrap();
    assert_same(&recorded(&server, "second").await, &second());

    assert_eq!(move_the_old_way(&db, "second", 2, 26_743_500, "0/19812CC").await, 1);
    let shape = shape("late");
    db.exec(&format!(
        "INSERT INTO trem.table_state (task, schema_name, table_name, state, shape, created_by_trem, keeps_rows) \
             VALUES ('second', 's x', 'late', 'loading', '{shape}', true, false);
         INSERT INTO trem.chunk (task, schema_name, table_name, id, chunk) \
             VALUES ('second', 's x', 'late', 0, '{{\"id\":0,\"range\":\"whole\",\"rows\":3}}')"
    ))
    .await;
    let mut wanted = second();
    wanted.checkpoint = at(26_743_500, "0/19812CC");
    wanted.committed_at = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_899_200));
    let chunk = Chunk { id: 0, range: r#""whole""#.to_owned(), survives: false, rows: 3 };
    let mut late = record_of("late", TableState::Loading, true, false);
    late.chunks = vec![ChunkRecord { chunk, done: None, rows: 0 }];
    wanted.tables.insert(0, late);
    assert_same(&recorded(&server, "second").await, &wanted);
    let catalog = Catalog { tables: vec![schema("late")], ..Catalog::default() };
    let plan = of_task(&server, "third").plan(&catalog, &TaskRecord::default(), OnExisting::Keep, true).await.unwrap();
    let held = plan[0].findings.iter().filter(|f| f.severity == Severity::Error);
    assert!(held.clone().any(|f| f.message.contains("task second")), "{plan:?}");

    let (epoch, taken) = of_task(&server, "second").take_over().await.unwrap();
    assert_eq!(epoch.0, 3);
    assert_same(&taken, &wanted);
    assert_same(&recorded(&server, "second").await, &wanted);
    assert_eq!(move_the_old_way(&db, "second", 2, 26_743_600, "0/1981330").await, 0);
    assert_same(&recorded(&server, "first").await, &first());
}

#[tokio::test]
async fn the_last_task_that_goes_takes_it_along() {
    let (server, db) = begun_by_0_1_0().await;
    of_task(&server, "first").forget().await.unwrap();
    assert_eq!(of_task(&server, "first").record().await.unwrap(), None);
    assert_same(&recorded(&server, "second").await, &second());
    assert_eq!(db.number("SELECT format FROM trem.meta").await, 1);
    for _ in 0..2 {
        of_task(&server, "second").forget().await.unwrap();
        assert_eq!(of_task(&server, "second").record().await.unwrap(), None);
        assert_eq!(db.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'trem'").await, 0);
    }
}
