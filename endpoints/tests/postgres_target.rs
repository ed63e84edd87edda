//! The PostgreSQL target against a real server: one lane, sets made by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::target::PostgresTarget;
use trem_engine::change::{BatchBuilder, ChangeBatch, ChangeSet, ColumnBuilder, ColumnMask, Op, Step, Truncate};
use trem_engine::ports::{Chunk, ChunkRange, TableCounts, TableState, Target, TargetLane};
use trem_engine::position::{Checkpoint, Lineage, Position};
use trem_engine::schema::{
    Column, Identity, LogicalType, NativeType, SchemaChange, SchemaChangeKind, TableId, TableSchema,
};
use trem_engine::task::OnExisting;
use trem_engine::{Class, Error};
use trem_tests::{Db, PgCluster, PgOptions};

/// A value of a test row.
#[derive(Clone, Debug)]
enum V {
    I(i32),
    T(String),
    Null,
    /// The log did not send it.
    Unknown,
}

fn i(value: i32) -> V {
    V::I(value)
}

fn t(value: &str) -> V {
    V::T(value.to_owned())
}

fn column(name: &str, logical: LogicalType, native: &str) -> Column {
    let native = NativeType { name: native.to_owned(), id: 0, modifier: -1 };
    Column { name: name.to_owned(), logical, native, nullable: name != "id" }
}

/// id (the key, unless the identity is full), a number, a text.
fn table(name: &str, identity: Identity) -> Arc<TableSchema> {
    let keyed = matches!(identity, Identity::Key | Identity::KeyWithFullImage);
    Arc::new(TableSchema {
        id: TableId::new("s x", name),
        native_id: 1,
        columns: vec![
            column("id", LogicalType::Int32, "integer"),
            column("u", LogicalType::Int32, "integer"),
            column("Text", LogicalType::Text, "text"),
        ],
        key: if keyed { vec![0] } else { Vec::new() },
        primary_key: if keyed { vec![0] } else { Vec::new() },
        identity,
        generated: Vec::new(),
    })
}

fn push(builder: &mut ColumnBuilder, value: &V) {
    match value {
        V::I(n) => builder.push_i32(*n).unwrap(),
        V::T(s) => builder.push_slice(s.as_bytes()).unwrap(),
        V::Null | V::Unknown => builder.push_null(),
    }
}

/// One change: op, old image if any, new image.
type Change = (Op, Option<Vec<V>>, Vec<V>);

fn insert(row: [V; 3]) -> Change {
    (Op::Insert, None, row.to_vec())
}

fn update(row: [V; 3]) -> Change {
    (Op::Update, None, row.to_vec())
}

/// An update of a row whose old image (key, or whole) is known.
fn from(old: &[V], row: [V; 3]) -> Change {
    (Op::Update, Some(old.to_vec()), row.to_vec())
}

fn delete(id: i32) -> Change {
    (Op::Delete, None, vec![i(id), V::Unknown, V::Unknown])
}

fn batch(table: &Arc<TableSchema>, changes: &[Change]) -> ChangeBatch {
    let mut builder = BatchBuilder::new(Arc::clone(table));
    for (op, old, row) in changes {
        let mut mask = ColumnMask::default();
        for (at, value) in row.iter().enumerate() {
            push(&mut builder.columns()[at], value);
            if matches!(value, V::Unknown) {
                mask.insert(at);
            }
        }
        if let Some(old) = old {
            for (at, value) in old.iter().enumerate() {
                push(&mut builder.old_columns().0[at], value);
            }
            builder.end_old();
        }
        builder.end_row(*op, &mask).unwrap();
    }
    builder.finish().unwrap()
}

fn checkpoint(at: u128) -> Checkpoint {
    Checkpoint { lineage: Lineage("history".to_owned()), position: Position::new(at, format!("p{at}")) }
}

fn set(steps: Vec<Step>, end: u128) -> ChangeSet {
    let end = checkpoint(end).position;
    ChangeSet { steps, end, committed_at: None, open: false, transactions: 1, bytes: 0 }
}

struct Rig {
    server: PgCluster,
    target: PostgresTarget,
    db: Db,
    lane: Box<dyn TargetLane>,
    at: u128,
}

