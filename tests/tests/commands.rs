//! check, plan, status, drop, and how a run ends.

use std::process::Stdio;
use std::time::Duration;

use trem_tests::binaries::trem;
use trem_tests::{PgOptions, Trem, World};

use crate::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_what_would_stop_the_task() {
    let world = World::one_with(PgOptions::default().conf("wal_level=replica")).await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE keyless (a int)").await;
    let says: &[&str] = &["wal_level", "ALTER SYSTEM SET wal_level"];
    world.trem.command(&["check"]).expect(1).says(says).says(&["public.keyless", "REPLICA IDENTITY FULL"]);
    world.trem.command(&["run"]).expect(1).says(says);
    assert_eq!(world.target.one("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_counts_slots_and_senders() {
    let options = PgOptions::default().conf("max_replication_slots=1").conf("max_wal_senders=1");
    let world = World::one_with(options).await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    world.source.exec("SELECT pg_create_logical_replication_slot('mine', 'pgoutput')").await;
    world.trem.command(&["check"]).expect(1).says(&["max_replication_slots"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_is_content_with_what_is_right() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    world.trem.command(&["check"]).expect(0);
    assert_eq!(world.target.one("SELECT count(*) FROM pg_namespace WHERE nspname = 'trem'").await, "0", "nothing made");
}

/// Rows of a foreign partition are read with the others, and no log has their changes.
#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_foreign_partitions() {
    let world = World::one().await;
    world
        .source
        .exec(
            "CREATE TABLE p (id int) PARTITION BY RANGE (id); ALTER TABLE p REPLICA IDENTITY FULL;
             CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
             CREATE FOREIGN TABLE p_far PARTITION OF p FOR VALUES FROM (0) TO (9) SERVER far",
        )
        .await;
    world.trem.command(&["check"]).expect(0).says(&["public.p_far", "foreign table"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_shows_all_and_touches_nothing() {
    let world = World::one().await;
    world
        .source
        .exec(
            "CREATE TYPE mood AS ENUM ('x'); \
        CREATE TABLE t (id bigint PRIMARY KEY, \"A b\" numeric(10,2) NOT NULL, m mood[])",
        )
        .await;
    let plan = world.trem.command(&["plan"]).expect(0);
    plan.says(&["public.t", "A b", "numeric(10,2)", "CREATE TABLE", "mood"]);
    let json = world.trem.command(&["plan", "--json"]).expect(0);
    serde_json::from_str::<serde_json::Value>(&json.stdout).expect("plan --json prints JSON");
    assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0");
    assert_eq!(world.target.one("SELECT count(*) FROM pg_namespace WHERE nspname = 'trem'").await, "0");
    assert_eq!(world.target.one("SELECT to_regclass('public.t')").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_before_during_and_after() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 77)").await;
    world.trem.command(&["status"]).expect(0);
    let mut running = world.trem.start();
    world.equal(&["public.t"], &mut running).await;
    // Its rows are there a moment before it is with the others.
    world.target.wait_for("SELECT state FROM trem.table_state", "ready", PATIENCE).await;
    world.trem.command(&["status"]).expect(0).says(&["public.t", "ready"]);
    running.stop(PATIENCE).expect(0);
    let json = world.trem.command(&["status", "--json"]).expect(0);
    serde_json::from_str::<serde_json::Value>(&json.stdout).expect("status --json prints JSON");
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_leaves_nothing_but_the_rows() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    world.trem.until_current().expect(0);
    assert_eq!(world.source.one("SELECT count(*) FROM pg_replication_slots").await, "1");
    world.trem.command(&["drop", "--task", "t"]).expect(0);
    assert_eq!(world.source.one("SELECT count(*) FROM pg_replication_slots").await, "0");
    assert_eq!(world.source.one("SELECT count(*) FROM pg_publication").await, "0");
    let tables =
        world.target.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'trem' AND tablename <> 'meta'").await;
    for table in tables.into_iter().flatten().flatten() {
        assert_eq!(world.target.one(&format!("SELECT count(*) FROM trem.{table}")).await, "0", "trem.{table}");
    }
    assert_eq!(world.target.one("SELECT count(*) FROM t").await, "1", "rows stay");
    // Once more: what is not there is no error; and the task can start afresh.
    world.trem.command(&["drop", "--task", "t"]).expect(0);
    world.target.exec("DROP TABLE t").await;
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}

/// Bars on a terminal, which `script` makes; lines of a log otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn progress_bars_are_for_terminals() {
    let world = World::one().await;
    let rows = "CREATE TABLE t (id int PRIMARY KEY, v text); \
                INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 400000) i; ANALYZE t";
    world.source.exec(rows).await;
    let run = |config: std::path::PathBuf| format!("{} run {} --until-current", trem().display(), config.display());
    let mut script = std::process::Command::new("script");
    script.args(["-q", "-e", "-c", &run(world.trem.config()), "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
    let out = script.output().expect("script, of bsdutils or util-linux");
    let shown = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{shown}");
    assert!(
        shown.contains("t: loading, 0 of 1 tables ready") && shown.contains("] ") && shown.contains(" left"),
        "{shown}"
    );
    assert!(shown.contains("public.t ") && shown.contains("\u{1b}["), "{shown}");
    assert!(shown.contains("table loaded"), "log lines stand between the bars: {shown}");
    let plain = world.trem.until_current().expect(0).stderr;
    assert!(!plain.contains('\u{1b}') && plain.contains("done"), "{plain}");
}

/// SIGTERM lets what is being applied finish; the next run goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_orderly() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)").await;
    for n in 0..5 {
        let mut running = world.trem.start();
        // Before it has said so, a process need not have got as far as minding signals.
        running.wait_log("starting", PATIENCE).await;
        world
            .source
            .exec(&format!("INSERT INTO t SELECT generate_series(10000 * {n} + 10000, 10000 * {n} + 15000)"))
            .await;
        tokio::time::sleep(Duration::from_millis(150 * n)).await;
        let outcome = running.stop(Duration::from_secs(10)).expect(0);
        assert!(outcome.took < Duration::from_secs(10));
    }
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.t"]).await;
}

/// Two tasks of one file run side by side, and a task that is refused does not stop the other.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_independent() {
    let world = World::one().await;
    world
        .source
        .exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
        .await;
    world.target.exec("CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (7)").await;
    let text = world.config.toml().replace("\"public.*\"", "\"public.a\"");
    let second =
        "[tasks.second]\nsource = \"source\"\ntarget = \"target\"\n[[tasks.second.tables]]\ninclude = \"public.b\"\n";
    let trem = Trem::with_text(&format!("{text}\n{second}"));
    trem.until_current().expect(1).says(&["second", "public.b", "on-existing"]);
    world.assert_equal(&["public.a"]).await;
    trem.command(&["run", "--until-current", "--task", "t"]).expect(0);
    trem.command(&["run", "--task", "nope"]).expect(2).says(&["nope"]);
}

/// A run that ends by itself and leaves a table waiting for somebody says so by its exit code.
#[tokio::test(flavor = "multi_thread")]
async fn tables_left_suspended_are_3() {
    let mut world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY)").await;
    world.trem.until_current().expect(0);
    world.source.exec("ALTER TABLE t ALTER v TYPE bigint; INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1)").await;
    world.trem.until_current().expect(3).says(&["public.t", "suspended", "reload the table"]);
    world.assert_equal(&["public.u"]).await;
    world.trem.until_current().expect(3);
    // One that is stopped was not asked to get done.
    let mut running = world.trem.start();
    running.wait_log("starting", PATIENCE).await;
    running.stop(PATIENCE).expect(0);
    // What is no longer selected is nobody's concern.
    world.configure(|c| c.exclude = vec!["public.t".to_owned()]);
    world.trem.until_current().expect(0);
}

/// So does a run of a task that only loads.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_leaves_a_table_suspended_is_3() {
    let mut world = World::one().await;
    world.configure(|c| c.keys.push("mode = \"full-load\"".to_owned()));
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    world.trem.command(&["run"]).expect(0);
    for db in [&world.source, &world.target] {
        db.exec("CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (7)").await;
    }
    world.trem.command(&["run"]).expect(3).says(&["public.late", "on-existing"]);
}

/// What `status` says to do can be copied into a shell, whatever the names.
#[tokio::test(flavor = "multi_thread")]
async fn the_remedy_is_a_command_that_works() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE \"it's a.b*\" (id int PRIMARY KEY, v int)").await;
    world.trem.until_current().expect(0);
    world.source.exec("ALTER TABLE \"it's a.b*\" DROP v; INSERT INTO \"it's a.b*\" VALUES (1)").await;
    world.trem.until_current().expect(3);
    let status = world.trem.command(&["status", "--json"]).expect(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let remedy = status["tasks"][0]["tables"][0]["remedy"].as_str().unwrap();
    let command = remedy.split('`').nth(1).unwrap_or_else(|| panic!("no command in: {remedy}"));
    let path = format!("{}:{}", trem().parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let done = std::process::Command::new("sh").args(["-c", command]).env("PATH", path).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
}

/// The null target counts and discards: for measuring a source.
#[tokio::test(flavor = "multi_thread")]
async fn the_null_target_takes_everything() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5000)").await;
    let toml = world.config.toml();
    let url = format!("kind = \"postgres\"\nurl = {:?}", world.config.target);
    let trem =
        Trem::with_text(&toml.replace(&url, "kind = \"null\"").replace("[tasks.t]", "[tasks.t]\nmode = \"full-load\""));
    trem.command(&["run"]).expect(0);
}

#[test]
fn usage_errors_end_with_2() {
    let trem = Trem::with_text("");
    trem.command(&["run", "--no-such-option"]).expect(2);
    trem.command(&["frobnicate"]).expect(2);
}
