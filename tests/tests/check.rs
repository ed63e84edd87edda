//! What `check` must find before a run meets it: settings, limits, poolers, leftovers of others.

use trem_tests::{Pooler, World};

use crate::PATIENCE;

const READ_ONLY: &str = "default_transaction_read_only = on";

/// Settings of a role or a database that would break or change what a session does are set by trem itself.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_roles_and_databases_are_overridden() {
    let mut world = World::one().await;
    let settings = [
        READ_ONLY,
        "statement_timeout = '100ms'",
        "lock_timeout = '100ms'",
        "idle_in_transaction_session_timeout = '1s'",
        "idle_session_timeout = '1s'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "search_path = nowhere",
        "\"DateStyle\" = 'SQL, DMY'",
        "\"IntervalStyle\" = 'sql_standard'",
        "bytea_output = escape",
        "extra_float_digits = -3",
        "\"TimeZone\" = 'Asia/Kathmandu'",
        "client_encoding = 'LATIN1'",
        "row_security = on",
        "array_nulls = off",
        "quote_all_identifiers = on",
        "xmloption = document",
        "client_min_messages = debug5",
    ];
    world
        .source
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY, d date, i interval, b bytea, f float8, z timestamptz, v text);
             INSERT INTO t SELECT n, '2024-02-01', '1 day -1 hour', '\\x00ff', pi(), now(), 'Größe' \
             FROM generate_series(1, 300) n; CREATE ROLE \"set\" LOGIN SUPERUSER",
        )
        .await;
    for setting in settings {
        let role = "ALTER ROLE \"set\" IN DATABASE shop SET";
        world.source.exec(&format!("ALTER DATABASE shop SET {setting}; {role} {setting}")).await;
        if setting != READ_ONLY {
            world.source.exec(&format!("ALTER DATABASE reports SET {setting}")).await;
        }
    }
    let as_role = |url: &str| url.replacen("postgres://postgres:", "postgres://set:", 1);
    world.configure(|c| (c.source, c.target) = (as_role(&c.source), as_role(&c.target)));
    world.trem.command(&["check"]).expect(0);
    let mut running = world.trem.start();
    world.equal(&["public.t"], &mut running).await;
    let changes = "UPDATE t SET d = '2024-03-01', i = '-2 mons', v = 'ß' WHERE id < 10; DELETE FROM t WHERE id > 290";
    world.source.exec(changes).await;
    world.equal(&["public.t"], &mut running).await;
    running.stop(PATIENCE).expect(0);
    world.trem.command(&["drop", "--task", "t"]).expect(0);
}

/// A pooler passes no replication on, and one that pools transactions mixes sessions up.
#[tokio::test(flavor = "multi_thread")]
async fn poolers_are_found() {
    for mode in ["session", "transaction", "statement"] {
        let mut world = World::one().await;
        world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
        let (source, target) = (world.config.source.clone(), world.config.target.clone());
        let Some(pooler) = Pooler::start(world.cluster.port(), mode) else { return };
        let through = |database: &str| format!("postgres://postgres@127.0.0.1:{}/{database}", pooler.port());
        world.configure(|c| c.source = through("shop"));
        for command in ["check", "run"] {
            let outcome = world.trem.command(&[command]).expect(1);
            let outcome = if command == "run" { outcome.says(&["Refused"]) } else { outcome };
            outcome.says(&["pooler", "name the server itself"]);
        }
        world.configure(|c| (c.source, c.target) = (source.clone(), through("reports")));
        if mode == "session" {
            world.trem.command(&["check"]).expect(0);
            world.trem.until_current().expect(0);
            world.source.exec("INSERT INTO t VALUES (2)").await;
            world.trem.until_current().expect(0);
            world.assert_equal(&["public.t"]).await;
            // What a load by itself takes a pooler passes on.
            world.trem.command(&["drop", "--task", "t"]).expect(0);
            world.configure(|c| {
                (c.source, c.target) = (through("shop"), target.clone());
                c.keys = vec!["mode = \"full-load\"".to_owned(), "on-existing = \"truncate\"".to_owned()];
            });
            world.trem.command(&["check"]).expect(0);
            world.trem.command(&["run"]).expect(0);
            world.assert_equal(&["public.t"]).await;
        } else {
            for _ in 0..2 {
                for command in ["check", "run"] {
                    world.trem.command(&[command]).expect(1).says(&["pooler", "name the server itself"]);
                }
            }
            assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0", "nothing was created");
        }
    }
}

