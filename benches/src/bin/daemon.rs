//! What the daemon costs: 200 tasks in one process, answers while it replicates at full rate, and the same backlog
//! drained by `trem serve` and by `trem run`, turn about.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use trem_benches::machine;
use trem_benches::pair::{Pair, SOURCE, Task};
use trem_benches::process::{LOOK, Program, Running};
use trem_benches::stopwatch::Stopwatch;
use trem_benches::workload::{Kind, Workload};
use trem_tests::binaries::root;
use trem_tests::daemon::Daemon;
use trem_tests::{Db, PgCluster, PgOptions};

/// What to measure.
#[derive(Debug, Parser)]
struct Arguments {
    /// Tasks of the first part.
    #[arg(long, default_value_t = 200)]
    tasks: usize,
    /// Rounds of the second part.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Changes of the backlog.
    #[arg(long, default_value_t = 300_000)]
    changes: u64,
}

/// How long the daemon is left alone.
const IDLE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(300);

fn spec(source: &str, target: &str, include: &str) -> Value {
    json!({"source": source, "target": target, "tables": [{"include": include}]})
}

fn states(daemon: &Daemon, state: &str) -> usize {
    let answer = daemon.get(&format!("/tasks?state={state}")).expect(200).json;
    answer["total"].as_u64().unwrap() as usize
}

fn wait(daemon: &Daemon, state: &str, count: usize) -> Duration {
    let began = Instant::now();
    while states(daemon, state) < count {
        assert!(began.elapsed() < PATIENCE, "{} of {count} are {state}", states(daemon, state));
        std::thread::sleep(Duration::from_millis(50));
    }
    began.elapsed()
}

/// Resident memory now, in MiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

/// Many tasks: started, left alone, one of them failing all the time, stopped.
async fn many(tasks: usize) -> Vec<(String, String)> {
    let conf = ["max_connections=2500", "max_wal_senders=300", "max_replication_slots=300", "shared_buffers=256MB"];
    let options = conf.iter().fold(PgOptions::default(), |options, line| options.conf(line));
    let cluster = PgCluster::start(options);
    let source = cluster.create_database("shop").await;
    let target = cluster.create_database("reports").await;
    for n in 0..tasks {
        let sql = format!(
            "CREATE SCHEMA s{n}; CREATE TABLE s{n}.t (id int PRIMARY KEY, v text); INSERT INTO s{n}.t VALUES (1, 'x')"
        );
        source.exec(&sql).await;
    }
    let mut daemon = Daemon::start();
    for (name, database) in [("shop", "shop"), ("reports", "reports")] {
        let body = json!({"kind": "postgres", "url": cluster.url(database)});
        daemon.put(&format!("/endpoints/{name}"), &body).expect(201);
    }
    for n in 0..tasks {
        daemon.put(&format!("/tasks/t{n}"), &spec("shop", "reports", &format!("s{n}.*"))).expect(201);
    }
    let mut out = Vec::new();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let daemon = &daemon;
            scope.spawn(move || {
                for n in (worker..tasks).step_by(8) {
                    daemon.post(&format!("/tasks/t{n}/start")).expect(200);
                }
            });
        }
    });
    wait(&daemon, "following", tasks);
    out.push(("first start, each with its load".to_owned(), format!("{:.1} s", began.elapsed().as_secs_f64())));
    daemon.stop();
    let began = Instant::now();
    daemon.launch();
    wait(&daemon, "following", tasks);
    out.push(("start again".to_owned(), format!("{:.1} s", began.elapsed().as_secs_f64())));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (mut before, mut after) = (Program::default(), Program::default());
    before.look(daemon.pid());
    tokio::time::sleep(IDLE).await;
    after.look(daemon.pid());
    let share = 100.0 * (after.cpu - before.cpu).as_secs_f64() / IDLE.as_secs_f64();
    out.push(("resident memory, idle".to_owned(), format!("{} MiB", resident(daemon.pid()))));
    out.push(("processor, idle".to_owned(), format!("{share:.1} % of one")));
    // One whose target takes nothing any more fails again and again.
    target.exec("ALTER TABLE s0.t ADD CONSTRAINT none CHECK (false) NOT VALID").await;
    for n in 0..tasks {
        source.exec(&format!("INSERT INTO s{n}.t VALUES (2, 'y')")).await;
    }
    let began = Instant::now();
    for n in 1..tasks {
        while target.number(&format!("SELECT count(*) FROM s{n}.t")).await < 2 {
            assert!(began.elapsed() < PATIENCE, "t{n} is disturbed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    out.push(("a change in each, one of them failing".to_owned(), format!("{:.1} s", began.elapsed().as_secs_f64())));
    let began = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    out.push(("stop".to_owned(), format!("{:.1} s", began.elapsed().as_secs_f64())));
    out
}

/// A drain: seconds until the last change is on the target; beside them how long answers took.
async fn drain(pair: &Pair, daemon: Option<&mut Daemon>, task: &Task, target: &Db) -> (f64, Vec<f64>) {
    pair.settle().await;
    let Some(daemon) = daemon else {
        let mut command = pair.trem(task);
        let watch = Stopwatch::start(pair);
        let trem = Running::start(&mut command, &pair.file("trem.log"));
        seen(target).await;
        let took = watch.elapsed().as_secs_f64();
        trem.wait().expect("the run");
        return (took, Vec::new());
    };
    daemon.put("/endpoints/source", &json!({"kind": "postgres", "url": pair.source.url(SOURCE)}));
    let url = pair.target.url(task.target.as_deref().unwrap());
    daemon.put("/endpoints/target", &json!({"kind": "postgres", "url": url}));
    daemon.put(&format!("/tasks/{}", task.name), &spec("source", "target", "public.*"));
    let watch = Stopwatch::start(pair);
    daemon.post(&format!("/tasks/{}/start", task.name)).expect(200);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let daemon = &*daemon;
        let asking = scope.spawn(|| asked(daemon, &done));
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(seen(target)));
        let took = watch.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (took, asking.join().expect("answers"))
    })
}

