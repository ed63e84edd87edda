//! What keeps failing is tried again, and told: in the log, and by `status` until it has healed.

use std::time::{Duration, Instant};

use trem_tests::{PgOptions, World};

use crate::PATIENCE;

/// Waits until `status` says all of this, or, with nothing to say, that nothing is failing.
async fn wait_status(world: &World, says: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = world.trem.command(&["status"]).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        let failing = said.contains("failing since");
        if failing != says.is_empty() && says.iter().all(|s| said.contains(s)) {
            return;
        }
        assert!(Instant::now() < deadline, "status says: {said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn told_soon(world: &mut World) {
    // The harness ends with the section that has this key.
    world.configure(|c| c.sections = "tell-after = \"1s\"".to_owned());
}

/// The task as a whole: the source lets its role in no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lets_nobody_in() {
    let mut world = World::two().await;
    world.configure(|c| c.source = c.source.replacen("postgres://postgres:", "postgres://reader:", 1));
    told_soon(&mut world);
    world
        .source
        .exec(
            "CREATE ROLE reader LOGIN REPLICATION; GRANT CREATE ON DATABASE shop TO reader;
             CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO reader; INSERT INTO t VALUES (1)",
        )
        .await;
    let mut running = world.trem.start();
    world.equal(&["public.t"], &mut running).await;
    // Who is connecting just now would get in once more.
    world.source.wait_for("SELECT active::text FROM pg_replication_slots", "true", PATIENCE).await;
    world.source.exec("ALTER ROLE reader CONNECTION LIMIT 0").await;
    world.source.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'").await;
    wait_status(&world, &["the task failing since 20", "times:", "too many connections", "close other connections"])
        .await;
    running.wait_log("has been failing for", PATIENCE).await;
    world.source.exec("ALTER ROLE reader CONNECTION LIMIT -1; INSERT INTO t VALUES (2)").await;
    wait_status(&world, &[]).await;
    world.equal(&["public.t"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}

/// Tables beside the others: no slot is free for their load.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_without_a_free_slot() {
    let mut world = World::one_with(PgOptions::default().conf("max_replication_slots=2")).await;
    told_soon(&mut world);
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    let mut running = world.trem.start();
    world.equal(&["public.t", "public.u"], &mut running).await;
    world.source.exec("SELECT pg_create_physical_replication_slot('other')").await;
    world.trem.command(&["reload", "--task", "t", "--table", "public.t"]).expect(0);
    let says = ["public.t failing since 20", "replication slots are in use", "raise the limit"];
    wait_status(&world, &says).await;
    world.source.exec("INSERT INTO u VALUES (2)").await;
    world.equal(&["public.u"], &mut running).await;
    world.source.exec("SELECT pg_drop_replication_slot('other'); INSERT INTO t VALUES (5)").await;
    wait_status(&world, &[]).await;
    world.equal(&["public.t", "public.u"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}
