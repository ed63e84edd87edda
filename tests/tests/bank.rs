//! Every state that can be read on the target is one the source had: money moves, its sum does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trem_tests::{Db, Proxy, World};

use crate::PATIENCE;

const ACCOUNTS: i64 = 200;
const TOTAL: &str = "SELECT (SELECT sum(balance) FROM checking) + (SELECT sum(balance) FROM savings) || ' in ' || \
                     (SELECT count(*) FROM checking) + (SELECT count(*) FROM savings)";

/// Transfers within and between two tables, some through accounts that are opened and closed on the way.
async fn trade(db: Db, stop: Arc<AtomicBool>) -> u64 {
    let mut random = StdRng::seed_from_u64(3);
    let mut transfers = 0;
    while !stop.load(Ordering::Relaxed) {
        let (from, to) = (random.random_range(1..=ACCOUNTS), random.random_range(1..=ACCOUNTS));
        let amount = random.random_range(1..500);
        let sql = match random.random_range(0..4) {
            0 => format!(
                "BEGIN; UPDATE checking SET balance = balance - {amount} WHERE id = {from}; \
                 UPDATE checking SET balance = balance + {amount} WHERE id = {to}; COMMIT"
            ),
            1 => format!(
                "BEGIN; UPDATE checking SET balance = balance - {amount} WHERE id = {from}; \
                 UPDATE savings SET balance = balance + {amount} WHERE id = {to}; COMMIT"
            ),
            2 => format!(
                "BEGIN; UPDATE savings SET balance = balance + b FROM (SELECT balance AS b FROM checking WHERE id = \
                 {from}) x \
                 WHERE id = {to}; DELETE FROM checking WHERE id = {from}; \
                 INSERT INTO checking VALUES ({from}, 0); COMMIT"
            ),
            // Every account at once: a transaction larger than the limits below.
            _ => "BEGIN; UPDATE checking SET balance = balance - 1; UPDATE savings SET balance = balance + 1; COMMIT"
                .into(),
        };
        db.exec(&sql).await;
        transfers += 1;
    }
    transfers
}

/// Reads totals until told to stop; every one must be the same.
async fn audit(db: Db, wanted: String, stop: Arc<AtomicBool>) -> u64 {
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) {
        let seen = db.one(TOTAL).await;
        assert_eq!(seen, wanted, "read {reads} of the target");
        reads += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    reads
}

#[tokio::test(flavor = "multi_thread")]
async fn the_total_never_changes() {
    let mut world = World::two().await;
    let proxy = Proxy::start(world.target_cluster().port()).await;
    let url = world.target_cluster().url_at(proxy.port(), "reports");
    world.configure(|c| {
        c.target = url;
        c.sections = "[TASK.batch]\nmax-rows = 150\n".into();
    });
    for table in ["checking", "savings"] {
        let sql = format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, balance bigint NOT NULL);
             INSERT INTO {table} SELECT i, 1000000 FROM generate_series(1, {ACCOUNTS}) i"
        );
        world.source.exec(&sql).await;
    }
    world.trem.until_current().expect(0);
    let wanted = world.source.one(TOTAL).await;
    let stop = Arc::new(AtomicBool::new(false));
    let traders = tokio::spawn(trade(world.cluster.connect("shop").await, Arc::clone(&stop)));
    let auditor = world.target_cluster().connect("reports").await;
    let auditor = tokio::spawn(audit(auditor, wanted, Arc::clone(&stop)));
    for round in 0..8 {
        let running = world.trem.start();
        tokio::time::sleep(Duration::from_millis(900)).await;
        if round % 2 == 0 {
            proxy.cut_after(20_000);
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        running.kill();
        assert!(!auditor.is_finished(), "the auditor found a wrong total: {:?}", auditor.await);
    }
    let mut running = world.trem.start();
    stop.store(true, Ordering::Relaxed);
    let transfers = traders.await.expect("the traders");
    let reads = auditor.await.expect("the auditor");
    eprintln!("{transfers} transfers, {reads} reads of the total");
    assert!(transfers > 100 && reads > 100);
    world.equal(&["public.%"], &mut running).await;
    running.stop(PATIENCE).expect(0);
}
