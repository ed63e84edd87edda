//! What can heal is retried until it has healed; nothing is lost or doubled meanwhile.

use std::time::Duration;

use rand::Rng;
use trem_tests::workload::{self, Workload};
use trem_tests::{Proxy, Running, Shutdown, World};

use crate::PATIENCE;

const ROWS: u32 = 4000;
/// Ends trem's sessions, and not the test's own.
const KICK: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE application_name LIKE 'trem t%' AND application_name <> 'trem tests'";

/// A world that is loaded and followed under a workload.
async fn busy() -> (World, Workload, Running) {
    let world = World::two().await;
    workload::create(&world.source, ROWS).await;
    world.trem.until_current().expect(0);
    let running = world.trem.start();
    world.target.wait_for("SELECT epoch FROM trem.task", "2", PATIENCE).await;
    (world, Workload::new(5, ROWS), running)
}

async fn close(world: &World, mut running: Running) {
    world.equal(workload::TABLES, &mut running).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_servers_are_restarted() {
    let (mut world, mut work, running) = busy().await;
    for how in [Shutdown::Fast, Shutdown::Immediate] {
        work.run(&world.source, Duration::from_millis(500)).await;
        world.second.as_mut().unwrap().restart(how);
        world.reconnect().await;
        work.run(&world.source, Duration::from_millis(300)).await;
        world.cluster.restart(how);
        world.reconnect().await;
        work.run(&world.source, Duration::from_millis(300)).await;
        world.second.as_mut().unwrap().down(how);
        world.cluster.restart(how);
        tokio::time::sleep(Duration::from_millis(700)).await;
        world.second.as_mut().unwrap().up();
        world.reconnect().await;
    }
    close(&world, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_restarted_during_the_load() {
    let mut world = World::two().await;
    world.configure(|c| c.sections = "[TASK.load]\nchunk-bytes = \"128KiB\"\nresume-above-bytes = \"512KiB\"\n".into());
    workload::create(&world.source, 60_000).await;
    let running = world.trem.start();
    world.target.wait_for("SELECT count(*) > 0 FROM w_plain", "t", PATIENCE).await;
    world.second.as_mut().unwrap().restart(Shutdown::Immediate);
    tokio::time::sleep(Duration::from_millis(400)).await;
    world.cluster.restart(Shutdown::Fast);
    world.reconnect().await;
    Workload::new(9, 60_000).run(&world.source, Duration::from_millis(500)).await;
    close(&world, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_cut_at_any_byte() {
    let mut world = World::two().await;
    let (there, here) = (Proxy::start(world.cluster.port()).await, Proxy::start(world.target_cluster().port()).await);
    let source = world.cluster.url_at(there.port(), "shop");
    let target = world.target_cluster().url_at(here.port(), "reports");
    world.configure(|c| (c.source, c.target) = (source, target));
    workload::create(&world.source, ROWS).await;
    let mut work = Workload::new(6, ROWS);
    let running = world.trem.start();
    for round in 0..24 {
        let bytes = rand::rng().random_range(1..200_000);
        if round % 2 == 0 {
            there.cut_after(bytes)
        } else {
            here.cut_after(bytes)
        }
        work.run(&world.source, Duration::from_millis(250)).await;
        if round == 12 {
            there.refuse(true);
            here.refuse(true);
            there.cut();
            here.cut();
            tokio::time::sleep(Duration::from_millis(600)).await;
            there.refuse(false);
            here.refuse(false);
        }
    }
    there.cut_after(u64::MAX);
    here.cut_after(u64::MAX);
    close(&world, running).await;
}

/// The network is dead for a while and nobody says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_target_hangs() {
    let mut world = World::two_with(
        trem_tests::PgOptions::default().conf("wal_sender_timeout=3s"),
        trem_tests::PgOptions::default(),
    )
    .await;
    let proxy = Proxy::start(world.target_cluster().port()).await;
    let target = world.target_cluster().url_at(proxy.port(), "reports");
    world.configure(|c| c.target = target);
    workload::create(&world.source, ROWS).await;
    world.trem.until_current().expect(0);
    let running = world.trem.start();
    let mut work = Workload::new(8, ROWS);
    work.run(&world.source, Duration::from_millis(500)).await;
    let sender = "SELECT pid FROM pg_stat_replication WHERE application_name LIKE 'trem%'";
    world.source.wait_for("SELECT count(*) FROM pg_stat_replication", "1", PATIENCE).await;
    let before = world.source.one(sender).await;
    proxy.hold(true);
    // Longer than the source waits for an answer: keepalives are answered while the target is slow.
    work.run(&world.source, Duration::from_secs(7)).await;
    assert_eq!(world.source.one(sender).await, before, "the source dropped the connection while the target hung");
    proxy.hold(false);
    close(&world, running).await;
}

/// Makes every write to the target fail as if the server had run into the condition.
async fn failing_writes(world: &World, sqlstate: &str) {
    world
        .target
        .exec(&format!(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'a fault made by a test' USING errcode = '{sqlstate}'; END $$;
             CREATE TRIGGER fail BEFORE INSERT OR UPDATE OR DELETE ON w_plain EXECUTE FUNCTION fail();
             ALTER TABLE w_plain ENABLE ALWAYS TRIGGER fail"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_refuses_writes_for_a_while() {
    for sqlstate in ["53100", "55P03", "40001", "40P01", "53200", "57014"] {
        let (world, mut work, mut running) = busy().await;
        failing_writes(&world, sqlstate).await;
        world.source.exec("UPDATE w_plain SET n = -5 WHERE id < 100").await;
        running.wait_log("a fault made by a test", PATIENCE).await;
        work.run(&world.source, Duration::from_millis(500)).await;
        assert!(running.ended().is_none(), "{sqlstate} can heal: {}", running.log_tail());
        world.target.exec("DROP FUNCTION fail CASCADE").await;
        close(&world, running).await;
    }
}

/// What cannot heal by itself stops the task loudly, names the table, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_failure_is_its_tables() {
    let (world, _, running) = busy().await;
    failing_writes(&world, "XX000").await;
    world.source.exec("UPDATE w_plain SET n = -5 WHERE id < 100").await;
    let state = "SELECT state FROM trem.table_state WHERE table_name = 'w_plain'";
    world.target.wait_for(state, "suspended", PATIENCE).await;
    running.stop(PATIENCE).expect(0).says(&["a fault made by a test", "public.w_plain"]);
    world.target.exec("DROP FUNCTION fail CASCADE").await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.w_plain"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(workload::TABLES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_is_read_only_for_a_while() {
    let (world, mut work, mut running) = busy().await;
    let read_only = |value: &str| format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
    world.target.exec(&read_only("on")).await;
    world.target.exec("SELECT pg_reload_conf()").await;
    world.target.exec(KICK).await;
    work.run(&world.source, Duration::from_millis(500)).await;
    running.wait_log("read-only", PATIENCE).await;
    assert!(running.ended().is_none(), "a read-only target can heal: {}", running.log_tail());
    world.target.exec("SET default_transaction_read_only = off").await;
    world.target.exec(&read_only("off")).await;
    world.target.exec("SELECT pg_reload_conf()").await;
    close(&world, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_target_is_waited_for() {
    let (world, mut work, running) = busy().await;
    let locker = world.target_cluster().connect("reports").await;
    locker.exec("BEGIN; LOCK TABLE w_plain IN ACCESS EXCLUSIVE MODE").await;
    work.run(&world.source, Duration::from_secs(2)).await;
    locker.exec("COMMIT").await;
    close(&world, running).await;
}

/// A password that becomes wrong is not retried for ever: the operator is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_becomes_wrong() {
    use trem_tests::{Auth, PgOptions};
    let options = PgOptions { auth: Auth::Scram, ..PgOptions::default() };
    let world = World::two_with(PgOptions::default(), options).await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    world.trem.until_current().expect(0);
    let running = world.trem.start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.target.exec("ALTER ROLE postgres PASSWORD 'another'").await;
    world.target.exec(KICK).await;
    world.source.exec("INSERT INTO t VALUES (2)").await;
    let outcome = running.wait(PATIENCE).expect(1).says(&["password", "postgres"]);
    assert!(!outcome.stderr.contains("s3cret"), "the password is in the log:\n{}", outcome.stderr);
}

/// An idle table must not hold the log back: what other tables write is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_task_holds_no_log() {
    let mut world = World::one().await;
    world.configure(|c| c.include = vec!["public.idle".into()]);
    world.source.exec("CREATE TABLE idle (id int PRIMARY KEY); CREATE TABLE busy (id int, t text)").await;
    world.trem.until_current().expect(0);
    let running = world.trem.start();
    let start = world.source.one("SELECT pg_current_wal_lsn()").await;
    world.source.exec("INSERT INTO busy SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i").await;
    let passed = format!(
        "SELECT confirmed_flush_lsn > '{start}'::pg_lsn + 5000000 FROM pg_replication_slots WHERE slot_name = 'trem_t'"
    );
    world.source.wait_for(&passed, "t", PATIENCE).await;
    running.stop(PATIENCE).expect(0);
}
