//! kill -9 at random moments, under load: each time both sides are equal once trem has caught up.
//!
//! A failing run prints its seed; `TREM_SEED` replays it (the machine's timing is not part of the seed).

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::{PgOptions, World, workload};

use crate::{PATIENCE, seed};

const ROWS: u32 = 6000;

/// Small chunks and batches, so that a kill can hit between any two of them.
const SMALL: &str = "[TASK.load]\nworkers = 2\nchunk-bytes = \"64KiB\"\nresume-above-bytes = \"256KiB\"\n\n\
                     [TASK.batch]\nmax-rows = 300\nmax-bytes = \"256KiB\"\n";

async fn world() -> World {
    let mut world = World::two().await;
    world.configure(|c| {
        c.sections = SMALL.into();
        c.keys.push("on-existing = \"recreate\"".into());
    });
    workload::create(&world.source, ROWS).await;
    world
}

/// trem catches up, and both sides are equal.
async fn catches_up(world: &World) {
    world.trem.until_current().expect(0);
    world.assert_equal(workload::TABLES).await;
}

/// Kills `kills` times while changes are being applied; both sides are compared after each.
async fn killed_while_following(kills: u32, failpoint: Option<&str>) {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let world = world().await;
    let mut work = workload::Workload::new(seed, ROWS);
    world.trem.until_current().expect(0);
    let mut hit = 0;
    for kill in 0..kills {
        let before = checkpoint(&world).await;
        let mut running = match failpoint {
            Some(name) => world.trem.start_with_failpoint(&format!("{name}:{}", random.random_range(1..4))),
            None => world.trem.start(),
        };
        // Most kills hit a process that applies changes, some one that is about to.
        let early = random.random_bool(0.2);
        let deadline = Instant::now() + PATIENCE;
        while !early && running.ended().is_none() && checkpoint(&world).await == before {
            assert!(Instant::now() < deadline, "no change arrives: {}", running.log_tail());
            work.run(&world.source, Duration::from_millis(20)).await;
        }
        let moment = Duration::from_millis(random.random_range(5..500));
        work.run(&world.source, moment).await;
        hit += u32::from(checkpoint(&world).await != before);
        while failpoint.is_some() && running.ended().is_none() {
            assert!(Instant::now() < deadline, "the failpoint did not end the process");
            work.run(&world.source, Duration::from_millis(50)).await;
        }
        running.kill();
        // Some of what comes next happens while nobody reads.
        work.run(&world.source, Duration::from_millis(20)).await;
        eprintln!("kill {kill} after {moment:?}");
        catches_up(&world).await;
    }
    eprintln!("{hit} of {kills} kills came after changes had been applied");
    assert!(failpoint.is_some() || hit * 2 > kills, "only {hit} of {kills} kills hit a process that applied changes");
}

async fn checkpoint(world: &World) -> String {
    world.target.one("SELECT position FROM trem.lane").await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_following_first_half() {
    killed_while_following(15, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_following_second_half() {
    killed_while_following(15, None).await;
}

/// Each round is a new load, killed before it is complete, perhaps again while it goes on, and then caught up.
async fn killed_while_loading(rounds: u32) {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let world = world().await;
    let mut work = workload::Workload::new(seed, ROWS);
    let loading = "SELECT count(*) > 0 FROM trem.table_state WHERE state = 'loading'";
    let over = "SELECT count(*) > 0 AND bool_and(state = 'ready') FROM trem.table_state";
    let (mut kills, mut hit) = (0, 0);
    for round in 0..rounds {
        if round > 0 {
            world.trem.command(&["drop", "--task", "t"]).expect(0);
        }
        for _ in 0..random.random_range(1..=2) {
            let running = world.trem.start();
            // Most kills hit the load, some come before it.
            let early = random.random_bool(0.2);
            let deadline = Instant::now() + PATIENCE;
            while !early && !yes(&world, loading).await && !yes(&world, over).await {
                assert!(Instant::now() < deadline, "no load begins: {}", running.log_tail());
                work.run(&world.source, Duration::from_millis(10)).await;
            }
            let moment = Duration::from_millis(random.random_range(1..300));
            work.run(&world.source, moment).await;
            hit += u32::from(yes(&world, loading).await);
            running.kill();
            kills += 1;
        }
        eprintln!("round {round}, {kills} kills");
        catches_up(&world).await;
    }
    eprintln!("{hit} of {kills} kills came in the middle of a load");
    assert!(hit > 0, "no kill hit a load");
}

/// Whether a query of the bookkeeping, which may not be there yet, says so.
async fn yes(world: &World, sql: &str) -> bool {
    world.target.try_rows(sql).await.is_ok_and(|r| r[0][0].as_deref() == Some("t"))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_loading_first_half() {
    killed_while_loading(12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_loading_second_half() {
    killed_while_loading(12).await;
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
        world.equal(workload::TABLES, &mut running).await;
    }
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
    catches_up(&world).await;
}
