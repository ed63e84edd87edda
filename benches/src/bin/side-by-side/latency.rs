//! From commit to visible on the target, at a steady rate: one client commits, another looks at the target, the same
//! for all that is measured.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trem_benches::pair::{Pair, SOURCE, Task};
use trem_benches::process::{Cost, Program, Running, Stopwatch};
use trem_benches::report::{Comparison, Delays, Figure, NATIVE, TREM};
use trem_benches::workload::{Workload, digest};
use trem_tests::Db;
use trem_tests::cluster::signal;

use crate::Plan;
use crate::drain::{CONNINFO_OPTIONS, OURS, THEIRS, wait_ready};

/// How long rows are committed.
const SPAN: Duration = Duration::from_secs(10);
/// Of which the first are not counted: everything gets into its stride.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the last row may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the target.
const LOOK: Duration = Duration::from_micros(300);

/// Measures both.
pub async fn compare(pair: &Pair, name: &str, load: &Workload, per_second: u32, plan: &Plan) -> Comparison {
    let who: Vec<&str> = [TREM, NATIVE].into_iter().filter(|w| plan.takes(w)).collect();
    let mut figures: Vec<Figure> = who.iter().map(|w| Figure::new(w)).collect();
    let source = pair.source.create_database(SOURCE).await;
    load.create(&source).await;
    source.exec("CREATE PUBLICATION native FOR ALL TABLES").await;
    for round in 0..plan.repetitions {
        for turn in 0..who.len() {
            let figure = &mut figures[(turn + round) % who.len()];
            if figure.fault.is_some() {
                continue;
            }
            let measured = match figure.who.as_str() {
                TREM => by_trem(pair, &source, per_second, plan).await,
                _ => by_native(pair, &source, load, per_second).await,
            };
            match measured {
                Ok((delays, rows, cost)) => {
                    figure.delays.push(delays);
                    figure.runs.push((rows, cost));
                }
                Err(fault) => figure.fault = Some(fault),
            }
        }
    }
    let what = format!(
        "{per_second} transactions of one insert each second for {} s, the first {} s not counted: from the commit's \
         answer at the client until another client, asking again {} us after each answer, sees the row on the target.",
        SPAN.as_secs(),
        WARM_UP.as_secs(),
        LOOK.as_micros()
    );
    Comparison { name: name.to_owned(), what, unit: "rows", figures }
}

type Measured = Result<(Delays, u64, Cost), String>;

async fn by_trem(pair: &Pair, source: &Db, per_second: u32, plan: &Plan) -> Measured {
    let target = pair.fresh(OURS).await;
    let name = "latency";
    let task = Task {
        name,
        mode: "full-load-and-cdc",
        target: Some(OURS.to_owned()),
        arguments: &["--until-current"],
        settings: plan.settings.clone(),
        profile: None,
    };
    Running::start(&mut pair.trem(&task), &pair.file("trem.log")).wait()?;
    pair.settle().await;
    let task = Task { arguments: &[], ..task };
    let mut trem = Running::start(&mut pair.trem(&task), &pair.file("trem.log"));
    let streaming = format!("SELECT count(active_pid)::text FROM pg_replication_slots WHERE slot_name = 'trem_{name}'");
    source.wait_for(&streaming, "1", Duration::from_secs(20)).await;
    let (before, watch) = (trem.used(), Stopwatch::start(pair));
    let measured = observe(source, &target, per_second).await;
    let mut used = trem.used();
    used.cpu = used.cpu.saturating_sub(before.cpu);
    let cost = watch.stop(used);
    signal(trem.pid(), "TERM");
    trem.wait()?;
    let slot = format!("FROM pg_replication_slots WHERE slot_name = 'trem_{name}'");
    source.wait_for(&format!("SELECT (active_pid IS NULL)::text {slot}"), "true", Duration::from_secs(20)).await;
    source.try_rows(&format!("SELECT pg_drop_replication_slot(slot_name) {slot}")).await?;
    source.try_exec(&format!("DROP PUBLICATION trem_{name}")).await?;
    checked(source, &target, measured, cost).await
}

