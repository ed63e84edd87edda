//! Corners of what trem promises about tables, rows and refusals that no other module looks into.

use std::time::{Duration, Instant};

use trem_tests::{World, cluster};

use crate::PATIENCE;

/// Without an identity the source itself would refuse the application's updates: refused early, by name.
#[tokio::test(flavor = "multi_thread")]
async fn replica_identity_nothing_is_refused() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY NOTHING").await;
    for command in ["check", "run"] {
        world.trem.command(&[command]).expect(1).says(&["public.t", "ALTER TABLE", "REPLICA IDENTITY"]);
    }
    world.source.exec("INSERT INTO t VALUES (1, 1); UPDATE t SET v = 2").await;
    assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0", "nothing was created");
}

/// A table that nothing tells the rows apart in appears while trem runs: that table waits, the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_without_identity_stops_no_other() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    world.trem.until_current().expect(0);
    let mut running = world.trem.start();
    world.source.exec("CREATE TABLE fresh (id int); INSERT INTO fresh VALUES (1)").await;
    running.wait_log("public.fresh", PATIENCE).await;
    world.source.exec("UPDATE fresh SET id = 2; INSERT INTO t VALUES (1)").await;
    world.equal(&["public.t"], &mut running).await;
    // Mended, it comes in by itself.
    world.source.exec("ALTER TABLE fresh REPLICA IDENTITY FULL").await;
    let deadline = Instant::now() + Duration::from_secs(8);
    while Instant::now() < deadline && world.target.try_exec("SELECT FROM fresh").await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if world.target.try_exec("SELECT FROM fresh").await.is_err() {
        world.trem.command(&["status"]).says(&["public.fresh", "reload"]);
        running.stop(PATIENCE);
        world.trem.command(&["reload", "--task", "t", "--table", "public.fresh"]).expect(0);
        running = world.trem.start();
    }
    world.equal(&["public.%"], &mut running).await;
    world.source.exec("UPDATE fresh SET id = 3; DELETE FROM t").await;
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// Foreign keys and triggers of the target's own do not get in the way of rows that arrive in another order.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_on_the_target() {
    let world = World::one().await;
    let tables = "CREATE TABLE z_parent (id int PRIMARY KEY, v text);
                  CREATE TABLE a_child (id int PRIMARY KEY, parent int REFERENCES z_parent ON DELETE CASCADE, n int);";
    for db in [&world.source, &world.target] {
        db.exec(tables).await;
    }
    world
        .source
        .exec(
            "INSERT INTO z_parent SELECT i, 'p' FROM generate_series(1, 2000) i;
             INSERT INTO a_child SELECT i, i, 0 FROM generate_series(1, 2000) i",
        )
        .await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
    let mut running = world.trem.start();
    for step in [
        "BEGIN; INSERT INTO z_parent VALUES (5000, 'new'); INSERT INTO a_child VALUES (5000, 5000, 1); COMMIT",
        // The cascade happens at the source and is in the log: on the target it must not happen twice.
        "BEGIN; DELETE FROM z_parent WHERE id < 100;
         INSERT INTO z_parent SELECT i, 'again' FROM generate_series(1, 50) i;
         INSERT INTO a_child SELECT i, i, 9 FROM generate_series(1, 50) i; COMMIT",
        "BEGIN; SET LOCAL session_replication_role = replica; UPDATE z_parent SET id = -id WHERE id = 500; \
         UPDATE a_child SET parent = -500 WHERE id = 500; COMMIT",
        "TRUNCATE z_parent CASCADE",
    ] {
        world.source.exec(step).await;
        world.equal(&["public.%"], &mut running).await;
    }
    running.stop(PATIENCE).expect(0);
}

/// A target that refuses the rows of the load for a while: the load goes on when it takes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_waits_until_the_target_takes_it() {
    for sqlstate in ["53100", "55P03"] {
        let world = World::one().await;
        world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500)").await;
        world
            .target
            .exec(&format!(
                "CREATE TABLE t (id int PRIMARY KEY);
                 CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'a fault made by a test' USING errcode = '{sqlstate}'; END $$;
                 CREATE TRIGGER fail BEFORE INSERT ON t EXECUTE FUNCTION fail();
                 ALTER TABLE t ENABLE ALWAYS TRIGGER fail"
            ))
            .await;
        let mut running = world.trem.start();
        running.wait_log("a fault made by a test", PATIENCE).await;
        world.source.exec("UPDATE t SET id = id + 1000 WHERE id < 100").await;
        assert!(running.ended().is_none(), "{sqlstate} can heal: {}", running.log_tail());
        world.target.exec("DROP FUNCTION fail CASCADE").await;
        world.equal(&["public.t"], &mut running).await;
        running.stop(PATIENCE).expect(0);
    }
}

