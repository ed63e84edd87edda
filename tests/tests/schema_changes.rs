//! A table that appears or changes: added columns follow, anything else suspends that table and no other.

use std::time::{Duration, Instant};

use trem_tests::{Running, World};

use crate::PATIENCE;

async fn follow() -> (World, Running) {
    let world = World::one().await;
    world
        .source
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY, v text, n int); CREATE TABLE bystander (id int PRIMARY KEY, v int);
             INSERT INTO t SELECT i, 'v' || i, i FROM generate_series(1, 100) i; INSERT INTO bystander VALUES (1, 1);",
        )
        .await;
    world.trem.until_current().expect(0);
    let mut running = world.trem.start();
    // What has changed when it starts is compared at once; what changes from here on is found where it is in the log.
    world.source.exec("UPDATE bystander SET v = 0").await;
    world.equal(&["public.bystander"], &mut running).await;
    (world, running)
}

async fn wait_state(world: &World, running: &mut Running, table: &str, state: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = world.table_state(table).await;
        if seen == state {
            return;
        }
        assert!(
            running.ended().is_none() && Instant::now() < deadline,
            "{table} is `{seen}` and never `{state}`:\n{}",
            running.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_column_is_added() {
    let (world, mut running) = follow().await;
    for step in [
        "ALTER TABLE t ADD a int; INSERT INTO t VALUES (1000, 'x', 1, 5); UPDATE t SET a = id WHERE id < 10",
        "ALTER TABLE t ADD b text DEFAULT 'con''stant' NOT NULL; UPDATE t SET n = 0 WHERE id = 20",
        "BEGIN; UPDATE t SET v = 'before' WHERE id = 30; \
         ALTER TABLE t ADD c timestamptz DEFAULT now(), ADD d numeric(8,3)[]; \
         UPDATE t SET v = 'after', d = '{1.5}' WHERE id = 31; COMMIT",
        "ALTER TABLE t ADD \"E e\" jsonb; INSERT INTO t (id, b) VALUES (2000, 'y'); DELETE FROM t WHERE id = 50",
        "UPDATE bystander SET v = 2",
    ] {
        world.source.exec(step).await;
        world.equal(&["public.%"], &mut running).await;
    }
    running.stop(PATIENCE).expect(0);
    // A column added while trem is away, and one added and filled in pieces.
    world.source.exec("ALTER TABLE t ADD f int DEFAULT 7; UPDATE t SET f = 8 WHERE id < 5").await;
    world.source.exec("ALTER TABLE t ADD g int; UPDATE t SET g = 9 WHERE id < 3").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

/// Every change that is not an added column suspends the table; the others go on, and a reload mends it.
#[tokio::test(flavor = "multi_thread")]
async fn other_changes_suspend_the_table_and_no_other() {
    for change in [
        "ALTER TABLE t DROP COLUMN n",
        "ALTER TABLE t RENAME COLUMN n TO m",
        "ALTER TABLE t ALTER n TYPE bigint",
        "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, n)",
        "ALTER TABLE t ADD r uuid DEFAULT gen_random_uuid()",
    ] {
        eprintln!("{change}");
        let (world, mut running) = follow().await;
        world
            .source
            .exec(&format!("UPDATE t SET v = 'last' WHERE id = 1; {change}; UPDATE t SET v = 'lost' WHERE id = 2"))
            .await;
        world.source.exec("UPDATE bystander SET v = 2").await;
        wait_state(&world, &mut running, "public.t", "suspended").await;
        world.equal(&["public.bystander"], &mut running).await;
        assert_eq!(world.target.one("SELECT v FROM t WHERE id = 1").await, "last", "what came before has arrived");
        world.source.exec("UPDATE bystander SET v = 3; UPDATE t SET v = 'more' WHERE id < 50").await;
        world.equal(&["public.bystander"], &mut running).await;
        assert_eq!(world.table_state("public.bystander").await, "ready");
        running.stop(PATIENCE);
        let status = world.trem.command(&["status"]);
        status.says(&["suspended", "trem reload"]);
        // Still suspended after a restart.
        let mut running = world.trem.start();
        world.source.exec("UPDATE bystander SET v = 4").await;
        world.equal(&["public.bystander"], &mut running).await;
        running.stop(PATIENCE);
        assert_eq!(world.table_state("public.t").await, "suspended");
        // The remedy.
        world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
        let mut running = world.trem.start();
        world.equal(&["public.%"], &mut running).await;
        world.source.exec("UPDATE t SET v = 'again'; DELETE FROM t WHERE id > 90").await;
        world.equal(&["public.%"], &mut running).await;
        running.stop(PATIENCE).expect(0);
    }
}

/// Tables that appear are loaded and followed, whatever happens to them meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_is_taken_in() {
    let (world, mut running) = follow().await;
    world
        .source
        .exec(
            "CREATE TABLE fresh (id int PRIMARY KEY, v text); \
        INSERT INTO fresh SELECT i, 'x' FROM generate_series(1, 5000) i",
        )
        .await;
    for n in 0..40 {
        let sql = format!(
            "UPDATE fresh SET v = 'u{n}' WHERE id % 40 = {n}; DELETE FROM fresh WHERE id = {n}; UPDATE t SET n = {n}"
        );
        world.source.exec(&sql).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.equal(&["public.%"], &mut running).await;
    // While trem is away.
    running.stop(PATIENCE).expect(0);
    world
        .source
        .exec("CREATE TABLE fresher (id int PRIMARY KEY); INSERT INTO fresher VALUES (1); UPDATE t SET n = -1")
        .await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

/// A table that is dropped, or dropped and made anew, does not stop the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_stops_no_other() {
    let (world, mut running) = follow().await;
    world.source.exec("UPDATE t SET v = 'x'; DROP TABLE t; UPDATE bystander SET v = 5").await;
    world.equal(&["public.bystander"], &mut running).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.source.exec("UPDATE bystander SET v = 6").await;
    world.equal(&["public.bystander"], &mut running).await;
    running.stop(PATIENCE);
    let mut running = world.trem.start();
    world.source.exec("UPDATE bystander SET v = 7").await;
    world.equal(&["public.bystander"], &mut running).await;
    running.stop(PATIENCE);
}
