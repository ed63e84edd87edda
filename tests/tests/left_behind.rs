//! Whatever moment a start or a drop is interrupted at: nothing is left behind that blocks anybody.

use std::time::{Duration, Instant};

use trem_tests::{PgOptions, Proxy, World, cluster};

use crate::PATIENCE;

/// A world whose both ends are behind one proxy.
async fn proxied(options: PgOptions) -> (World, Proxy) {
    let mut world = World::one_with(options).await;
    let proxy = Proxy::start(world.cluster.port()).await;
    let url = |database: &str| world.cluster.url_at(proxy.port(), database);
    let (source, target) = (url("shop"), url("reports"));
    world.configure(|c| (c.source, c.target) = (source, target));
    (world, proxy)
}

/// Nothing but the replicated tables remains of the task.
async fn assert_gone(world: &World) {
    for (what, sql) in [
        ("slot", "SELECT count(*) FROM pg_replication_slots"),
        ("publication", "SELECT count(*) FROM pg_publication"),
        ("session", "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'trem t' AND state <> 'idle'"),
    ] {
        assert_eq!(world.source.one(sql).await, "0", "no {what} is left");
    }
    let sql = "SELECT count(*) FROM pg_namespace WHERE nspname = 'trem'";
    assert_eq!(world.target.one(sql).await, "0", "no bookkeeping is left");
}

/// The way of `trem run` while other transactions keep the slot from being made.
const MAKING: &str = "SELECT count(*) FROM pg_replication_slots s JOIN pg_locks l ON l.pid = s.active_pid \
                      WHERE NOT l.granted AND s.confirmed_flush_lsn IS NULL";

/// A start waits for every open transaction of the cluster. Interrupted there, it leaves nothing that blocks.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_interrupted_while_its_slot_is_made() {
    let world = World::one_with(PgOptions::default().conf("max_prepared_transactions=5")).await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let other = world.cluster.connect("postgres").await;
    other.exec("CREATE TABLE elsewhere (i int)").await;
    for (how, prepared) in [("INT", false), ("KILL", false), ("KILL", true)] {
        other.exec("BEGIN; INSERT INTO elsewhere VALUES (1)").await;
        if prepared {
            other.exec("PREPARE TRANSACTION 'a gid'").await;
        } else {
            // Younger ones are not told of: they end at once as a rule.
            let old = "SELECT max(now() - xact_start) > '1.2 s' FROM pg_stat_activity WHERE backend_xid IS NOT NULL";
            world.source.wait_for(old, "t", PATIENCE).await;
        }
        for again in ["drop", "check", "run"] {
            let running = world.trem.start();
            world.source.wait_for(MAKING, "1", PATIENCE).await;
            cluster::signal(running.pid(), how);
            running.wait(Duration::from_secs(10));
            let asked = Instant::now();
            match again {
                "run" => {
                    // It waits for the same transactions again, and is not blocked by what was there before.
                    let mut running = world.trem.start();
                    world.source.wait_for(MAKING, "1", PATIENCE).await;
                    other.exec(if prepared { "COMMIT PREPARED 'a gid'" } else { "COMMIT" }).await;
                    world.equal(&["public.t"], &mut running).await;
                    running.stop(PATIENCE).expect(0);
                    world.trem.command(&["drop", "--task", "t"]).expect(0);
                }
                command => {
                    let args = if command == "drop" { &["drop", "--task", "t"][..] } else { &["check"] };
                    let outcome = world.trem.command(args).expect(0);
                    if command == "check" {
                        outcome.says(&["open transactions"]);
                        world.trem.command(&["drop", "--task", "t"]).expect(0);
                    }
                    assert!(asked.elapsed() < Duration::from_secs(10), "{command} after {:?}", asked.elapsed());
                }
            }
            assert_gone(&world).await;
            world.target.exec("DROP TABLE IF EXISTS t").await;
        }
    }
}

