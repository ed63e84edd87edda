//! A backlog: what piled up while trem was away is read in chunks through SQL, and the log goes on from there.

use std::collections::HashSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::{PgOptions, World};

use crate::{PATIENCE, seed};

const TABLES: &[&str] = &["public.%"];
/// What the log says when it reads in chunks.
const IN_CHUNKS: &str = "catching up in chunks";

/// A loaded world. The array makes the whole stream text, unless left out.
async fn loaded(options: PgOptions, arrays: bool) -> World {
    // A server each: the target's own writes would be backlog of the source's.
    let mut world = World::two_with(options, PgOptions::default()).await;
    world.configure(|c| c.sections = "[TASK.batch]\nmax-rows = 3000\n".into());
    let array = if arrays { ", a int[]" } else { "" };
    let sql = format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int, v text{array}); CREATE TABLE u (id int PRIMARY KEY, v numeric);
         INSERT INTO t SELECT i, 0, 'v' FROM generate_series(1, 2000) i; INSERT INTO u SELECT generate_series(1, 50)"
    );
    world.source.exec(&sql).await;
    world.trem.until_current().expect(0);
    world
}

/// Transactions of every size, one of them larger than a batch; about `mebibytes` of log in all.
async fn pile_up(world: &World, mebibytes: i64) -> String {
    let start = world.source.one("SELECT pg_current_wal_lsn()").await;
    let written = format!("SELECT (pg_current_wal_lsn() - '{start}'::pg_lsn)::bigint >> 20");
    let mut id = world.source.number("SELECT max(id) FROM t").await + 1;
    while world.source.number(&written).await < mebibytes {
        let small = format!(
            "INSERT INTO t SELECT i, 1, repeat('x', 300) FROM generate_series({id}, {id} + 4000) i;
             UPDATE t SET n = n + 1 WHERE id % 500 = {id} % 500; UPDATE u SET v = v + 0.10;
             BEGIN; SAVEPOINT s; DELETE FROM u; ROLLBACK TO s; DELETE FROM t WHERE id % 1000 = {id} % 997; COMMIT;
             BEGIN; INSERT INTO t SELECT i, 2, repeat('y', 200) FROM generate_series({id} + 5000, {id} + 12000) i;
             UPDATE t SET id = -id WHERE id BETWEEN {id} + 5000 AND {id} + 9000; COMMIT;
             DELETE FROM t WHERE id < 0 AND id % 3 = 0"
        );
        world.source.exec(&small).await;
        id += 20_000;
    }
    start
}

async fn no_other_slot(world: &World) {
    let others = "SELECT count(*) FROM pg_replication_slots WHERE slot_name <> 'trem_t'";
    world.source.wait_for(others, "0", PATIENCE).await;
}

