//! The PostgreSQL target against a real server: one lane, sets made by hand.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, RecordBatch};

use crate::rig::{Change, Keeper, Rig, V, batch, checkpoint, column, delete, from, i, insert, set, t, table, update};
use trem_endpoints::postgres::config::PgConfig;
use trem_endpoints::postgres::target::PostgresTarget;
use trem_engine::change::{Op, Step, Truncate};
use trem_engine::chunk::Chunk;
use trem_engine::ports::{Severity, Target};
use trem_engine::record::TableState;
use trem_engine::schema::{Identity, SchemaChange, SchemaChangeKind, Type};
use trem_engine::task::OnExisting;
use trem_engine::{Class, Error, Remedy};

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
    assert_eq!(lost.class(), Class::Table);
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

    // A COPY that meets rows, one of them large, falls back and still counts.
    let mut rows: Vec<Change> = (20_000..30_000).map(|k| insert([i(k), i(k + 200_000), text(k)])).collect();
    rows.push(insert([i(7), i(-7), t(&big)]));
    assert_eq!(rig.apply(&table, &rows).await.conflicts, 1);
    let sql = "SELECT count(*) FROM \"s x\".\"Large\" WHERE u = -7 AND id = 7 AND note = 'kept 7'";
    assert_eq!(rig.db.number(sql).await, 1);
    // Unique values swap between two large rows, and a third, large too, is only moved.
    let rows =
        [update([i(0), i(-7), V::Unknown]), update([i(7), i(-5), t(&big)]), from(&[i(-1)], [i(-2), i(-1), t(&big)])];
    assert_eq!(rig.apply(&table, &rows).await.conflicts, 0);
    let sql = "SELECT string_agg(id || ':' || u || ':' || length(\"Text\"), ' ' ORDER BY id) \
               FROM \"s x\".\"Large\" WHERE u < 0";
    assert_eq!(rig.db.one(sql).await, "-2:-1:3145728 0:-7:3145728 7:-5:3145728");

    let rows: Vec<Change> = (20_000..30_000).chain(std::iter::once(-2)).map(delete).collect();
    assert_eq!(rig.apply(&table, &rows).await.conflicts, 0);
    let rows: Vec<Change> = (0..n + 10).map(delete).collect();
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
    open.span.open = true;
    rig.lane.apply(open).await.unwrap();
    assert!(rig.rows(&table).await.is_empty());
    rig.apply(&table, &[insert([i(2), i(2), t("b")])]).await;
    assert_eq!(rig.rows(&table).await.len(), 2);
    let mut durable = None;
    for _ in 0..100 {
        durable = rig.lane.durable(false).await.unwrap();
        if durable.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(durable, Some(checkpoint(1).position));

    let mut second = Keeper::take_over(&rig.target).await.unwrap();
    assert!(second.epoch > rig.lane.epoch);
    assert_eq!(second.record().checkpoint, Some(checkpoint(1)));
    let steps = vec![Step::Rows(batch(&table, &[insert([i(3), i(3), t("c")])]))];
    assert_eq!(rig.try_steps(steps).await.unwrap_err().class(), Class::Fenced);
    let mut loader = rig.lane.open_loader(&rig.target).await.unwrap();
    let chunk = Chunk { id: 0, range: "all".to_owned(), survives: false, rows: 1 };
    second.plan_chunks(&table, std::slice::from_ref(&chunk), false).await.unwrap();
    loader.start_chunk(&table, &chunk).await.unwrap();
    let fenced = loader.finish_chunk(&checkpoint(1).position).await.unwrap_err();
    assert_eq!(fenced.class(), Class::Fenced);
    assert_eq!(rig.rows(&table).await.len(), 2);
}

/// Chunks that were loaded before a reload would say that nothing is left to load.
#[tokio::test]
async fn a_reload_forgets_chunks() {
    let mut rig = Rig::start().await;
    let table = table("Reloaded", Identity::Key);
    let chunk = Chunk { id: 0, range: "all".to_owned(), survives: false, rows: 2 };
    rig.lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
    rig.lane.plan_chunks(&table, &[chunk], false).await.unwrap();
    rig.reload(&table.id).await;
    rig.lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
    let record = rig.target.record().await.unwrap().unwrap();
    assert!(record.tables[0].chunks.is_empty(), "{:?}", record.tables[0].chunks);
}

