//! From commit to visible on the target, at a steady rate: some clients commit, each waiting for the disk, and another
//! looks at the target, the same for all that is measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use trem_benches::pair::{Pair, SOURCE, Task};
use trem_benches::process::{Program, Running};
use trem_benches::report::{Comparison, Delays, Figure, NATIVE, TREM};
use trem_benches::stopwatch::{Cost, Stopwatch};
use trem_benches::workload::{Workload, digest};
use trem_tests::Db;
use trem_tests::cluster::signal;

use crate::drain::{CONNINFO_OPTIONS, OURS, THEIRS, wait_ready};
use crate::{Plan, turns};

/// How long rows are committed.
const SPAN: Duration = Duration::from_secs(10);
/// Of which the first are not counted: everything gets into its stride.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the last row may take to be seen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Those that commit, so that commits can share the disk's answer.
const CLIENTS: usize = 16;
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
        for at in turns(round, who.len()) {
            let figure = &mut figures[at];
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
        "{per_second} transactions of one insert each second from {CLIENTS} clients for {} s, the first \
        {} s not counted: from the commit's \
         answer at the client until another client, asking the target by the key again {} us after each answer, sees \
         the row.",
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
    let measured = observe(pair, &target, per_second).await;
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
    let measured = observe(pair, &target, per_second).await;
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

async fn observe(pair: &Pair, target: &Db, per_second: u32) -> Result<(Delays, u64), String> {
    let first = pair.source.connect(SOURCE).await.number("SELECT coalesce(max(id), 0) + 1 FROM public.t0").await;
    // A look must cost the same whoever wrote the table: by its key, and not by reading all of it.
    target.exec("VACUUM ANALYZE").await;
    target.exec("SET enable_seqscan = off; SET enable_bitmapscan = off").await;
    let count = SPAN.as_secs() as usize * per_second as usize;
    let done = AtomicBool::new(false);
    let mut clients = JoinSet::new();
    let start = Instant::now() + Duration::from_millis(100);
    for client in 0..CLIENTS {
        let db = pair.source.connect(SOURCE).await;
        clients.spawn(async move { commit(&db, first, start, client, count).await });
    }
    let all = async {
        let mut times = vec![None; count];
        while let Some(part) = clients.join_next().await {
            for (n, at) in part.map_err(|e| e.to_string())?? {
                times[n] = Some(at);
            }
        }
        done.store(true, Ordering::Relaxed);
        let late = start.elapsed().saturating_sub(SPAN);
        if late > SPAN / 10 { Err(format!("the source was {late:?} late")) } else { Ok(times) }
    };
    let (committed, seen) = tokio::join!(all, look(target, first, count, &done));
    let (committed, seen) = (committed?, seen?);
    let warm = WARM_UP.as_secs() as usize * per_second as usize;
    let both = committed.into_iter().zip(seen).skip(warm).filter_map(|(at, seen)| at.zip(seen));
    let delays: Vec<f64> = both.map(|(at, seen)| seen.saturating_duration_since(at).as_secs_f64() * 1000.0).collect();
    if delays.len() != count - warm {
        return Err(format!("{} of {} rows were seen", delays.len(), count - warm));
    }
    Ok((Delays::of(delays).ok_or("nothing was measured")?, count as u64))
}

/// Commits this client's rows, each on time, and waits for each one's answer. When did each commit?
async fn commit(
    source: &Db,
    first: i64,
    start: Instant,
    client: usize,
    count: usize,
) -> Result<Vec<(usize, Instant)>, String> {
    let sql = "INSERT INTO public.t0 VALUES ($1::bigint, 1, 1, 1.23, 'customer', 'a note of some length', true, now())";
    let statement = source.client().prepare(sql).await.map_err(|e| e.to_string())?;
    let mut times = Vec::with_capacity(count / CLIENTS + 1);
    for n in (client..count).step_by(CLIENTS) {
        let due = start + SPAN.mul_f64(n as f64 / count as f64);
        // The timer is coarse: what has become due meanwhile follows at once.
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        source.client().execute(&statement, &[&(first + n as i64)]).await.map_err(|e| e.to_string())?;
        times.push((n, Instant::now()));
    }
    Ok(times)
}

/// When was each row first seen?
async fn look(target: &Db, first: i64, count: usize, done: &AtomicBool) -> Result<Vec<Option<Instant>>, String> {
    let sql = "SELECT id FROM public.t0 WHERE id >= $1";
    let statement = target.client().prepare(sql).await.map_err(|e| e.to_string())?;
    let mut seen: Vec<Option<Instant>> = vec![None; count];
    // Clients overtake each other: everything from the first row that is missing is asked for.
    let (mut missing, mut news) = (0, Instant::now());
    loop {
        let rows = target.client().query(&statement, &[&(first + missing as i64)]).await.map_err(|e| e.to_string())?;
        let now = Instant::now();
        for row in &rows {
            let n = usize::try_from(row.get::<_, i64>(0) - first).unwrap_or(usize::MAX);
            if let Some(seen) = seen.get_mut(n)
                && seen.is_none()
            {
                *seen = Some(now);
                news = now;
            }
        }
        missing += seen[missing..].iter().take_while(|s| s.is_some()).count();
        if missing == count || (done.load(Ordering::Relaxed) && news.elapsed() > PATIENCE) {
            return Ok(seen);
        }
        tokio::time::sleep(LOOK).await;
    }
}
