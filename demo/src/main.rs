//! `make demo`: two private servers, a shop that lives, trem between them, a kill -9, and the verdict.
//!
//! Ends by itself after about a minute, with `SHORT=1` sooner; with `KEEP=1` it stays until Ctrl-C.
#![allow(clippy::print_stdout)]

use std::io::{IsTerminal, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trem_tests::cluster::{PASSWORD, PASSWORD_IN_URL};
use trem_tests::shop::Life;
use trem_tests::{Auth, Db, PgCluster, PgOptions, binaries, differences, shop};

/// What happens when, in seconds after the start of trem: kill -9, its restart, the close of the shop.
const SCRIPT: [u64; 3] = [18, 22, 40];
/// The same with `SHORT=1`.
const SHORT_SCRIPT: [u64; 3] = [4, 6, 9];
/// How long trem may take to catch up once the shop has closed.
const PATIENCE: Duration = Duration::from_secs(60);
/// The slot that trem makes for the task of `tasks.toml`.
const SLOT: &str = "trem_shop_to_reports";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("demo: no runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            code = demo() => code,
            _ = tokio::signal::ctrl_c() => ExitCode::from(130),
        }
    })
}

async fn demo() -> ExitCode {
    println!("Starting two private PostgreSQL servers ...");
    let options = PgOptions { auth: Auth::Scram, fsync: true, ..PgOptions::default() };
    let (shop, reports) = PgCluster::pair(options.clone(), options);
    for (cluster, database) in [(&shop, "shop"), (&reports, "reports")] {
        prepare(cluster, database).await;
    }
    let source = shop.connect("shop").await;
    let target = reports.connect("reports").await;
    // The shop belongs to trem's role: a publication may name only tables of the one who creates it.
    source.exec("SET ROLE trem").await;
    println!("Filling the shop (PostgreSQL {}, port {}) ...", shop.major(), shop.port());
    shop::create(&source, 20_000).await;

    let open = Arc::new(AtomicBool::new(true));
    let sold = Arc::new(AtomicU64::new(0));
    let life = tokio::spawn(live(shop.connect("shop").await, Life::new(1), Arc::clone(&open), Arc::clone(&sold)));
    let mut scene = Scene::new(source, target, sold);
    let trem = Trem::new(&shop, &reports);
    let verdict = play(&mut scene, &trem, &open).await;
    open.store(false, Ordering::Relaxed);
    let _ = life.await;

    if set("KEEP") {
        println!("\nKEEP=1: trem and both servers go on until Ctrl-C. Try them:");
        for (cluster, database) in [(&shop, "shop"), (&reports, "reports")] {
            println!("  psql postgres://trem:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", cluster.port());
        }
        let _running = trem.start();
        live(shop.connect("shop").await, Life::new(2), Arc::new(AtomicBool::new(true)), scene.sold).await;
    }
    if verdict { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether an environment variable is 1.
fn set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value == "1")
}

/// A role with what trem needs and no more, and a database of its own.
async fn prepare(cluster: &PgCluster, database: &str) {
    let admin = cluster.connect("postgres").await;
    admin.exec(&format!("CREATE ROLE trem LOGIN REPLICATION PASSWORD '{PASSWORD}'")).await;
    admin.exec(&format!("CREATE DATABASE {database} OWNER trem")).await;
    if cluster.major() >= 15 {
        let grant = "GRANT SET ON PARAMETER session_replication_role TO trem";
        cluster.connect(database).await.exec(grant).await;
    }
}