#[tokio::test]
async fn loads_schema_changes_and_the_record() {
    let mut rig = Rig::start().await;
    let table = table("Loaded", Identity::Key);
    rig.lane.prepare(&table, OnExisting::Refuse, true).await.unwrap();
    let chunk = |id| Chunk { id, range: format!("{id}"), survives: false, rows: 2 };
    rig.lane.plan_chunks(&table, &[chunk(0), chunk(1)], false).await.unwrap();
    let mut loader = rig.lane.open_loader(&rig.target).await.unwrap();
    for n in 0..2 {
        loader.start_chunk(&table, &chunk(n)).await.unwrap();
        for k in 0..2 {
            let id = (n * 2 + k) as i32;
            loader.load(batch(&table, &[insert([i(id), V::Null, t("x")])])).await.unwrap();
        }
        loader.finish_chunk(&checkpoint(7).position).await.unwrap();
    }
    let record = rig.target.record().await.unwrap().unwrap();
    assert_eq!(record.tables[0].state, TableState::Loading);
    assert!(record.tables[0].chunks.iter().all(|c| c.rows == 2 && c.done == Some(checkpoint(7).position)));
    rig.lane.finish_table(&table).await.unwrap();
    rig.lane.finish_table(&table).await.unwrap();

    let mut next = (*table).clone();
    next.columns.push(column("added", Type::Int32, "integer"));
    let next = Arc::new(next);
    let values: ArrayRef = Arc::new(Int32Array::from(vec![42]));
    let existing = RecordBatch::try_from_iter([("added", values)]).unwrap();
    let added = SchemaChangeKind::AddColumns { next: Arc::clone(&next), existing };
    let steps = vec![
        Step::Rows(batch(&table, &[update([i(0), i(5), t("before")])])),
        Step::Schema(SchemaChange { table: Arc::clone(&table), kind: added }),
        Step::Rows(batch(&next, &[(Op::Insert, None, vec![i(9), i(9), t("after"), i(1)])])),
    ];
    rig.try_steps(steps).await.unwrap();
    assert_eq!(rig.rows(&next).await, ["(0,5,before,42)", "(1,,x,42)", "(2,,x,42)", "(3,,x,42)", "(9,9,after,1)"]);
    assert_eq!(rig.target.record().await.unwrap().unwrap().tables[0].target, next);

    let truncate = Truncate { tables: vec![Arc::clone(&next)], cascade: true, restart_identity: true, commit: None };
    let suspend = SchemaChangeKind::Suspend { reason: "a type".to_owned(), remedy: Remedy::Reload(next.id.clone()) };
    let change = SchemaChange { table: Arc::clone(&next), kind: suspend };
    rig.try_steps(vec![Step::Truncate(truncate), Step::Schema(change)]).await.unwrap();
    assert!(rig.rows(&next).await.is_empty());
    let record = rig.target.record().await.unwrap().unwrap();
    assert_eq!((record.tables[0].state, record.tables[0].reason.as_deref()), (TableState::Suspended, Some("a type")));
    assert_eq!(record.tables[0].remedy, Some(Remedy::Reload(next.id.clone())));
    // As version 0.1.0 has written it.
    rig.db.exec("UPDATE trem.table_state SET remedy = 'look, then reload'").await;
    let record = rig.target.record().await.unwrap().unwrap();
    assert_eq!(record.tables[0].remedy, Some("look, then reload".into()));

    rig.reload(&next.id).await;
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
             CREATE VIEW \"s x\".looks AS SELECT 1 AS id;
             CREATE TABLE \"s x\".nokey (id int, u int, \"Text\" text);
             CREATE TABLE \"s x\".demanding (id int PRIMARY KEY, u int, \"Text\" text, more int NOT NULL);
             CREATE TABLE \"s x\".filled (id bigint PRIMARY KEY, u int, \"Text\" varchar, more int DEFAULT 3);
             INSERT INTO \"s x\".filled VALUES (1, 1, 'old'), (2, 2, 'old')",
        )
        .await;
    for (name, said, remedy) in [
        ("narrow", "cannot hold integer", "ALTER COLUMN \"u\" TYPE integer"),
        ("lacking", "lacks this column", "ADD COLUMN \"Text\" text"),
        ("looks", "is a view", "rename"),
        ("nokey", "no unique index", "CREATE UNIQUE INDEX"),
        ("demanding", "NOT NULL without a default", "DROP NOT NULL"),
        ("filled", "rows are there already", "on-existing"),
    ] {
        let text = refusal(rig.lane.prepare(&table(name, Identity::Key), OnExisting::Refuse, true).await.unwrap_err());
        assert!(text.contains(said) && text.contains(remedy), "{text}");
    }
    let filled = table("filled", Identity::Key);
    rig.lane.suspend(&filled, "refused before", "nothing").await.unwrap();
    rig.lane.forget_table(&filled.id).await.unwrap();
    rig.lane.prepare(&filled, OnExisting::Keep, true).await.unwrap();
    let chunk = Chunk { id: 0, range: "all".to_owned(), survives: false, rows: 2 };
    rig.lane.plan_chunks(&filled, std::slice::from_ref(&chunk), false).await.unwrap();
    let mut loader = rig.lane.open_loader(&rig.target).await.unwrap();
    loader.start_chunk(&filled, &chunk).await.unwrap();
    loader.load(batch(&filled, &[insert([i(2), i(5), t("new")]), insert([i(3), V::Null, t("new")])])).await.unwrap();
    loader.finish_chunk(&checkpoint(1).position).await.unwrap();
    rig.lane.finish_table(&filled).await.unwrap();
    assert_eq!(rig.rows(&filled).await, ["(1,1,old,3)", "(2,5,new,3)", "(3,,new,3)"]);
    rig.apply(&filled, &[update([i(1), i(1), t("applied")]), delete(2), from(&[i(3)], [i(4), V::Null, V::Unknown])])
        .await;
    assert_eq!(rig.rows(&filled).await, ["(1,1,applied,3)", "(4,,new,3)"]);
    let findings = rig.target.check(4).await.unwrap();
    assert_eq!(findings.len(), 4);
    drop(rig.server);
}

