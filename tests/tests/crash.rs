//! kill -9 at random moments, under load: each time both sides are equal once trem has caught up.
//!
//! A failing run prints its seed; `TREM_SEED` replays it (the machine's timing is not part of the seed).

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::{PgOptions, World, workload};

use crate::PATIENCE;

const ROWS: u32 = 20_000;

/// A number that decides everything that is random here.
fn seed() -> u64 {
    let seed = std::env::var("TREM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("TREM_SEED={seed}");
    seed
}

/// Small chunks and batches, so that a kill can hit between any two of them.
const SMALL: &str = "[TASK.load]\nworkers = 2\nchunk-bytes = \"128KiB\"\nresume-above-bytes = \"512KiB\"\n\n\
                     [TASK.batch]\nmax-rows = 300\nmax-bytes = \"256KiB\"\n";

async fn world() -> World {
    let mut world = World::two().await;
    world.configure(|c| c.sections = SMALL.into());
    workload::create(&world.source, ROWS).await;
    world
}

/// Kills `kills` times while changes are being applied.
async fn killed_while_following(kills: u32, failpoint: Option<&str>) {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let world = world().await;
    let mut work = workload::Workload::new(seed, ROWS);
    world.trem.until_current().expect(0);
    for kill in 0..kills {
        let running = match failpoint {
            Some(name) => world.trem.start_with_failpoint(&format!("{name}:{}", random.random_range(1..6))),
            None => world.trem.start(),
        };
        let moment = Duration::from_millis(random.random_range(20..900));
        work.run(&world.source, moment).await;
        running.kill();
        // Some of what comes next happens while nobody reads.
        work.run(&world.source, Duration::from_millis(30)).await;
        if kill % 3 == 2 {
            world.trem.until_current().expect(0);
            world.assert_equal(workload::TABLES).await;
        }
    }
    world.trem.until_current().expect(0);
    world.assert_equal(workload::TABLES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_following_first_half() {
    killed_while_following(21, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_following_second_half() {
    killed_while_following(21, None).await;
}

/// Each round is a new load, killed several times before it is complete, while the source changes.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_loading() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let world = world().await;
    let mut work = workload::Workload::new(seed, ROWS);
    for round in 0..4 {
        for _ in 0..4 {
            let running = world.trem.start();
            let moment = Duration::from_millis(random.random_range(5..700));
            work.run(&world.source, moment).await;
            running.kill();
        }
        world.trem.until_current().expect(0);
        world.assert_equal(workload::TABLES).await;
        if round < 3 {
            world.trem.command(&["drop", "--task", "t"]).expect(0);
            let tables = "SELECT string_agg(format('%I', relname), ', ') FROM pg_class \
                          WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
            let tables = world.target.one(tables).await;
            world.target.exec(&format!("DROP TABLE {tables}")).await;
        }
    }
}

/// Servers crash too: unsynchronised commits may be lost on the target, and nothing may be missing afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn the_target_crashes_and_loses_what_it_had_not_written() {
    use trem_tests::Shutdown;
    let seed = seed();
    // With a slow WAL writer an unsynchronised commit stays in memory for seconds.
    let target = PgOptions { fsync: true, ..PgOptions::default() }.conf("wal_writer_delay=10s");
    let mut world = World::two_with(PgOptions::default(), target).await;
    workload::create(&world.source, 2000).await;
    let mut work = workload::Workload::new(seed, 2000);
    world.trem.until_current().expect(0);
    let mut running = world.trem.start();
    for _ in 0..4 {
        work.run(&world.source, Duration::from_millis(700)).await;
        world.second.as_mut().expect("a server of its own").restart(Shutdown::Immediate);
        world.reconnect().await;
    }
    world.equal(workload::TABLES, &mut running).await;
    running.stop(PATIENCE).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_commit_and_acknowledgement() {
    killed_while_following(6, Some("lane-after-commit")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_just_before_commit() {
    killed_while_following(6, Some("lane-before-commit")).await;
}

/// The answer to COMMIT is lost: trem must find out by itself whether it took effect, and go on.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_commit_is_lost() {
    let seed = seed();
    let world = world().await;
    let mut work = workload::Workload::new(seed, ROWS);
    world.trem.until_current().expect(0);
    for n in 1..5 {
        let mut running = world.trem.start_with_failpoint(&format!("lane-commit-lost:{n}"));
        work.run(&world.source, Duration::from_millis(800)).await;
        world.equal(workload::TABLES, &mut running).await;
        running.stop(PATIENCE).expect(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_chunk_is_committed() {
    let world = world().await;
    for n in [1, 2, 5] {
        let running = world.trem.start_with_failpoint(&format!("loader-after-commit:{n}"));
        let outcome = running.wait(PATIENCE);
        assert_ne!(outcome.code, Some(0), "the failpoint ends the process");
    }
    world.trem.until_current().expect(0);
    world.assert_equal(workload::TABLES).await;
}