/// Views, foreign tables, unlogged and temporary tables are not in the log: a pattern leaves them out or says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_no_log_is_not_replicated_in_silence() {
    let world = World::one().await;
    world
        .source
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE VIEW a_view AS SELECT * FROM t;
             CREATE MATERIALIZED VIEW a_stored_view AS SELECT * FROM t;
             CREATE UNLOGGED TABLE light (id int PRIMARY KEY);
             CREATE SEQUENCE numbers; CREATE INDEX an_index ON t ((id + 1))",
        )
        .await;
    let outcome = world.trem.until_current();
    if outcome.code == Some(0) {
        world.assert_equal(&["public.t"]).await;
        assert_eq!(world.target.one("SELECT to_regclass('public.light')").await, "", "its changes are never seen");
    } else {
        outcome.expect(1).says(&["public.light", "remedy"]);
    }
}

/// SIGINT is as orderly as SIGTERM; a second signal does not wait.
#[tokio::test(flavor = "multi_thread")]
async fn interrupts_end_a_run() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)").await;
    let mut running = world.trem.start();
    world.equal(&["public.t"], &mut running).await;
    cluster::signal(running.pid(), "INT");
    running.wait(Duration::from_secs(10)).expect(0);
    // The target does not answer: the first signal waits for it, the second does not.
    let mut running = world.trem.start();
    running.wait_log("follow", PATIENCE).await;
    let locker = world.cluster.connect("reports").await;
    locker.exec("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    world.source.exec("INSERT INTO t VALUES (1000)").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    cluster::signal(running.pid(), "INT");
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster::signal(running.pid(), "INT");
    let outcome = running.wait(Duration::from_secs(5));
    assert_ne!(outcome.code, Some(0), "it was not orderly");
    locker.exec("COMMIT").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}

/// What a role may not do on an existing target table is found before anything is created.
#[tokio::test(flavor = "multi_thread")]
async fn missing_privileges_on_a_target_table() {
    let mut world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    world
        .target
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE writer LOGIN; GRANT CREATE ON DATABASE reports TO writer;
             GRANT CREATE ON SCHEMA public TO writer; GRANT SELECT ON t TO writer",
        )
        .await;
    let port = world.cluster.port();
    world.configure(|c| c.target = format!("postgres://writer@127.0.0.1:{port}/reports"));
    for command in ["check", "run"] {
        world.trem.command(&[command]).expect(1).says(&["public.t", "GRANT"]);
    }
    assert_eq!(world.source.one("SELECT count(*) FROM pg_replication_slots").await, "0");
    assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0");
}

/// Keys of every kind order and cut tables, and find their rows again.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_type() {
    let mut world = World::one().await;
    let load = "[TASK.load]\nworkers = 2\nchunk-bytes = \"16KiB\"\nresume-above-bytes = \"32KiB\"\n";
    world.configure(|c| c.sections = load.into());
    let keys = [
        ("int", "i"),
        ("bigint", "i * 4000000000"),
        ("text", "'k ''\"\\' || md5(i::text)"),
        ("varchar(40)", "md5(i::text)"),
        ("char(12)", "'c' || i"),
        ("uuid", "md5(i::text)::uuid"),
        ("numeric", "i / 7.0"),
        ("date", "date '2000-01-01' + i"),
        ("timestamptz", "timestamptz '2000-01-01 00:00:00+00' + i * interval '1 hour'"),
        ("bytea", "decode(md5(i::text), 'hex')"),
        ("interval", "i * interval '1 minute'"),
        ("inet", "'10.0.0.0'::inet + i"),
        ("int[]", "ARRAY[i, -i]"),
        ("text COLLATE \"C\"", "chr(65 + i % 50) || i"),
    ];
    for (n, (kind, value)) in keys.iter().enumerate() {
        let sql = format!(
            "CREATE TABLE k{n} (k {kind} PRIMARY KEY, i int, v text);
             INSERT INTO k{n} SELECT {value}, i, repeat('v', 60) FROM generate_series(1, 1500) i; ANALYZE k{n}"
        );
        world.source.exec(&sql).await;
    }
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
    let mut running = world.trem.start();
    for (n, (_, value)) in keys.iter().enumerate() {
        let sql = format!(
            "DELETE FROM k{n} WHERE i % 5 = 0; UPDATE k{n} SET v = 'w' WHERE i % 5 = 1;
             BEGIN; UPDATE k{n} SET k = {moved}, i = i + 10000 WHERE i % 5 = 2; COMMIT;
             INSERT INTO k{n} SELECT {value}, i, 'new' FROM generate_series(20000, 20100) i",
            moved = value.replace("i::text", "(i + 10000)::text").replace("i *", "(i + 10000) *")
        );
        // Some of the expressions do not move with such a replacement: their keys stay.
        world.source.exec(&sql).await;
    }
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}
