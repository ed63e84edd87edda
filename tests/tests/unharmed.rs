//! Nothing that trem does makes a statement of the source's applications fail or wait.

use std::time::Instant;

use trem_tests::World;

use crate::PATIENCE;

/// Generated columns are a matter of the publication from version 18 on: stored ones are in it, a table whose old rows
/// would need virtual ones is not.
#[tokio::test(flavor = "multi_thread")]
async fn tables_with_generated_columns_can_be_changed() {
    let Some(world) = World::newest().await else { return };
    let source = &world.source;
    source
        .exec(
            "CREATE TABLE stored (i int, b int GENERATED ALWAYS AS (5 * i) STORED, t text);
             ALTER TABLE stored REPLICA IDENTITY FULL; INSERT INTO stored (i, t) VALUES (1, 'a'), (2, 'b'), (3, 'c');
             CREATE TABLE keyed (i int PRIMARY KEY, b int GENERATED ALWAYS AS (5 * i) VIRTUAL, t text);
             INSERT INTO keyed (i, t) VALUES (1, 'a'), (2, 'b');
             CREATE TABLE whole (i int PRIMARY KEY, b int GENERATED ALWAYS AS (5 * i) VIRTUAL, t text);
             ALTER TABLE whole REPLICA IDENTITY FULL; INSERT INTO whole (i, t) VALUES (1, 'a'), (2, 'b');
             CREATE TABLE plain (i int PRIMARY KEY, t text); INSERT INTO plain VALUES (1, 'a'), (2, 'b')",
        )
        .await;
    let remedy = "ALTER TABLE \"public\".\"whole\" REPLICA IDENTITY DEFAULT";
    for command in ["check", "run"] {
        let says = ["public.whole", "virtual generated column", remedy];
        world.trem.command(&[command]).expect(1).says(&says);
        assert_eq!(source.number("SELECT count(*) FROM pg_publication").await, 0);
    }
    source.exec(remedy).await;
    let mut running = world.trem.start();
    let all = &["public.%"];
    world.equal(all, &mut running).await;
    let change = "UPDATE stored SET i = 30, t = 'x' WHERE i = 3; DELETE FROM stored WHERE i = 2; \
                  UPDATE whole SET t = 'x' WHERE i = 1; UPDATE keyed SET i = 10 WHERE i = 1";
    source.exec(change).await;
    world.equal(all, &mut running).await;
    // One that comes while it is followed is not the target's, and those that follow it are.
    source.exec("ALTER TABLE plain ADD b int GENERATED ALWAYS AS (i + 1) VIRTUAL, ADD w int DEFAULT 7").await;
    source.exec("UPDATE plain SET t = 'y' WHERE i = 1; INSERT INTO plain (i, t, w) VALUES (3, 'c', 1)").await;
    let rows = "SELECT string_agg(concat_ws(' ', i, t, w), ',' ORDER BY i) FROM plain";
    world.target.wait_for(rows, "1 y 7,2 b 7,3 c 1", PATIENCE).await;
    running.stop(PATIENCE).expect(0);
    // What an older version has published is made good.
    source.exec("ALTER PUBLICATION trem_t SET (publish_generated_columns = none)").await;
    let mut running = world.trem.start();
    source.wait_for("SELECT pubgencols::text FROM pg_publication", "s", PATIENCE).await;
    source.exec("UPDATE stored SET t = 'z' WHERE i = 1").await;
    world.equal(&["public.stored"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// A stored generated column that comes while its table is followed is left out of the rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_column_that_comes_later() {
    let Some(world) = World::newest().await else { return };
    world.source.exec("CREATE TABLE t (i int PRIMARY KEY, t text)").await;
    let mut running = world.trem.start();
    world.equal(&["public.t"], &mut running).await;
    world.source.exec("ALTER TABLE t ADD b int GENERATED ALWAYS AS (i + 1) STORED").await;
    world.source.exec("INSERT INTO t (i, t) VALUES (1, 'a'), (2, 'a'); UPDATE t SET t = 'b' WHERE i = 1").await;
    world.source.exec("UPDATE t SET i = 3 WHERE i = 1; DELETE FROM t WHERE i = 2").await;
    world.target.wait_for("SELECT string_agg(concat_ws(' ', i, t), ',') FROM t", "3 b", PATIENCE).await;
    // Once it is known it does not stand against what comes after it.
    let noted = "SELECT shape::text ~ 'generated[^n]*[0-9a-f]{32}' FROM trem.table_state";
    world.target.wait_for(noted, "t", PATIENCE).await;
    world.source.exec("ALTER TABLE t ADD w int; INSERT INTO t (i, t, w) VALUES (4, 'd', 5)").await;
    let rows = "SELECT string_agg(concat_ws(' ', i, t, w), ',' ORDER BY i) FROM t";
    world.target.wait_for(rows, "3 b,4 d 5", PATIENCE).await;
    running.stop(PATIENCE).expect(0);
}

/// A table whose rows cannot be told apart any more, itself or in a partition, does not stay published; nor does the
/// last one.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_lose_their_identity_are_let_go() {
    let world = World::one().await;
    let source = &world.source;
    source
        .exec(
            "CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
             CREATE TABLE p1 PARTITION OF parts FOR VALUES FROM (0) TO (100); INSERT INTO parts VALUES (1, 'a');
             CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'a')",
        )
        .await;
    let mut running = world.trem.start();
    world.equal(&["public.%"], &mut running).await;
    source
        .exec(
            "CREATE TABLE p2 (LIKE parts INCLUDING ALL); ALTER TABLE p2 REPLICA IDENTITY NOTHING;
             ALTER TABLE parts ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200); INSERT INTO parts VALUES (101, 'b');
             ALTER TABLE a REPLICA IDENTITY NOTHING",
        )
        .await;
    for change in ["UPDATE parts SET v = 'c' WHERE id = 101", "UPDATE a SET v = 'c'"] {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = source.try_exec(change).await {
            assert!(error.contains("replica identity") && Instant::now() < deadline, "{error}: {}", running.log_tail());
        }
    }
    for table in ["public.parts", "public.a"] {
        assert_eq!(world.table_state(table).await, "suspended");
    }
    source.exec("ALTER TABLE p2 REPLICA IDENTITY DEFAULT; ALTER TABLE a REPLICA IDENTITY DEFAULT").await;
    for table in ["public.parts", "public.a"] {
        world.trem.command(&["reload", "--task", "t", "--table", table]).expect(0);
    }
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// A server that takes every reader of its log for a standby would let commits wait for trem.
#[tokio::test(flavor = "multi_thread")]
async fn no_commit_waits_for_trem() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    for names in ["*", "FIRST 1 (a, \"trem t\")"] {
        world.source.exec(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await;
        world.source.exec("SELECT pg_reload_conf()").await;
        world.source.wait_for("SHOW synchronous_standby_names", names, PATIENCE).await;
        for command in ["check", "run"] {
            world.trem.command(&[command]).expect(1).says(&["synchronous_standby_names", "would wait"]);
        }
    }
    world.source.exec("ALTER SYSTEM RESET synchronous_standby_names").await;
    world.source.exec("SELECT pg_reload_conf()").await;
    world.source.wait_for("SHOW synchronous_standby_names", "", PATIENCE).await;
    world.trem.until_current().expect(0);
}
