//! A task that version 0.1.0 has begun goes on, from what that version writes on the target: its own bookkeeping,
//! shortened, with what differs from server to server filled in.

use trem_tests::World;

use crate::PATIENCE;

const SCHEMA: &str = include_str!("../fixtures/record_0_1_0/schema.sql");
const LOADING: &str = include_str!("../fixtures/record_0_1_0/loading.sql");
const FOLLOWING: &str = include_str!("../fixtures/record_0_1_0/following.sql");

const LOAD: &str = "[TASK.load]\nworkers = 2\nchunk-bytes = \"64KiB\"\nresume-above-bytes = \"128KiB\"\n";

const TABLES: &str = "
    CREATE TABLE big (id bigint PRIMARY KEY, n int, price numeric(10,2), t text);
    CREATE TABLE heap (id int, v text); ALTER TABLE heap REPLICA IDENTITY FULL;
    CREATE TABLE a_small (id int PRIMARY KEY, v int);
    CREATE TABLE left_out (id int PRIMARY KEY, v int);
    INSERT INTO big SELECT i, i % 97, i / 7.0, md5(i::text) || repeat('x', 100) FROM generate_series(1, 5000) i;
    INSERT INTO heap SELECT i % 100, repeat('h', 300) || i % 100 FROM generate_series(1, 500) i;
    INSERT INTO a_small SELECT i, 0 FROM generate_series(1, 100) i; INSERT INTO left_out VALUES (1, 1); ANALYZE";

/// Every kind of change: across the ranges of the load, of rows that are equal, and of keys.
const CHANGES: &str = "
    UPDATE big SET n = -n WHERE id % 50 = 1; DELETE FROM big WHERE id % 50 = 2;
    UPDATE big SET id = -id WHERE id % 50 = 3;
    UPDATE big SET id = id + 100000 WHERE id % 50 = 4; INSERT INTO big SELECT max(id) + 1, 0, 0, 'new' FROM big;
    UPDATE heap SET v = 'u' || v WHERE ctid IN (SELECT ctid FROM heap ORDER BY ctid LIMIT 30);
    DELETE FROM heap WHERE ctid IN (SELECT max(ctid) FROM heap GROUP BY id % 9);
    INSERT INTO heap SELECT 7, 'dup' FROM generate_series(1, 3); UPDATE a_small SET v = v + 1";

/// The source as 0.1.0 left it: publication and slot under its names. Returns where the slot starts.
async fn source(world: &World) -> String {
    world.source.exec(TABLES).await;
    let publication = "CREATE PUBLICATION trem_t FOR TABLE ONLY public.big, ONLY public.heap, ONLY public.a_small, \
                       ONLY public.left_out WITH (publish_via_partition_root = true)";
    world.source.exec(publication).await;
    world.source.one("SELECT lsn FROM pg_create_logical_replication_slot('trem_t', 'pgoutput')").await
}

/// The record, from a template.
async fn record(world: &World, template: &str, start: &str, at: &str) {
    let lineage = world
        .source
        .one(
            "SELECT format('system %s database %s timeline %s', system_identifier, oid, timeline_id)
             FROM pg_control_system(), pg_control_checkpoint(), pg_database WHERE datname = current_database()",
        )
        .await;
    let mut text = template.replace("{lineage}", &lineage);
    for (place, order, lsn) in [(start, "{start_order}", "{start_lsn}"), (at, "{order}", "{lsn}")] {
        let number = world.source.one(&format!("SELECT '{place}'::pg_lsn - '0/0'::pg_lsn")).await;
        text = text.replace(order, &number).replace(lsn, place);
    }
    for table in ["big", "heap", "a_small", "left_out"] {
        let oid = world.source.one(&format!("SELECT '{table}'::regclass::oid")).await;
        text = text.replace(&format!("{{oid:{table}}}"), &oid);
    }
    world.target.exec(&format!("{SCHEMA}{text}")).await;
}

/// Copies rows of the source as they are now.
async fn copy(world: &World, table: &str, which: &str) {
    let rows = world.source.rows(&format!("SELECT quote_literal(whole::text) FROM {table} AS whole {which}")).await;
    let values: Vec<String> = rows.into_iter().map(|r| format!("({}::{table})", r[0].as_deref().unwrap())).collect();
    let sql = format!("INSERT INTO {table} SELECT (r).* FROM (VALUES {}) AS v(r)", values.join(", "));
    world.target.exec(&sql).await;
}