#[tokio::test]
async fn a_role_without_privileges_is_warned_and_an_ordinary_one_works() {
    let rig = Rig::start().await;
    rig.db.exec("CREATE ROLE plain LOGIN; CREATE ROLE owner LOGIN; GRANT CREATE ON DATABASE t TO owner").await;
    rig.target.forget().await.unwrap();
    let url = |user: &str| format!("postgres://{user}@127.0.0.1:{}/t", rig.server.port());
    let target = |user: &str| PostgresTarget::new(PgConfig::parse(&url(user)).unwrap(), "ordinary");
    let findings = target("plain").check(4).await.unwrap();
    let denied = findings.iter().find(|f| f.severity == Severity::Error).unwrap();
    let grant = Remedy::Sql("GRANT CREATE ON DATABASE \"t\" TO \"plain\"".to_owned());
    assert_eq!(denied.remedy, Some(grant));
    let warned = findings.iter().find(|f| f.severity == Severity::Warning).unwrap();
    assert!(warned.remedy.as_ref().unwrap().to_string().contains("GRANT SET ON PARAMETER session_replication_role"));
    let e = Keeper::take_over(&target("plain")).await.map(drop).unwrap_err();
    assert_eq!(e.class(), Class::Refused, "{e}");

    let target = target("owner");
    assert!(target.check(4).await.unwrap().iter().all(|f| f.severity != Severity::Error));
    let mut lane = Keeper::take_over(&target).await.unwrap();
    let table = table("Owned", Identity::Key);
    lane.begin(&checkpoint(1).lineage).await.unwrap();
    lane.prepare(&table, OnExisting::Refuse, false).await.unwrap();
    let rows = batch(&table, &[insert([i(1), i(1), t("a")])]);
    lane.apply(set(vec![Step::Rows(rows)], 1)).await.unwrap();
    assert_eq!(rig.rows(&table).await, ["(1,1,a)"]);
}