/// Limits that a run would run into are told before it does.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_connections_are_found() {
    let mut world = World::one().await;
    world
        .source
        .exec(
            "CREATE ROLE few LOGIN REPLICATION CONNECTION LIMIT 3; GRANT CREATE ON DATABASE shop TO few;
             GRANT CREATE ON DATABASE reports TO few; GRANT CREATE ON SCHEMA public TO few; SET ROLE few;
             CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); RESET ROLE",
        )
        .await;
    world.target.exec("GRANT CREATE ON SCHEMA public TO few").await;
    let port = world.cluster.port();
    let (source, target) = (world.config.source.clone(), world.config.target.clone());
    let few = |database: &str| format!("postgres://few@127.0.0.1:{port}/{database}");
    world.configure(|c| c.source = few("shop"));
    world.trem.command(&["check"]).expect(1).says(&["role few", "may have 3 connections", "ALTER ROLE", "workers"]);
    world.configure(|c| (c.source, c.target) = (source.clone(), few("reports")));
    world.trem.command(&["check"]).expect(1).says(&["role few", "may have 3 connections", "ALTER ROLE"]);
    world.source.exec("ALTER ROLE few CONNECTION LIMIT -1; ALTER DATABASE reports CONNECTION LIMIT 4").await;
    world.trem.command(&["check"]).expect(1).says(&["database reports", "may have 4 connections", "ALTER DATABASE"]);
    world.source.exec("ALTER DATABASE reports CONNECTION LIMIT -1").await;
    world.configure(|c| (c.source, c.target) = (few("shop"), target));
    world.trem.command(&["check"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}

/// What has the task's name at the source and belongs to someone else is found by a look.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_slot_is_found() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    world.source.exec("SELECT pg_create_logical_replication_slot('trem_t', 'pgoutput')").await;
    for command in ["check", "run"] {
        world.trem.command(&[command]).expect(1).says(&["trem_t", "exists already", "pg_drop_replication_slot"]);
    }
}

/// What a start would wait for is told: process, database, age and statement, or the name of a prepared one.
#[tokio::test(flavor = "multi_thread")]
async fn open_transactions_are_told() {
    let world = World::one_with(trem_tests::PgOptions::default().conf("max_prepared_transactions=5")).await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    let other = world.cluster.connect("postgres").await;
    other.exec("CREATE TABLE elsewhere (i int)").await;
    other.exec("BEGIN; INSERT INTO elsewhere VALUES (7); PREPARE TRANSACTION 'half done'").await;
    let pid = other.one("SELECT pg_backend_pid()").await;
    let idle = world.cluster.connect("reports").await;
    other.exec("BEGIN").await;
    other.exec("INSERT INTO elsewhere VALUES (8)").await;
    idle.wait_for("SELECT max(now() - xact_start) > '1.2 s' FROM pg_stat_activity", "t", PATIENCE).await;
    let outcome = world.trem.command(&["check"]).expect(0);
    let said = outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [&format!("process {pid} (database postgres"), "INSERT INTO elsewhere", "'half done'", "open for"] {
        assert!(said.contains(part), "`{part}` is not in {said}");
    }
    other.exec("ROLLBACK").await;
    other.exec("ROLLBACK PREPARED 'half done'").await;
    let said = world.trem.command(&["check"]).expect(0).stdout;
    assert!(!said.contains("open transactions"), "{said}");
}

/// A standby can be read, and what it cannot do is said with the way out.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_as_source() {
    let mut world = World::two().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)").await;
    let standby = world.cluster.standby();
    world.configure(|c| c.source = standby.url("shop"));
    for command in [&["check"][..], &["run"], &["run", "--until-current"]] {
        let outcome = world.trem.command(command).expect(1).says(&["standby", "primary", "full-load"]);
        assert!(!outcome.stderr.contains("Fatal"), "{}", outcome.stderr);
    }
    world.configure(|c| c.keys.push("mode = \"full-load\"".to_owned()));
    world.trem.command(&["check"]).expect(0);
    world.trem.command(&["run"]).expect(0);
    world.assert_equal(&["public.t"]).await;
    world.trem.command(&["status"]).expect(0).says(&["public.t", "ready"]);
    world.trem.command(&["drop", "--task", "t"]).expect(0);
    world.target.exec("DROP TABLE t").await;
    world.trem.command(&["run", "--until-current"]).expect(0);
    world.assert_equal(&["public.t"]).await;
}

/// A target that somebody keeps from being written is left alone, and the remedy is the statement that helps.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_read_only() {
    let mut world = World::one().await;
    world
        .source
        .exec("CREATE ROLE a LOGIN SUPERUSER; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        .await;
    world.configure(|c| c.target = c.target.replacen("postgres://postgres:", "postgres://a:", 1));
    for whose in ["DATABASE \"reports\"", "ROLE \"a\"", "ROLE \"a\" IN DATABASE \"reports\""] {
        world.source.exec(&format!("ALTER {whose} SET {READ_ONLY}")).await;
        let remedy = format!("ALTER {whose} RESET default_transaction_read_only");
        for command in ["check", "run"] {
            world.trem.command(&[command]).expect(1).says(&["default_transaction_read_only", &remedy]);
        }
        world.source.exec(&remedy).await;
    }
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}

/// A standby as target takes no writes: that is said, and not tried again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_as_target() {
    let mut world = World::two().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let target = world.config.target.clone();
    let standby = world.target_cluster().standby();
    world.configure(|c| c.target = standby.url("reports"));
    for command in ["check", "run"] {
        world.trem.command(&[command]).expect(1).says(&["standby", "primary"]);
    }
    // So it is when the task has begun.
    world.configure(|c| c.target = target.clone());
    world.trem.until_current().expect(0);
    standby
        .connect("reports")
        .await
        .wait_for("SELECT count(*) FROM pg_class WHERE relname = 'lane'", "1", PATIENCE)
        .await;
    world.configure(|c| c.target = standby.url("reports"));
    world.trem.command(&["run"]).expect(1).says(&["Refused", "25006", "promote"]);
    world.configure(|c| c.target = target);
    world.source.exec("INSERT INTO t VALUES (2)").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}