/// A slot of the task's name that somebody else is making is told with who makes it and what that waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_in_use_is_told_with_who_uses_it() {
    let world = World::one().await;
    world.source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    let other = world.cluster.connect("postgres").await;
    other.exec("CREATE TABLE elsewhere (i int)").await;
    let pid = other.one("SELECT pg_backend_pid()").await;
    other.exec("BEGIN; INSERT INTO elsewhere VALUES (7)").await;
    let stranger = world.cluster.connect("shop").await;
    let making = tokio::spawn(async move {
        let _ = stranger.try_rows("SELECT pg_create_logical_replication_slot('trem_t', 'pgoutput')").await;
    });
    world.source.wait_for(MAKING, "1", PATIENCE).await;
    let holder = world.source.one("SELECT active_pid FROM pg_replication_slots").await;
    let says = [&format!("process {holder}"), &format!("process {pid} (database postgres"), "INSERT INTO elsewhere"];
    let says: Vec<&str> = says.iter().map(|s| s.as_ref()).collect();
    world.trem.command(&["drop", "--task", "t"]).expect(1).says(&says);
    other.exec("COMMIT").await;
    making.await.unwrap();
}

const TABLES: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE a (id int PRIMARY KEY, v text, m mood); CREATE TABLE b (id int PRIMARY KEY, v text);
    INSERT INTO a SELECT i, repeat('x', 100), 'ok' FROM generate_series(1, 200) i;
    INSERT INTO b SELECT i, repeat('y', 100) FROM generate_series(1, 200) i; ANALYZE";

/// Kills what runs at its `n`th statement; false if it has ended before.
async fn killed_at(world: &World, proxy: &Proxy, args: &[&str], n: u64) -> bool {
    proxy.hold_after(n);
    let mut running = world.trem.spawn(args, &[]);
    let deadline = Instant::now() + PATIENCE;
    while !proxy.is_holding() && running.ended().is_none() {
        assert!(Instant::now() < deadline, "neither held nor ended: {}", running.log_tail());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let killed = proxy.is_holding();
    if killed {
        running.kill();
        proxy.cut();
    } else {
        running.wait(PATIENCE).expect(0);
    }
    proxy.hold_after(u64::MAX);
    proxy.hold(false);
    killed
}

/// How many moments of a run or a drop are tried.
const MOMENTS: u64 = 16;

/// Moments spread over what takes `statements`; which ones is another matter with each run.
fn moments(statements: u64) -> Vec<u64> {
    let step = statements.div_ceil(MOMENTS).max(1);
    let first = 1 + crate::seed() % step;
    (first..=statements).step_by(step as usize).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_killed_at_any_statement() {
    let (world, proxy) = proxied(PgOptions::default()).await;
    world.source.exec(TABLES).await;
    world.trem.unchecked();
    let run = ["run", "--until-current"];
    proxy.hold_after(u64::MAX);
    world.trem.until_current().expect(0);
    let statements = proxy.statements();
    for (round, n) in moments(statements).into_iter().enumerate() {
        world.trem.command(&["drop", "--task", "t"]).expect(0);
        assert_gone(&world).await;
        world.target.exec("DROP TABLE IF EXISTS a, b; DROP TYPE IF EXISTS mood").await;
        let killed = killed_at(&world, &proxy, &run, n).await;
        eprintln!("statement {n} of {statements}: {}", if killed { "killed" } else { "ended before" });
        match round % 3 {
            0 => drop(world.trem.until_current().expect(0)),
            1 => {
                world.trem.command(&["check"]).expect(0);
                world.trem.until_current().expect(0);
            }
            _ => continue,
        }
        world.assert_equal(&["public.%"]).await;
    }
    world.trem.command(&["drop", "--task", "t"]).expect(0);
    assert_gone(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_is_killed_at_any_statement() {
    let (mut world, proxy) = proxied(PgOptions::default()).await;
    world.configure(|c| c.keys.push("on-existing = \"truncate\"".to_owned()));
    world.source.exec(TABLES).await;
    world.trem.until_current().expect(0);
    let drop = ["drop", "--task", "t"];
    proxy.hold_after(u64::MAX);
    world.trem.command(&drop).expect(0);
    let statements = proxy.statements();
    for (round, n) in moments(statements).into_iter().enumerate() {
        world.trem.until_current().expect(0);
        let killed = killed_at(&world, &proxy, &drop, n).await;
        eprintln!("statement {n} of {statements}: {}", if killed { "killed" } else { "ended before" });
        if round % 2 == 0 && world.trem.command(&["check"]).code == Some(0) {
            // What is half gone may be one that cannot go on: then a drop is what helps.
            if world.trem.until_current().code == Some(0) {
                world.assert_equal(&["public.%"]).await;
            }
        }
        world.trem.command(&drop).expect(0);
        assert_gone(&world).await;
    }
}
