//! An interrupted load goes on: finished tables stay, a large table goes on from its finished key ranges.

use std::time::{Duration, Instant};

use trem_tests::{Proxy, Running, World, workload};

use crate::PATIENCE;

const LOAD: &str = "[TASK.load]\nworkers = 2\nchunk-bytes = \"256KiB\"\nresume-above-bytes = \"1MiB\"\n";

/// Kills trem once some but not all of a table's rows are on the target; returns how many there are then.
async fn kill_halfway(world: &World, running: Running, table: &str, rows: i64) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    let mut running = running;
    loop {
        let seen = world.target.try_rows(&format!("SELECT count(*) FROM {table}")).await.ok();
        let seen: i64 = seen.and_then(|r| r[0][0].clone()).and_then(|n| n.parse().ok()).unwrap_or(0);
        if seen > 0 {
            running.kill();
            // What the process had sent before may still take effect.
            let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trem t' \
                        AND datname = current_database()";
            world.target.wait_for(ours, "0", PATIENCE).await;
            let kept = world.target.number(&format!("SELECT count(*) FROM {table}")).await;
            assert!(kept < rows, "the load was over before it could be interrupted");
            return kept;
        }
        let ended = running.ended();
        assert!(ended.is_none() && Instant::now() < deadline, "no row of {table} came: {}", running.log_tail());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Rows of a table that transactions before the given one wrote.
async fn written_before(world: &World, table: &str, xid: i64) -> i64 {
    world.target.number(&format!("SELECT count(*) FROM {table} WHERE xmin::text::bigint < {xid}")).await
}

async fn next_xid(world: &World) -> i64 {
    world.target.number("SELECT txid_snapshot_xmax(txid_current_snapshot())").await
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_key_ranges_stay() {
    let mut world = World::two().await;
    world.configure(|c| c.sections = LOAD.into());
    world
        .source
        .exec(
            "CREATE TABLE big (id bigint PRIMARY KEY, t text);
             INSERT INTO big SELECT i, md5(i::text) || repeat('x', 100) FROM generate_series(1, 200000) i; ANALYZE",
        )
        .await;
    let mut runs = 0;
    let mut kept = 0;
    let mut running = world.trem.start();
    while runs < 4 && kept < 120_000 {
        runs += 1;
        // Waits for more than the last time.
        let wanted = kept;
        let deadline = Instant::now() + PATIENCE;
        while world.target.try_rows("SELECT count(*) FROM big").await.is_ok_and(|r| r[0][0] == Some(wanted.to_string()))
            || world.target.try_exec("SELECT FROM big").await.is_err()
        {
            assert!(running.ended().is_none() && Instant::now() < deadline, "no progress: {}", running.log_tail());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        kept = kill_halfway(&world, running, "big", 200_000).await;
        let xid = next_xid(&world).await;
        assert_eq!(written_before(&world, "big", xid).await, kept);
        // Changes of rows on both sides of where the load stands, and keys that move across it.
        world
            .source
            .exec(
                "UPDATE big SET t = 'changed' WHERE id % 5000 = 1; DELETE FROM big WHERE id % 5000 = 2;
                 UPDATE big SET id = -id WHERE id % 5000 = 3; UPDATE big SET id = id + 1000000 WHERE id % 5000 = 4;
                 UPDATE big SET id = -id WHERE id < 0; INSERT INTO big SELECT max(id) + 1, 'new' FROM big",
            )
            .await;
        running = world.trem.start();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let untouched = format!("SELECT count(*) FROM big WHERE xmin::text::bigint < {xid} AND length(t) > 100");
        let stayed = world.target.number(&untouched).await;
        assert!(stayed >= kept - kept / 500 - 100, "{stayed} of {kept} rows stayed: finished ranges were read again");
    }
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// Finished tables stay; one without usable key ranges starts again and is right all the same.
#[tokio::test(flavor = "multi_thread")]
async fn finished_tables_stay() {
    let mut world = World::two().await;
    world.configure(|c| c.sections = LOAD.replace("workers = 2", "workers = 1"));
    world
        .source
        .exec(
            "CREATE TABLE a_small (id int PRIMARY KEY, t text); \
             INSERT INTO a_small SELECT i, 'x' FROM generate_series(1, 500) i;
             CREATE TABLE z_keyless (id int, t text); ALTER TABLE z_keyless REPLICA IDENTITY FULL;
             INSERT INTO z_keyless SELECT i % 1000, repeat('x', 100) FROM generate_series(1, 150000) i;
             CREATE TABLE y_parts (id int, d date, t text, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
             CREATE TABLE y_1 PARTITION OF y_parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
             CREATE TABLE y_2 PARTITION OF y_parts DEFAULT;
             INSERT INTO y_parts SELECT i, date '2026-01-01' + i % 60, repeat('y', 200) FROM generate_series(1, \
             20000) i; ANALYZE",
        )
        .await;
    let mut running = world.trem.start();
    world.target.wait_for("SELECT count(*) FROM a_small", "500", PATIENCE).await;
    let deadline = Instant::now() + PATIENCE;
    while world.table_state("public.a_small").await != "ready" {
        assert!(Instant::now() < deadline, "a_small is never ready: {}", running.log_tail());
    }
    running.kill();
    let xid = next_xid(&world).await;
    world.source.exec("UPDATE a_small SET t = 'y' WHERE id <= 100; DELETE FROM z_keyless WHERE id = 5").await;
    running = world.trem.start();
    world.equal(&["public.%"], &mut running).await;
    assert_eq!(written_before(&world, "a_small", xid).await, 400, "only changed rows were written again");
    running.stop(PATIENCE).expect(0);
}

/// A transaction that began before the slot and commits after it is neither missed nor doubled.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_open_at_the_start_are_met() {
    let world = World::one().await;
    world
        .source
        .exec("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i")
        .await;
    let second = world.cluster.connect("shop").await;
    second
        .exec("BEGIN; UPDATE t SET v = 1 WHERE id <= 10; INSERT INTO t VALUES (5000, 1); DELETE FROM t WHERE id = 20")
        .await;
    let mut running = world.trem.start();
    tokio::time::sleep(Duration::from_millis(700)).await;
    world.source.exec("UPDATE t SET v = 2 WHERE id > 900").await;
    second.exec("COMMIT").await;
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// Writes go on all through the load.
async fn changes_during_the_load(mut world: World) {
    world.configure(|c| c.sections = LOAD.into());
    workload::create(&world.source, 40_000).await;
    let mut work = workload::Workload::new(11, 40_000);
    let mut running = world.trem.start();
    work.run(&world.source, Duration::from_secs(6)).await;
    world.equal(workload::TABLES, &mut running).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_during_the_load_are_met() {
    changes_during_the_load(World::two().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_during_the_load_are_met_on_the_newest_server() {
    let Some(world) = World::newest().await else { return };
    changes_during_the_load(world).await;
}

/// `--until-current` ends with everything that was committed when it started, and a full load ends by itself.
#[tokio::test(flavor = "multi_thread")]
async fn runs_end_when_they_should() {
    let mut world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
    for n in 0..5 {
        world
            .source
            .exec(&format!(
                "INSERT INTO t SELECT generate_series(1000 * {n} + 1000, \
        1000 * {n} + 1500)"
            ))
            .await;
        world.trem.until_current().expect(0);
        world.assert_equal(&["public.t"]).await;
    }
    // Nothing new: it ends all the same.
    world.trem.until_current().expect(0);
    world.trem.command(&["drop", "--task", "t"]).expect(0);
    world.configure(|c| c.keys = vec!["mode = \"full-load\"".into(), "on-existing = \"truncate\"".into()]);
    world.source.exec("DELETE FROM t WHERE id < 50").await;
    world.trem.spawn(&["run"], &[]).wait(PATIENCE).expect(0);
    world.assert_equal(&["public.t"]).await;
    assert_eq!(world.source.one("SELECT count(*) FROM pg_replication_slots").await, "0", "a full load leaves no slot");
}

/// What was loaded before the interruption and deleted since goes; what only the target has stays.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_kept_beside_an_interrupted_load() {
    let mut world = World::two().await;
    world.configure(|c| {
        c.keys.push("on-existing = \"keep\"".into());
        c.sections = LOAD.into();
    });
    // The key of the second orders no ranges, so it is one chunk.
    let tables = "CREATE TABLE ranges (id bigint PRIMARY KEY, t text); \
                  CREATE TABLE whole (id numeric PRIMARY KEY, t text);";
    world.source.exec(tables).await;
    world.target.exec(tables).await;
    let rows = "SELECT i, md5(i::text) || repeat('x', 100) FROM generate_series(1, 100000) i";
    world.source.exec(&format!("INSERT INTO ranges {rows}; INSERT INTO whole {rows}; ANALYZE")).await;
    for table in ["ranges", "whole"] {
        world.target.exec(&format!("INSERT INTO {table} VALUES (-1, 'own'), (50000, 'replaced')")).await;
    }
    let running = world.trem.start();
    kill_halfway(&world, running, "ranges WHERE id > 0 AND id <> 50000", 99_999).await;
    for table in ["ranges", "whole"] {
        world
            .source
            .exec(&format!(
                "DELETE FROM {table} WHERE id % 3 = 0; UPDATE {table} SET id = id + 500000 WHERE id % 50 = 1;
                 UPDATE {table} SET id = -id WHERE id > 590000; INSERT INTO {table} VALUES (900000, 'new')"
            ))
            .await;
    }
    world.trem.until_current().expect(0);
    for table in ["ranges", "whole"] {
        assert_eq!(world.target.one(&format!("DELETE FROM {table} WHERE id = -1 RETURNING t")).await, "own");
    }
    world.assert_equal(&["public.ranges", "public.whole"]).await;
}

/// Rows move, with large values that the log leaves out, from a range read late to one read early; by the time they
/// are read again other rows have taken their keys, or they have gone on to others.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_stay_with_rows_that_move_between_ranges() {
    let mut world = World::two().await;
    world.configure(|c| {
        c.sections = LOAD.replace("256KiB", "64KiB").replace("1MiB", "128KiB").replace("workers = 2", "workers = 1");
    });
    world
        .source
        .exec(
            "CREATE TABLE big (id bigint PRIMARY KEY, n int, doc text); ALTER TABLE big ALTER doc SET STORAGE EXTERNAL;
             INSERT INTO big SELECT i, 0, repeat(md5(i::text), 80) FROM generate_series(1, 1000) i; ANALYZE;
             CREATE TABLE kin (PRIMARY KEY (id)) INHERITS (big); INSERT INTO kin VALUES (-8, 0, 'of its own')",
        )
        .await;
    let outcome = world.trem.start_with_failpoint("loader-after-commit:3").wait(PATIENCE);
    assert_ne!(outcome.code, Some(0), "the failpoint ends the process");
    let loaded = world.target.number("SELECT count(*) FROM big").await;
    assert!((1..900).contains(&loaded), "{loaded} rows are loaded");
    world
        .source
        .exec(
            "UPDATE big SET id = -1 WHERE id = 901; UPDATE big SET id = -2 WHERE id = -1;
             UPDATE big SET id = -1 WHERE id = 1;
             UPDATE big SET id = -3 WHERE id = 903; UPDATE big SET n = 1 WHERE id = -3; UPDATE big SET id = 904000 \
             WHERE id = -3; UPDATE big SET id = -3 WHERE id = 904; UPDATE big SET n = 2 WHERE id = -3;
             UPDATE big SET id = -5 WHERE id = 905; DELETE FROM big WHERE id = -5; UPDATE big SET id = -5 WHERE id = 5;
             UPDATE big SET id = -6 WHERE id = 906; UPDATE big SET id = 906000 WHERE id = -6; UPDATE big SET id = -6 \
             WHERE id = 906000; UPDATE big SET n = 3 WHERE id = -6;
             UPDATE ONLY big SET id = -8 WHERE id = 908; UPDATE ONLY big SET id = 908000 WHERE id = -8",
        )
        .await;
    world
        .source
        .exec(
            "BEGIN; UPDATE big SET id = -id WHERE id IN (10, 910);
             UPDATE big SET id = CASE id WHEN -10 THEN 910 ELSE 10 END WHERE id IN (-10, -910); COMMIT",
        )
        .await;
    for _ in 0..3 {
        world
            .source
            .exec(
                "BEGIN; UPDATE big SET id = -id WHERE id BETWEEN 920 AND 923 OR id BETWEEN 20 AND 23;
                 UPDATE big SET id = CASE WHEN -id = 23 THEN 920 WHEN -id = 923 THEN 20 ELSE -id + 1 END \
                 WHERE -id BETWEEN 920 AND 923 OR -id BETWEEN 20 AND 23; COMMIT",
            )
            .await;
    }
    world.trem.until_current().expect(0);
    // Comparing reads the rows of tables that inherit too.
    assert_eq!(world.target.one("SELECT doc FROM kin").await, "of its own");
    world.source.exec("DELETE FROM kin").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.big", "public.kin"]).await;
}

/// Without a log nothing makes parts of two moments one: a load that is cut off is begun anew, in another process and
/// in the same one.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_log_is_of_one_moment() {
    const CHANGES: &str = "UPDATE big SET id = -1 WHERE id = 59999; UPDATE big SET id = 70000 WHERE id = 1;
        DELETE FROM big WHERE id = 2; UPDATE big SET v = 'changed' WHERE id % 1000 = 5";
    for killed in [true, false] {
        let mut world = World::two().await;
        let proxy = Proxy::start(world.cluster.port()).await;
        let through = world.cluster.url_at(proxy.port(), "shop");
        world.configure(|c| {
            c.source = through;
            c.keys.push("mode = \"full-load\"".to_owned());
            c.sections = LOAD.replace("workers = 2", "workers = 1");
        });
        world
            .source
            .exec(
                "CREATE TABLE big (id bigint PRIMARY KEY, acct text, v text); ANALYZE;
                 INSERT INTO big SELECT i, md5(i::text), repeat('x', 160) FROM generate_series(1, 60000) i; ANALYZE",
            )
            .await;
        let mut running = world.trem.start();
        if killed {
            kill_halfway(&world, running, "big", 60_000).await;
            world.source.exec(CHANGES).await;
            running = world.trem.start();
        } else {
            let deadline = Instant::now() + PATIENCE;
            while world.target.try_rows("SELECT FROM big LIMIT 1").await.map_or(0, |rows| rows.len()) == 0 {
                assert!(running.ended().is_none() && Instant::now() < deadline, "no row came: {}", running.log_tail());
            }
            proxy.hold(true);
            world.source.exec(CHANGES).await;
            assert!(world.target.number("SELECT count(*) FROM big").await < 60_000, "the load was over too soon");
            proxy.cut();
            proxy.hold(false);
        }
        running.wait(PATIENCE).expect(0);
        world.assert_equal(&["public.big"]).await;
    }
}