async fn by_native(pair: &Pair, source: &Db, load: &Workload, per_second: u32) -> Measured {
    let target = pair.fresh(THEIRS).await;
    load.create_empty(&target).await;
    let connection = format!("port={} dbname={SOURCE} {CONNINFO_OPTIONS}", pair.source.port());
    let sql = format!("CREATE SUBSCRIPTION native CONNECTION '{connection}' PUBLICATION native WITH (binary = true)");
    target.try_exec(&sql).await?;
    wait_ready(&target).await?;
    pair.settle().await;
    let watch = Stopwatch::start(pair);
    let measured = observe(source, &target, per_second).await;
    let cost = watch.stop(Program::default());
    let result = checked(source, &target, measured, cost).await;
    target.try_exec("DROP SUBSCRIPTION native").await?;
    result
}

async fn checked(source: &Db, target: &Db, measured: Result<(Delays, u64), String>, cost: Cost) -> Measured {
    let (delays, rows) = measured?;
    let (wanted, got) = (digest(source).await, digest(target).await);
    if wanted == got { Ok((delays, rows, cost)) } else { Err(format!("both sides differ: {wanted}, {got}")) }
}

async fn observe(source: &Db, target: &Db, per_second: u32) -> Result<(Delays, u64), String> {
    let first = source.number("SELECT coalesce(max(id), 0) + 1 FROM public.t0").await;
    let last = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let (committed, seen) =
        tokio::join!(commit(source, first, per_second, &last, &done), look(target, first, &last, &done));
    let (committed, seen) = (committed?, seen?);
    let warm = (WARM_UP.as_secs_f64() * f64::from(per_second)) as usize;
    let delays = committed.iter().zip(&seen).skip(warm);
    let delays = delays.map(|(at, seen)| seen.saturating_duration_since(*at).as_secs_f64() * 1000.0).collect();
    let delays = Delays::of(delays).ok_or("nothing was measured")?;
    Ok((delays, committed.len() as u64))
}

/// Commits one row after the other, on time; each one's answer is awaited. When did each commit?
async fn commit(
    source: &Db,
    first: i64,
    per_second: u32,
    last: &AtomicU64,
    done: &AtomicBool,
) -> Result<Vec<Instant>, String> {
    let client = source.client();
    let explain = |e: tokio_postgres::Error| e.to_string();
    // A client that waits for the disk cannot reach such rates alone; the server is not to be the bottleneck.
    client.batch_execute("SET synchronous_commit = off").await.map_err(explain)?;
    let sql = "INSERT INTO public.t0 VALUES ($1::bigint, 1, 1, 1.23, 'customer', 'a note of some length', true, now())";
    let statement = client.prepare(sql).await.map_err(explain)?;
    let count = (SPAN.as_secs_f64() * f64::from(per_second)) as u32;
    let start = Instant::now();
    let mut times = Vec::with_capacity(count as usize);
    for n in 0..count {
        let due = start + SPAN * n / count;
        // The timer is coarse: what has become due meanwhile follows at once.
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        client.execute(&statement, &[&(first + i64::from(n))]).await.map_err(explain)?;
        times.push(Instant::now());
        last.store(u64::from(n) + 1, Ordering::Relaxed);
    }
    done.store(true, Ordering::Relaxed);
    client.batch_execute("SET synchronous_commit = on").await.map_err(explain)?;
    let late = start.elapsed().saturating_sub(SPAN);
    if late > SPAN / 10 { Err(format!("the source was {late:?} late")) } else { Ok(times) }
}

/// When was each row first seen? They become visible in order.
async fn look(target: &Db, first: i64, last: &AtomicU64, done: &AtomicBool) -> Result<Vec<Instant>, String> {
    let client = target.client();
    let sql = "SELECT coalesce(max(id), 0) FROM public.t0";
    let statement = client.prepare(sql).await.map_err(|e| e.to_string())?;
    let mut seen: Vec<Instant> = Vec::new();
    let mut news = Instant::now();
    loop {
        let row = client.query_one(&statement, &[]).await.map_err(|e| e.to_string())?;
        let now = Instant::now();
        let highest: i64 = row.get(0);
        let count = usize::try_from(highest - first + 1).unwrap_or(0);
        if count > seen.len() {
            seen.resize(count, now);
            news = now;
        }
        let all = last.load(Ordering::Relaxed) as usize;
        if done.load(Ordering::Relaxed) && seen.len() >= all {
            return Ok(seen);
        }
        if news.elapsed() > PATIENCE {
            return Err(format!("{} of {all} rows were seen, and no more for {PATIENCE:?}", seen.len()));
        }
        tokio::time::sleep(LOOK).await;
    }
}