async fn read_in_chunks(arrays: bool) {
    let world = loaded(PgOptions::default(), arrays).await;
    pile_up(&world, 24).await;
    let end = world.source.one("SELECT pg_current_wal_lsn()").await;
    world.trem.until_current().expect(0).says(&[IN_CHUNKS]);
    world.assert_equal(TABLES).await;
    no_other_slot(&world).await;
    let confirmed = format!("SELECT confirmed_flush_lsn >= '{end}'::pg_lsn FROM pg_replication_slots");
    assert_eq!(world.source.one(&confirmed).await, "t", "a run that ended in order leaves the log free");
    // From here on the log is streamed, and the server may let go of what was read.
    let mut running = world.trem.start();
    world.source.exec("UPDATE t SET n = -1 WHERE id < 500; TRUNCATE u; INSERT INTO u VALUES (7)").await;
    world.equal(TABLES, &mut running).await;
    let moved_on = format!("SELECT confirmed_flush_lsn >= '{end}'::pg_lsn FROM pg_replication_slots");
    world.source.wait_for(&moved_on, "t", PATIENCE).await;
    world.source.exec("CHECKPOINT").await;
    let let_go = format!("SELECT restart_lsn >= '{end}'::pg_lsn FROM pg_replication_slots");
    world.source.exec("INSERT INTO u VALUES (8)").await;
    world.source.wait_for(&let_go, "t", Duration::from_secs(60)).await;
    assert!(!running.log().contains(IN_CHUNKS), "a short log is streamed");
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_read_in_chunks() {
    read_in_chunks(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_text_is_read_in_chunks() {
    read_in_chunks(true).await;
}

/// Read to its end alone, all of it would be decoded once more for the little that follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_read_with_what_follows_it() {
    let world = loaded(PgOptions::default(), false).await;
    world.source.exec("INSERT INTO t SELECT i, 1, repeat('x', 100) FROM generate_series(5000, 155000) i").await;
    world.source.exec("UPDATE t SET n = 2 WHERE id < 5010; INSERT INTO u VALUES (99, 1)").await;
    let run = world.trem.spawn(&["run", "--until-current"], &[("TREM_LOG", "debug")]).wait(PATIENCE).expect(0);
    world.assert_equal(TABLES).await;
    let read = run.stderr.lines().filter(|l| l.contains("read a chunk of the log"));
    let empty: Vec<bool> = read.map(|l| l.contains("changes=0 ")).collect();
    assert_eq!(empty, [true, false], "none of it had committed, then all is read:\n{}", run.stderr);
}

/// However far a run got, what it applied is held by the source no longer when it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_catching_up_moves_the_slot_on() {
    let world = loaded(PgOptions::default(), false).await;
    pile_up(&world, 40).await;
    let position = "SELECT position_order FROM trem.lane";
    for _ in 0..2 {
        let before = world.target.number(position).await;
        let running = world.trem.start();
        world.target.wait_for(&format!("SELECT position_order > {before} FROM trem.lane"), "t", PATIENCE).await;
        let outcome = running.stop(PATIENCE).expect(0);
        assert!(outcome.took < Duration::from_secs(8), "what is open is rolled back: {:?}", outcome.took);
        let applied = world.target.number(position).await;
        let confirmed = "SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint FROM pg_replication_slots";
        assert_eq!(world.source.number(confirmed).await, applied, "it was {before} before");
    }
}

/// A server sends a transaction that it has begun to the end; a stop does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_a_large_transaction_rolls_back() {
    let world = loaded(PgOptions::default(), false).await;
    let mut running = world.trem.start();
    world.source.exec("INSERT INTO u VALUES (77)").await;
    world.equal(TABLES, &mut running).await;
    let large = "INSERT INTO t SELECT i, 1, repeat('z', 100) FROM generate_series(1000000, 1500000) i";
    world.source.exec(large).await;
    let begun = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'trem%' \
                 AND datname = current_database() AND xact_start < clock_timestamp() - interval '200 ms'";
    world.target.wait_for(begun, "t", PATIENCE).await;
    let asked = std::time::Instant::now();
    running.stop(PATIENCE).expect(0);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_eq!(world.target.number("SELECT count(*) FROM t WHERE id >= 1000000").await, 0);
    world.trem.until_current().expect(0);
    world.assert_equal(TABLES).await;
}

/// Two sessions decode at a time, each its own part of the log, while transactions stand across the places where a part
/// ends: those of eight clients, and one that is open from the beginning to the end. Rows that nobody asked for keep
/// the source busy, so that the target waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_share_a_backlog() {
    let mut world = World::two().await;
    world.configure(|c| c.sections = "[TASK.batch]\nmax-rows = 10000\n".into());
    world
        .source
        .exec(
            "CREATE TABLE h (id int PRIMARY KEY, n int NOT NULL, v text); CREATE TABLE t (id bigint PRIMARY KEY, n int);
             INSERT INTO h SELECT i, 0, 'v' FROM generate_series(0, 799) i; CREATE SCHEMA noise;
             CREATE TABLE noise.n AS SELECT i FROM generate_series(1, 10) i",
        )
        .await;
    world.trem.until_current().expect(0);
    let open = world.cluster.connect(world.source.database()).await;
    open.exec("BEGIN; INSERT INTO t VALUES (-1, 1)").await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let db = world.cluster.connect(world.source.database()).await;
        clients.spawn(async move {
            db.exec(&format!(
                "DO $$ BEGIN FOR i IN 1..800 LOOP
                   UPDATE h SET n = n + 1 WHERE id % 8 = {client} AND id / 8 % 5 = i % 5;
                   INSERT INTO t VALUES (i * 8 + {client}, i);
                   INSERT INTO noise.n SELECT g FROM generate_series(1, 200) g;
                   DELETE FROM t WHERE id = (i - 3) * 8 + {client};
                   COMMIT;
                 END LOOP; END $$"
            ))
            .await;
        });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("a client");
    }
    open.exec("UPDATE t SET n = n + 1 WHERE id = -1; COMMIT").await;
    let run = world.trem.spawn(&["run", "--until-current"], &[("TREM_LOG", "debug")]).wait(PATIENCE * 3).expect(0);
    // 8 x 800 times 20 updates and an insert, 8 x 797 deletes, two of the long one: each taken in once.
    let reads = run.stderr.lines().filter(|l| l.contains("read a chunk of the log") && !l.contains("changes=0 "));
    let slots: HashSet<&str> = reads.filter_map(|l| l.split("slot=").nth(1)?.split(' ').next()).collect();
    assert!(slots.len() > 1, "{slots:?}:\n{}", run.stderr);
    run.says(&[IN_CHUNKS, "changes=140778 "]);
    world.assert_equal(TABLES).await;
    no_other_slot(&world).await;
}