/// What is on the target is of this version now.
async fn upgraded(world: &World, epoch: i64) {
    assert_eq!(world.target.number("SELECT format FROM trem.meta").await, 3);
    let place = "SELECT count(*) FROM trem.lane WHERE task = 't' AND lane = 0 AND position IS NOT NULL";
    assert_eq!(world.target.number(place).await, 1);
    assert_eq!(world.target.number("SELECT count(*) FROM trem.task WHERE position IS NOT NULL").await, 0);
    assert_eq!(world.target.number("SELECT count(*) FROM trem.table_state WHERE target_shape IS NULL").await, 0);
    assert_eq!(world.target.number("SELECT epoch FROM trem.task").await, epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_goes_on_from_its_key_ranges() {
    let mut world = World::one().await;
    world.configure(|c| {
        c.sections = LOAD.into();
        c.exclude = vec!["public.left_out".to_owned()];
    });
    let start = source(&world).await;
    record(&world, LOADING, &start, &start).await;
    // Keys come with the end of a load.
    world
        .target
        .exec(
            "CREATE TABLE big (id bigint NOT NULL, n int, price numeric(10,2), t text);
             CREATE TABLE heap (id int, v text); CREATE TABLE a_small (id int PRIMARY KEY, v int)",
        )
        .await;
    copy(&world, "big", "WHERE id < 1067 OR id >= 2606 AND id < 4274").await;
    copy(&world, "heap", "ORDER BY ctid LIMIT 40").await;
    copy(&world, "a_small", "").await;
    let xid = world.target.number("SELECT txid_snapshot_xmax(txid_current_snapshot())").await;
    world.source.exec(CHANGES).await;

    let status = world.trem.command(&["status"]).expect(0);
    status.says(&["public.big", "loading", "2/4", "public.a_small", "ready"]);
    assert_eq!(world.target.number("SELECT format FROM trem.meta").await, 1, "to look changes nothing");
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.big", "public.heap", "public.a_small"]).await;
    upgraded(&world, 2).await;
    let kept = format!("SELECT count(*) FROM big WHERE xmin::text::bigint < {xid}");
    let kept = world.target.number(&kept).await;
    // Of the 2734 rows that were in, 80 in a thousand have changed.
    assert!((2450..2734).contains(&kept), "{kept} rows stayed: finished ranges were read again");
    assert_eq!(world.target.number("SELECT count(*) FROM pg_index WHERE indrelid = 'big'::regclass").await, 1);

    let mut running = world.trem.start();
    world.source.exec(CHANGES).await;
    world.equal(&["public.big", "public.heap", "public.a_small"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_on_from_where_they_were() {
    let mut world = World::one().await;
    world.configure(|c| c.sections = LOAD.into());
    let start = source(&world).await;
    world.source.exec(CHANGES).await;
    let made = TABLES.split("INSERT").next().unwrap();
    world.target.exec(made).await;
    copy(&world, "big", "").await;
    copy(&world, "heap", "").await;
    world.target.exec("INSERT INTO a_small VALUES (500, 500); INSERT INTO left_out VALUES (1, 1)").await;
    let at = world.source.one("SELECT pg_current_wal_insert_lsn()").await;
    record(&world, FOLLOWING, &start, &at).await;
    // Not on the target; what is before has taken effect, and the slot has not been told.
    world.source.exec("ALTER TABLE left_out ALTER v TYPE bigint; INSERT INTO left_out VALUES (2, 2)").await;
    world.source.exec(CHANGES).await;

    let file = world.trem.config();
    let remedy = format!("trem reload {} --task t --table public.left_out", file.display());
    world.trem.command(&["status"]).expect(0).says(&["no longer of type integer", &remedy, "to be loaded again"]);
    world.trem.until_current().expect(3);
    world.assert_equal(&["public.big", "public.heap", "public.a_small"]).await;
    upgraded(&world, 4).await;
    assert_eq!(world.target.number("SELECT count(*) FROM left_out").await, 1);

    // And what it has suspended is loaded again beside the stream.
    let mut running = world.trem.start();
    world.trem.command(&["reload", "--task", "t", "--table", "public.left_out"]).expect(0);
    world.source.exec(CHANGES).await;
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}