/// Seconds that each answer took.
fn asked(daemon: &Daemon, done: &AtomicBool) -> Vec<f64> {
    let mut answers = Vec::new();
    while !done.load(Ordering::Relaxed) {
        for path in ["/tasks", "/tasks/d0/status", "/tasks/d0/tables", "/endpoints"] {
            let began = Instant::now();
            daemon.get(path).expect(200);
            answers.push(began.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    answers
}

async fn seen(target: &Db) {
    while target.try_rows("SELECT FROM public.marker").await.expect("the target").is_empty() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The same backlog, by one and by the other, in turn.
async fn both(trem: &Path, arguments: &Arguments, round: usize) -> (f64, f64, Vec<f64>) {
    let pair = Pair::start(trem, &[]);
    let changes = arguments.changes;
    let load = Workload { kind: Kind::Mix, tables: 1, rows: 200_000, changes, wide: 0, toasted: false };
    let source = pair.source.create_database(SOURCE).await;
    load.create(&source).await;
    let task = |name: &'static str| Task {
        name,
        mode: "full-load-and-cdc",
        target: Some(name.to_owned()),
        arguments: &["--until-current"],
        settings: String::new(),
        profile: None,
    };
    let tasks = [task("d0"), task("r0")];
    let mut targets = Vec::new();
    for task in &tasks {
        let target = pair.fresh(task.target.as_deref().unwrap()).await;
        Running::start(&mut pair.trem(task), &pair.file("load.log")).wait().expect("the load");
        target.exec("VACUUM ANALYZE").await;
        targets.push(target);
    }
    load.backlog(&source).await;
    let mut daemon = Daemon::start();
    let (mut served, mut run, mut answers) = (0.0, 0.0, Vec::new());
    for turn in 0..2 {
        if (turn + round).is_multiple_of(2) {
            (served, answers) = drain(&pair, Some(&mut daemon), &tasks[0], &targets[0]).await;
            daemon.stop();
        } else {
            (run, _) = drain(&pair, None, &tasks[1], &targets[1]).await;
        }
    }
    (served, run, answers)
}

fn at(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let trem = machine::trem();
    let mut out = String::from("# What the daemon costs\n\n");
    for (fact, value) in machine::facts() {
        out.push_str(&format!("- {fact}: {value}\n"));
    }
    out.push_str(&format!(
        "\n## {} tasks in one process\n\nOne source, a small schema each, on one server.\n\n| | |\n|---|---|\n",
        arguments.tasks
    ));
    for (what, value) in many(arguments.tasks).await {
        out.push_str(&format!("| {what} | {value} |\n"));
    }
    let (mut ratios, mut answers) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        let (served, run, mut asked) = both(&trem, &arguments, round).await;
        ratios.push(run / served);
        answers.append(&mut asked);
    }
    let (ratio, median, p99) = (at(&mut ratios, 0.5), at(&mut answers, 0.5), at(&mut answers, 0.99));
    out.push_str(&format!(
        "\n## Replicating at full rate\n\nA backlog of {} changes, drained by `trem serve` while it is asked for \
         tasks, status, tables and endpoints, and by `trem run`, turn about; {} rounds.\n\n| | |\n|---|---|\n| rate, \
         relative to `trem run` (median) | {ratio:.2} |\n| answers, median | {:.1} ms |\n| answers, p99 | {:.1} ms \
         |\n| answers measured | {} |\n",
        arguments.changes,
        arguments.rounds,
        1000.0 * median,
        1000.0 * p99,
        answers.len()
    ));
    println!("{out}");
    std::fs::write(root().join("benches/results/daemon.md"), out).expect("the results are written");
}