/// kill -9 in the middle, again and again, while the source goes on: every second time after it got somewhere.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_catching_up() {
    let mut random = StdRng::seed_from_u64(seed());
    let world = loaded(PgOptions::default(), false).await;
    let position = "SELECT position_order FROM trem.lane";
    for round in 0..8 {
        let before = world.target.number(position).await;
        let behind = format!("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn - {before})::bigint >> 20");
        pile_up(&world, 40 - world.source.number(&behind).await).await;
        let mut running = world.trem.start();
        running.wait_log(IN_CHUNKS, PATIENCE).await;
        if round % 2 == 1 {
            world.target.wait_for(&format!("SELECT position_order > {before} FROM trem.lane"), "t", PATIENCE).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        world.source.exec("UPDATE u SET v = v - 1").await;
        running.kill();
        assert!(world.target.number(position).await >= before, "the checkpoint went back");
    }
    world.trem.until_current().expect(0);
    world.assert_equal(TABLES).await;
    no_other_slot(&world).await;
}

/// The copy of the slot needs a free one; without it the backlog is streamed.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_slot_a_backlog_is_streamed() {
    let world = loaded(PgOptions::default().conf("max_replication_slots=1"), false).await;
    pile_up(&world, 18).await;
    let outcome = world.trem.until_current().expect(0).says(&["streamed"]);
    assert!(!outcome.stderr.contains(IN_CHUNKS), "{}", outcome.stderr);
    world.assert_equal(TABLES).await;
}

/// While a backlog is read the source may be restarted, and connections may be cut.
#[tokio::test(flavor = "multi_thread")]
async fn the_source_is_restarted_while_catching_up() {
    let mut world = loaded(PgOptions::default(), true).await;
    pile_up(&world, 30).await;
    let mut running = world.trem.start();
    running.wait_log(IN_CHUNKS, PATIENCE).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.cluster.restart(trem_tests::Shutdown::Fast);
    world.reconnect().await;
    world.source.exec("UPDATE t SET n = 5 WHERE id < 100").await;
    world.equal(TABLES, &mut running).await;
    running.stop(PATIENCE).expect(0);
    no_other_slot(&world).await;
}

/// A transaction whose rows fill its sets exactly ends with a set of nothing but its commit: it is not held back until
/// something else happens.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_closes_at_its_commit() {
    let mut world = loaded(PgOptions::default(), false).await;
    world.configure(|c| c.sections = "[TASK.batch]\nmax-rows = 100\n".into());
    let mut running = world.trem.start();
    world.source.exec("CREATE UNLOGGED TABLE elsewhere (i int)").await;
    for rows in [99, 100, 101, 199, 200, 201, 300, 1000] {
        let first = rows * 10_000;
        let sql = format!("INSERT INTO t SELECT i, 1, 'x' FROM generate_series({first}, {first} + {rows} - 1) i");
        world.source.exec(&sql).await;
        let count = format!("SELECT count(*) FROM t WHERE id BETWEEN {first} AND {first} + 5000");
        world.target.wait_for(&count, &rows.to_string(), Duration::from_secs(10)).await;
        world.source.exec(&format!("BEGIN; DELETE FROM t WHERE id >= {first}; TRUNCATE elsewhere; COMMIT")).await;
        world.target.wait_for(&count, "0", Duration::from_secs(10)).await;
    }
    world.equal(&["public.t", "public.u"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}