impl Rig {
    async fn start() -> Self {
        let server = PgCluster::start(PgOptions::default());
        let db = server.create_database("t").await;
        let target = PostgresTarget::new(PgConfig::parse(&server.url("t")).unwrap(), "my task");
        let mut lane = target.open_lane().await.unwrap();
        lane.begin(&Lineage("history".to_owned())).await.unwrap();
        Self { server, target, db, lane, at: 0 }
    }

    async fn prepare(&mut self, table: &Arc<TableSchema>) {
        self.lane.prepare(table, OnExisting::Refuse, false).await.unwrap();
    }

    async fn try_steps(&mut self, steps: Vec<Step>) -> Result<TableCounts, Error> {
        self.at += 1;
        let applied = self.lane.apply(set(steps, self.at), &checkpoint(self.at)).await?;
        let mut sum = TableCounts::default();
        for (_, counts) in &applied.tables {
            sum.add(counts);
        }
        Ok(sum)
    }

    async fn apply(&mut self, table: &Arc<TableSchema>, changes: &[Change]) -> TableCounts {
        self.try_steps(vec![Step::Rows(batch(table, changes))]).await.unwrap_or_else(|e| panic!("{e}"))
    }

    async fn rows(&self, table: &TableSchema) -> Vec<String> {
        let sql = format!("SELECT r::text FROM \"{}\".\"{}\" r ORDER BY 1", table.id.schema, table.id.table);
        self.db.rows(&sql).await.into_iter().map(|r| r[0].clone().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_keyed_table() {
    let mut rig = Rig::start().await;
    let table = table("Keyed", Identity::Key);
    rig.prepare(&table).await;
    rig.db.exec("ALTER TABLE \"s x\".\"Keyed\" ADD UNIQUE (u)").await;
    let rows: Vec<Change> = (1..=3).map(|n| insert([i(n), i(n), t(&format!("v{n}"))])).collect();
    assert_eq!(rig.apply(&table, &rows).await.inserted, 3);

    // The values of a unique column rotate; one update does not know the text.
    let counts = rig
        .apply(
            &table,
            &[
                update([i(1), V::Null, V::Unknown]),
                update([i(2), i(1), t("w2")]),
                update([i(3), i(2), V::Unknown]),
                update([i(1), i(3), V::Unknown]),
            ],
        )
        .await;
    assert_eq!((counts.updated, counts.merged, counts.conflicts), (3, 1, 0));
    assert_eq!(rig.rows(&table).await, ["(1,3,v1)", "(2,1,w2)", "(3,2,v3)"]);

    // Keys swap through a third, with unknown columns.
    let counts = rig
        .apply(
            &table,
            &[
                from(&[i(1)], [i(9), i(3), V::Unknown]),
                from(&[i(2)], [i(1), i(1), V::Unknown]),
                from(&[i(9)], [i(2), i(3), V::Unknown]),
            ],
        )
        .await;
    assert_eq!((counts.updated, counts.merged, counts.conflicts), (2, 1, 0));
    assert_eq!(rig.rows(&table).await, ["(1,1,w2)", "(2,3,v1)", "(3,2,v3)"]);

    // A known key change, a delete whose unique value is taken over in the same set, an insert that meets a row.
    let counts =
        rig.apply(&table, &[from(&[i(3)], [i(30), i(2), t("moved")]), delete(1), insert([i(4), i(1), t("new")])]).await;
    assert_eq!((counts.inserted, counts.updated, counts.deleted, counts.conflicts), (1, 1, 1, 0));
    assert_eq!(rig.rows(&table).await, ["(2,3,v1)", "(30,2,moved)", "(4,1,new)"]);

    let counts =
        rig.apply(&table, &[insert([i(4), i(7), t("again")]), update([i(5), i(8), t("absent")]), delete(77)]).await;
    assert_eq!(counts.conflicts, 3);
    assert_eq!(rig.rows(&table).await, ["(2,3,v1)", "(30,2,moved)", "(4,7,again)", "(5,8,absent)"]);

    let lost = rig.try_steps(vec![Step::Rows(batch(&table, &[update([i(99), i(99), V::Unknown])]))]).await.unwrap_err();
    assert_eq!(lost.class(), Class::Fatal);
    assert!(lost.to_string().contains("s x.Keyed") && lost.to_string().contains("reload"), "{lost}");
}

#[tokio::test]
async fn large_batches_and_target_only_columns() {
    let mut rig = Rig::start().await;
    let table = table("Large", Identity::Key);
    rig.prepare(&table).await;
    rig.db.exec("ALTER TABLE \"s x\".\"Large\" ADD note text DEFAULT 'mine', ADD UNIQUE (u)").await;
    let n = 5000;
    let text = |k: i32| t(&format!("tab\tline\nback\\slash {k}"));
    let rows: Vec<Change> = (0..n).map(|k| insert([i(k), i(k), text(k)])).collect();
    assert_eq!(rig.apply(&table, &rows).await.inserted, n as u64);
    rig.db.exec("UPDATE \"s x\".\"Large\" SET note = 'kept ' || id").await;

    // Every unique value moves to the next row: the plain order must fail, the other one is right.
    let rows: Vec<Change> = (0..n).map(|k| update([i(k), i((k + 1) % n), V::Unknown])).collect();
    let counts = rig.apply(&table, &rows).await;
    assert_eq!((counts.updated, counts.conflicts), (n as u64, 0));
    let sql = format!(
        "SELECT count(*) FROM \"s x\".\"Large\" WHERE u = (id + 1) % {n} AND note = 'kept ' || id \
         AND \"Text\" = E'tab\\tline\\nback\\\\slash ' || id"
    );
    assert_eq!(rig.db.number(&sql).await, i64::from(n));

    // Large and harmless: by way of the temporary table, some rows absent.
    let rows: Vec<Change> = (0..n + 10).map(|k| update([i(k), i(k + 100_000), t("same")])).collect();
    let counts = rig.apply(&table, &rows).await;
    assert_eq!((counts.updated, counts.conflicts), (n as u64 + 10, 10));
    let sql = "SELECT count(*) FROM \"s x\".\"Large\" WHERE u = id + 100000 AND \"Text\" = 'same'";
    assert_eq!(rig.db.number(sql).await, i64::from(n) + 10);
    let kept = rig.db.number("SELECT count(*) FROM \"s x\".\"Large\" WHERE note = 'kept ' || id").await;
    assert_eq!(kept, i64::from(n));

    // A value larger than any buffer, by COPY and by update.
    let big = "ü\\\n".repeat(1 << 20);
    rig.apply(&table, &[insert([i(-1), i(-1), t(&big)])]).await;
    rig.apply(&table, &[update([i(0), i(-5), t(&big)])]).await;
    let sql = "SELECT count(*) FROM \"s x\".\"Large\" WHERE \"Text\" = repeat(E'ü\\\\\\n', 1 << 20)";
    assert_eq!(rig.db.number(sql).await, 2);

    let rows: Vec<Change> = (-1..n + 10).map(delete).collect();
    assert_eq!(rig.apply(&table, &rows).await.conflicts, 0);
    assert!(rig.rows(&table).await.is_empty());
}

#[tokio::test]
async fn a_table_without_a_key() {
    let mut rig = Rig::start().await;
    let table = table("Full", Identity::Full);
    rig.prepare(&table).await;
    let row = |a: i32, b: &str| [i(a), V::Null, t(b)];
    let gone = |a: i32, b: &str| (Op::Delete, None, row(a, b).to_vec());
    let rows = [insert(row(1, "a")), insert(row(1, "a")), insert(row(1, "a")), insert(row(2, "")), insert(row(2, "b"))];
    rig.apply(&table, &rows).await;
    let old = row(1, "a");
    let counts = rig
        .apply(
            &table,
            &[
                gone(1, "a"),
                from(&old, row(1, "c")),
                from(&row(1, "c"), row(1, "d")),
                from(&row(1, "d"), [i(5), V::Null, V::Unknown]),
                gone(2, ""),
                gone(8, "not there"),
            ],
        )
        .await;
    assert_eq!((counts.updated, counts.deleted, counts.conflicts), (3, 3, 1));
    assert_eq!(rig.rows(&table).await, ["(1,,a)", "(2,,b)", "(5,,d)"]);
    let many: Vec<Change> = (0..200).map(|n| insert(row(n % 4, "dup"))).collect();
    rig.apply(&table, &many).await;
    let some: Vec<Change> = (0..102).map(|n| gone(n % 2, "dup")).collect();
    assert_eq!(rig.apply(&table, &some).await.conflicts, 2);
    assert_eq!(rig.db.number("SELECT count(*) FROM \"s x\".\"Full\" WHERE \"Text\" = 'dup'").await, 100);
}

#[tokio::test]
async fn the_last_lane_wins_and_open_sets_stay_invisible() {
    let mut rig = Rig::start().await;
    let table = table("Open", Identity::Key);
    rig.prepare(&table).await;
    let mut open = set(vec![Step::Rows(batch(&table, &[insert([i(1), i(1), t("a")])]))], 1);
    open.open = true;
    rig.lane.apply(open, &checkpoint(1)).await.unwrap();
    assert!(rig.rows(&table).await.is_empty());
    rig.apply(&table, &[insert([i(2), i(2), t("b")])]).await;
    assert_eq!(rig.rows(&table).await.len(), 2);
    let mut durable = None;
    for _ in 0..100 {
        durable = rig.lane.durable().await.unwrap();
        if durable.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(durable, Some(checkpoint(1).position));

    let mut second = rig.target.open_lane().await.unwrap();
    assert!(second.epoch() > rig.lane.epoch());
    assert_eq!(second.record().await.unwrap().checkpoint, Some(checkpoint(1)));
    let steps = vec![Step::Rows(batch(&table, &[insert([i(3), i(3), t("c")])]))];
    assert_eq!(rig.try_steps(steps).await.unwrap_err().class(), Class::Fenced);
    let mut loader = rig.target.open_loader(rig.lane.epoch()).await.unwrap();
    let chunk = Chunk { id: 0, range: ChunkRange::Whole, rows: 1 };
    second.plan_chunks(&table, std::slice::from_ref(&chunk), false).await.unwrap();
    loader.start_chunk(&table, &chunk).await.unwrap();
    let fenced = loader.finish_chunk(&checkpoint(1).position).await.unwrap_err();
    assert_eq!(fenced.class(), Class::Fenced);
    assert_eq!(rig.rows(&table).await.len(), 2);
}

#[tokio::test]
async fn loads_schema_changes_and_the_record() {
    let mut rig = Rig::start().await;
    let table = table("Loaded", Identity::Key);
    rig.lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
    let chunk = |id| Chunk { id, range: ChunkRange::Physical(format!("{id}")), rows: 2 };
    rig.lane.plan_chunks(&table, &[chunk(0), chunk(1)], false).await.unwrap();
    let mut loader = rig.target.open_loader(rig.lane.epoch()).await.unwrap();
    for n in 0..2 {
        loader.start_chunk(&table, &chunk(n)).await.unwrap();
        for k in 0..2 {
            let id = (n * 2 + k) as i32;
            loader.load(batch(&table, &[insert([i(id), V::Null, t("x")])])).await.unwrap();
        }
        assert_eq!(loader.finish_chunk(&checkpoint(7).position).await.unwrap(), 2);
    }
    let record = rig.target.record().await.unwrap().unwrap();
    assert_eq!(record.tables[0].state, TableState::Loading);
    assert!(record.tables[0].chunks.iter().all(|c| c.rows == 2 && c.done == Some(checkpoint(7).position)));
    rig.lane.finish_table(&table).await.unwrap();
    rig.lane.finish_table(&table).await.unwrap();

    let mut next = (*table).clone();
    next.columns.push(column("added", LogicalType::Int32, "integer"));
    let next = Arc::new(next);
    let existing = vec![Some("42".to_owned())];
    let added = SchemaChangeKind::AddColumns { next: Arc::clone(&next), existing };
    let steps = vec![
        Step::Rows(batch(&table, &[update([i(0), i(5), t("before")])])),
        Step::Schema(SchemaChange { table: Arc::clone(&table), kind: added }),
        Step::Rows(batch(&next, &[(Op::Insert, None, vec![i(9), i(9), t("after"), i(1)])])),
    ];
    rig.try_steps(steps).await.unwrap();
    assert_eq!(rig.rows(&next).await, ["(0,5,before,42)", "(1,,x,42)", "(2,,x,42)", "(3,,x,42)", "(9,9,after,1)"]);
    assert_eq!(rig.target.record().await.unwrap().unwrap().tables[0].schema, next);

    let truncate = Truncate { tables: vec![Arc::clone(&next)], cascade: true, restart_identity: true };
    let suspend = SchemaChangeKind::Suspend { reason: "a type".to_owned(), remedy: "reload".to_owned() };
    let change = SchemaChange { table: Arc::clone(&next), kind: suspend };
    rig.try_steps(vec![Step::Truncate(truncate), Step::Schema(change)]).await.unwrap();
    assert!(rig.rows(&next).await.is_empty());
    let record = rig.target.record().await.unwrap().unwrap();
    assert_eq!((record.tables[0].state, record.tables[0].reason.as_deref()), (TableState::Suspended, Some("a type")));

    rig.target.reload(&next.id).await.unwrap();
    rig.lane.prepare(&next, OnExisting::Refuse, true).await.unwrap();
    assert_eq!(rig.target.record().await.unwrap().unwrap().tables[0].state, TableState::Loading);
    rig.target.forget().await.unwrap();
    rig.target.forget().await.unwrap();
    assert_eq!(rig.target.record().await.unwrap(), None);
}

#[tokio::test]
async fn existing_tables_fit_or_are_refused() {
    let mut rig = Rig::start().await;
    let refusal = |e: Error| {
        assert_eq!(e.class(), Class::Refused, "{e}");
        e.to_string()
    };
    rig.db
        .exec(
            "CREATE SCHEMA \"s x\"; CREATE TABLE \"s x\".narrow (id int PRIMARY KEY, u smallint, \"Text\" text);
             CREATE TABLE \"s x\".lacking (id int PRIMARY KEY, u int);
             CREATE TABLE \"s x\".nokey (id int, u int, \"Text\" text);
             CREATE TABLE \"s x\".demanding (id int PRIMARY KEY, u int, \"Text\" text, more int NOT NULL);
             CREATE TABLE \"s x\".filled (id bigint PRIMARY KEY, u int, \"Text\" varchar, more int DEFAULT 3);
             INSERT INTO \"s x\".filled VALUES (1, 1, 'old'), (2, 2, 'old')",
        )
        .await;
    for (name, said, remedy) in [
        ("narrow", "cannot hold integer", "ALTER COLUMN \"u\" TYPE integer"),
        ("lacking", "lacks this column", "ADD COLUMN \"Text\" text"),
        ("nokey", "no unique index", "CREATE UNIQUE INDEX"),
        ("demanding", "NOT NULL without a default", "DROP NOT NULL"),
        ("filled", "rows are there already", "on-existing"),
    ] {
        let mut lane = rig.target.open_lane().await.unwrap();
        let text = refusal(lane.prepare(&table(name, Identity::Key), OnExisting::Refuse, true).await.unwrap_err());
        assert!(text.contains(said) && text.contains(remedy), "{text}");
    }
    let filled = table("filled", Identity::Key);
    rig.lane = rig.target.open_lane().await.unwrap();
    rig.lane.prepare(&filled, OnExisting::Keep, true).await.unwrap();
    let chunk = Chunk { id: 0, range: ChunkRange::Whole, rows: 2 };
    rig.lane.plan_chunks(&filled, std::slice::from_ref(&chunk), false).await.unwrap();
    let mut loader = rig.target.open_loader(rig.lane.epoch()).await.unwrap();
    loader.start_chunk(&filled, &chunk).await.unwrap();
    loader.load(batch(&filled, &[insert([i(2), i(5), t("new")]), insert([i(3), V::Null, t("new")])])).await.unwrap();
    loader.finish_chunk(&checkpoint(1).position).await.unwrap();
    rig.lane.finish_table(&filled).await.unwrap();
    assert_eq!(rig.rows(&filled).await, ["(1,1,old,3)", "(2,5,new,3)", "(3,,new,3)"]);
    rig.apply(&filled, &[update([i(1), i(1), t("applied")]), delete(2), from(&[i(3)], [i(4), V::Null, V::Unknown])])
        .await;
    assert_eq!(rig.rows(&filled).await, ["(1,1,applied,3)", "(4,,new,3)"]);
    let findings = rig.target.check().await.unwrap();
    assert_eq!(findings.len(), 4);
    drop(rig.server);
}
