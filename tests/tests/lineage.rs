//! Resuming where rows would be lost or doubled is refused, with what to do about it.

use std::time::Duration;

use trem_tests::{PgCluster, PgOptions, Proxy, Running, World};

use crate::PATIENCE;

async fn loaded() -> World {
    loaded_with(World::one().await).await
}

async fn loaded_with(world: World) -> World {
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    world.trem.until_current().expect(0);
    world
}

/// trem must end by itself, saying all this and what to do.
fn refused(running: Running, says: &[&str]) {
    let outcome = running.wait(PATIENCE).expect(1).says(says);
    assert!(outcome.stderr.contains("remedy"), "no remedy in:\n{}", outcome.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_dropped() {
    let world = loaded().await;
    world.idle_slot().await;
    world.source.exec("SELECT pg_drop_replication_slot('trem_t'); INSERT INTO t VALUES (3)").await;
    refused(world.trem.start(), &["trem_t", "slot"]);
    assert_eq!(world.target.one("SELECT count(*) FROM t").await, "2", "nothing was touched");
    assert_eq!(world.source.one("SELECT count(*) FROM pg_replication_slots").await, "0", "no slot in secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_made_anew() {
    let world = loaded().await;
    world.idle_slot().await;
    world.source.exec("SELECT pg_drop_replication_slot('trem_t')").await;
    world.source.exec("INSERT INTO t VALUES (3)").await;
    world.source.exec("SELECT pg_create_logical_replication_slot('trem_t', 'pgoutput')").await;
    refused(world.trem.start(), &["trem_t", "slot"]);
    assert_eq!(world.target.one("SELECT count(*) FROM t").await, "2", "nothing was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_someone_else_has_read_on() {
    let world = loaded().await;
    world.source.exec("INSERT INTO t VALUES (3)").await;
    world.idle_slot().await;
    world.source.exec("SELECT pg_replication_slot_advance('trem_t', pg_current_wal_lsn())").await;
    refused(world.trem.start(), &["trem_t", "slot"]);
    assert_eq!(world.target.one("SELECT count(*) FROM t").await, "2", "nothing was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_log_is_gone() {
    let options =
        PgOptions::default().conf("max_slot_wal_keep_size=1MB").conf("min_wal_size=32MB").conf("max_wal_size=64MB");
    let world = loaded_with(World::one_with(options).await).await;
    let sql = "CREATE TABLE noise AS SELECT repeat('x', 1000) AS t FROM generate_series(1, 40000)";
    world.source.exec(sql).await;
    for _ in 0..3 {
        world.source.exec("SELECT pg_switch_wal()").await;
        world.source.exec("CHECKPOINT").await;
    }
    assert_eq!(world.source.one("SELECT wal_status FROM pg_replication_slots").await, "lost");
    refused(world.trem.start(), &["trem_t", "max_slot_wal_keep_size"]);
}

/// The same host and port, but another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_behind_the_same_address() {
    let mut world = World::one().await;
    let proxy = Proxy::start(world.cluster.port()).await;
    let url = world.cluster.url_at(proxy.port(), "shop");
    world.configure(|c| c.source = url);
    let world = loaded_with(world).await;
    let other = PgCluster::start(PgOptions { identity: 1, ..PgOptions::default() });
    let there = other.create_database("shop").await;
    there.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (77)").await;
    proxy.redirect(other.port());
    refused(world.trem.start(), &["another"]);
    assert_eq!(world.target.one("SELECT string_agg(id::text, ',' ORDER BY id) FROM t").await, "1,2");
    assert_eq!(there.one("SELECT count(*) FROM pg_replication_slots").await, "0", "nothing was created there");
    assert_eq!(world.target.one("SELECT state FROM trem.table_state").await, "ready", "nor noted here");
    // While it runs, too.
    proxy.redirect(world.cluster.port());
    let mut running = world.trem.start();
    world.source.exec("INSERT INTO t VALUES (4)").await;
    world.equal(&["public.t"], &mut running).await;
    proxy.redirect(other.port());
    proxy.cut();
    refused(running, &["another"]);
}

/// The target was set back to an older state: the slot has moved on since.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_restored_from_a_backup() {
    let world = loaded_with(World::two().await).await;
    let here = world.target_cluster();
    let admin = here.connect("postgres").await;
    let backup = |from: &str, to: &str| format!("CREATE DATABASE {to} TEMPLATE {from}");
    let kick = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('reports', 'backup')";
    admin.exec(kick).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    admin.exec(&backup("reports", "backup")).await;
    world.source.exec("INSERT INTO t VALUES (3)").await;
    world.trem.until_current().expect(0);
    // Once acknowledged, the change is not in the slot any more.
    let mut running = world.trem.start();
    world.source.exec("INSERT INTO t VALUES (4)").await;
    let acknowledged = "SELECT confirmed_flush_lsn >= pg_current_wal_lsn() FROM pg_replication_slots";
    world.source.wait_for(acknowledged, "t", PATIENCE).await;
    assert!(running.ended().is_none());
    running.stop(PATIENCE).expect(0);
    admin.exec(kick).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    admin.exec("DROP DATABASE reports").await;
    admin.exec(&backup("backup", "reports")).await;
    refused(world.trem.start(), &["trem_t", "slot"]);
    let restored = here.connect("reports").await;
    assert_eq!(restored.one("SELECT count(*) FROM t").await, "2", "nothing was touched");
}

/// The publication is dropped while trem is away, and changes are made that it does not speak of.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_was_dropped() {
    let world = loaded().await;
    world.source.exec("INSERT INTO t VALUES (3); DROP PUBLICATION trem_t").await;
    world.source.exec("INSERT INTO t VALUES (4)").await;
    let outcome = world.trem.spawn(&["run", "--until-current"], &[]).wait(PATIENCE);
    match outcome.code {
        // Either way is right; a task that ends well with rows missing is not.
        Some(0) => world.assert_equal(&["public.t"]).await,
        _ => drop(outcome.expect(1).says(&["publication", "trem_t", "remedy"])),
    }
}

/// A table is taken out of the publication behind trem's back: what it lost meanwhile is in no log.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_was_changed() {
    let world = loaded().await;
    world.source.exec("CREATE TABLE other (id int PRIMARY KEY)").await;
    world.trem.until_current().expect(0);
    world.source.exec("ALTER PUBLICATION trem_t DROP TABLE t").await;
    world.source.exec("INSERT INTO t VALUES (3); INSERT INTO other VALUES (1)").await;
    world.trem.until_current().expect(3).says(&["publication", "trem_t", "public.t", "reload the table"]);
    world.assert_equal(&["public.other"]).await;
    assert_eq!(world.table_state("public.t").await, "suspended");
    // The remedy brings it back, and the other table went on.
    world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
    world.trem.until_current().expect(0);
    world.assert_equal(&["public.%"]).await;
    let mut running = world.trem.start();
    world.source.exec("INSERT INTO t VALUES (4); DELETE FROM t WHERE id = 1").await;
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// A second process takes the task over: the first is locked out and says so; no row is lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_one_task() {
    let world = loaded().await;
    let mut first = world.trem.start();
    world.source.exec("INSERT INTO t VALUES (10)").await;
    world.equal(&["public.t"], &mut first).await;
    let mut second = world.trem.start();
    for n in 0..20 {
        world.source.exec(&format!("INSERT INTO t SELECT generate_series({n} * 100 + 100, {n} * 100 + 150)")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    first.wait(PATIENCE).expect(1).says(&["taken", "over"]);
    world.equal(&["public.t"], &mut second).await;
    second.stop(PATIENCE).expect(0);
}

/// A slot of this name is there before the first start, and is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_of_somebody_else() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    world.source.exec("SELECT pg_create_logical_replication_slot('trem_t', 'pgoutput')").await;
    refused(world.trem.start(), &["trem_t", "slot"]);
    assert_eq!(world.source.one("SELECT count(*) FROM pg_replication_slots").await, "1", "it is still there");
}