/// Customers come and go until the shop closes.
async fn live(db: Db, mut life: Life, open: Arc<AtomicBool>, sold: Arc<AtomicU64>) {
    while open.load(Ordering::Relaxed) {
        life.step(&db).await;
        sold.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The run: load, follow, kill -9, start again, catch up. True when both sides agree at the end.
async fn play(scene: &mut Scene, trem: &Trem, open: &AtomicBool) -> bool {
    scene.say("trem run tasks.toml");
    let mut running = Some(trem.start());
    let script = if set("SHORT") { SHORT_SCRIPT } else { SCRIPT };
    let [kill_at, restart_at, close_at] = script.map(Duration::from_secs);
    let start = Instant::now();
    let mut killed = false;
    while start.elapsed() < close_at {
        if !killed && start.elapsed() > kill_at {
            killed = true;
            running = None;
            scene.say("kill -9: trem is dead, the shop goes on");
        }
        if killed && running.is_none() && start.elapsed() > restart_at {
            running = Some(trem.start());
            scene.say("trem run tasks.toml, again");
        }
        if let Some(code) = running.as_mut().and_then(Running::ended) {
            scene.say(&format!("trem ended by itself ({code}):\n{}", trem.log()));
            return false;
        }
        scene.show().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    open.store(false, Ordering::Relaxed);
    scene.say("the shop closes; trem catches up");
    let closed = Instant::now();
    loop {
        scene.show().await;
        let found = differences(&scene.source, &scene.target, shop::TABLES).await;
        if found.is_empty() {
            break;
        }
        if closed.elapsed() > PATIENCE {
            scene.say(&format!("VERDICT: the two sides differ:\n{}\n{}", found.join("\n"), trem.log()));
            return false;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.finish().await;
    let seconds = closed.elapsed().as_secs_f64();
    scene.say(&format!("VERDICT: both sides agree, row by row, {seconds:.1} s after the shop closed"));
    true
}

/// What is shown: a table that is drawn over itself on a terminal, or a line now and then.
struct Scene {
    source: Db,
    target: Db,
    sold: Arc<AtomicU64>,
    started: Instant,
    terminal: bool,
    drawn: usize,
    last_line: Option<Instant>,
}

impl Scene {
    fn new(source: Db, target: Db, sold: Arc<AtomicU64>) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { source, target, sold, started: Instant::now(), terminal, drawn: 0, last_line: None }
    }

    /// A line of the story: it stays, and the table goes on below it.
    fn say(&mut self, text: &str) {
        println!("[{:5.1} s] {text}", self.started.elapsed().as_secs_f64());
        self.drawn = 0;
        self.last_line = None;
    }

    async fn show(&mut self) {
        if !self.terminal && self.last_line.is_some_and(|at| at.elapsed() < Duration::from_secs(4)) {
            return;
        }
        self.last_line = Some(Instant::now());
        let mut rows = Vec::new();
        for table in shop::NAMES {
            rows.push((*table, count(&self.source, table).await, count(&self.target, table).await));
        }
        let lag = self.lag().await;
        let done = self.sold.load(Ordering::Relaxed);
        if self.terminal { self.draw(&rows, &lag, done) } else { self.line(&rows, &lag, done) }
    }

    async fn finish(&mut self) {
        self.last_line = None;
        self.show().await;
    }

    fn draw(&mut self, rows: &[(&str, Option<i64>, Option<i64>)], lag: &str, done: u64) {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        text.push_str(&format!("\x1b[2K  {:<14}{:>12}{:>12}\n", "table", "shop", "reports"));
        for (table, there, here) in rows {
            let mark = if there == here { "\x1b[32m=\x1b[0m" } else { "\x1b[33m…\x1b[0m" };
            text.push_str(&format!("\x1b[2K  {table:<14}{:>12}{:>12} {mark}\n", cell(*there), cell(*here)));
        }
        text.push_str(&format!("\x1b[2K  {done} transactions in the shop; {lag}\n"));
        self.drawn = rows.len() + 2;
        print!("{text}");
        let _ = std::io::stdout().flush();
    }

    fn line(&self, rows: &[(&str, Option<i64>, Option<i64>)], lag: &str, done: u64) {
        let rows: Vec<String> = rows.iter().map(|(t, a, b)| format!("{t} {}/{}", cell(*a), cell(*b))).collect();
        let at = self.started.elapsed().as_secs_f64();
        println!("[{at:5.1} s]   {}; {done} transactions; {lag}", rows.join(", "));
    }

    /// How far what trem has made durable is behind the shop's log.
    async fn lag(&self) -> String {
        let sql = format!(
            "SELECT pg_size_pretty(pg_current_wal_lsn() - confirmed_flush_lsn) FROM pg_replication_slots \
             WHERE slot_name = '{SLOT}'"
        );
        match self.source.try_rows(&sql).await.ok().and_then(|r| r.into_iter().next()?.into_iter().next()?) {
            Some(bytes) => format!("lag {bytes}"),
            None => "no slot yet".to_owned(),
        }
    }
}

async fn count(db: &Db, table: &str) -> Option<i64> {
    let rows = db.try_rows(&format!("SELECT count(*) FROM {table}")).await.ok()?;
    rows.into_iter().next()?.into_iter().next()??.parse().ok()
}

fn cell(count: Option<i64>) -> String {
    count.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

/// The binary with the sample configuration of this repository.
struct Trem {
    env: Vec<(&'static str, String)>,
    log: tempfile::NamedTempFile,
}

impl Trem {
    fn new(shop: &PgCluster, reports: &PgCluster) -> Self {
        let env = vec![
            ("SHOP_PORT", shop.port().to_string()),
            ("SHOP_PASSWORD", PASSWORD_IN_URL.to_owned()),
            ("REPORTS_PORT", reports.port().to_string()),
            ("REPORTS_PASSWORD", PASSWORD_IN_URL.to_owned()),
        ];
        Self { env, log: tempfile::NamedTempFile::new().unwrap_or_else(|e| panic!("no temporary file: {e}")) }
    }

    fn start(&self) -> Running {
        let log = self.log.reopen().and_then(|mut file| {
            use std::io::Seek;
            file.seek(std::io::SeekFrom::End(0)).map(|_| file)
        });
        let log = log.map_or_else(|_| Stdio::null(), Stdio::from);
        let mut command = Command::new(binaries::trem());
        command.arg("run").arg(binaries::root().join("tasks.toml")).envs(self.env.iter().map(|(k, v)| (k, v)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Running(child.unwrap_or_else(|e| panic!("trem does not start: {e}")))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }
}

/// A process of trem; kill -9 when dropped.
struct Running(Child);

impl Running {
    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
