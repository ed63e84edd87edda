//! A backlog in the log, drained by each program alone while the slots of the others still hold it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trem_benches::machine;
use trem_benches::pair::{Pair, SOURCE, Task};
use trem_benches::process::{LOOK, PATIENCE, Program, Running};
use trem_benches::report::{Comparison, Figure, NATIVE, NULL, RECEIVE, TREM};
use trem_benches::stopwatch::{Cost, Stopwatch};
use trem_benches::workload::{Workload, digest};
use trem_tests::Db;
use trem_tests::binaries::root;
use trem_tests::cluster::{PASSWORD, signal};

use crate::{Plan, turns};

/// The log through SQL, from the same slot that pg_recvlogical reads.
const PEEK: &str = "SQL peek to nowhere";
/// How a subscription comes to the source, besides port and database.
pub const CONNINFO_OPTIONS: &str = "host=127.0.0.1 user=postgres password=x";
pub const OURS: &str = "by_trem";
pub const THEIRS: &str = "by_native";

/// The end of a backlog.
#[derive(Clone, Debug)]
struct Goal {
    lsn: String,
    changes: u64,
    digest: String,
}

impl Goal {
    /// The backlog through SQL, which leaves it where it is.
    fn peek(&self, columns: &str) -> String {
        format!(
            "SELECT {columns} FROM pg_logical_slot_peek_binary_changes('peek', '{}', NULL, 'proto_version', '1', \
             'publication_names', 'peek', 'binary', 'true')",
            self.lsn
        )
    }
}

struct Sides<'a> {
    pair: &'a Pair,
    plan: &'a Plan,
    name: &'a str,
    source: Db,
    ours: Db,
    theirs: Db,
    null: Option<Running>,
}

/// Measures all of them. Each round on servers of its own, or it would meet larger tables than the last.
pub async fn compare(start: impl Fn() -> Pair, name: &str, load: &Workload, plan: &Plan) -> Comparison {
    let who: Vec<&str> = [TREM, NATIVE, RECEIVE, PEEK, NULL].into_iter().filter(|w| plan.takes(w)).collect();
    let mut figures: Vec<Figure> = who.iter().map(|w| Figure::new(w)).collect();
    for round in 0..plan.repetitions {
        let pair = start();
        let mut sides = Sides::create(&pair, name, load, plan).await;
        // The subscription first: a slot for each table that it copies leaves records in the log, which whoever
        // follows the log already would have to read.
        for first in [true, false] {
            for figure in figures.iter_mut().filter(|f| f.fault.is_none() && (f.who == NATIVE) == first) {
                figure.fault = sides.prepare(&figure.who, load).await.err();
            }
        }
        let goal = sides.make_backlog(load).await;
        for at in turns(round, who.len()) {
            let figure = &mut figures[at];
            if figure.fault.is_some() {
                continue;
            }
            match sides.drain(&figure.who, &goal).await {
                Ok(cost) => figure.runs.push((goal.changes, cost)),
                Err(fault) => figure.fault = Some(fault),
            }
        }
    }
    Comparison { name: name.to_owned(), what: describe(load), unit: "changes", figures }
}

fn describe(load: &Workload) -> String {
    use trem_benches::workload::Kind;
    let what = match load.kind {
        Kind::Mix => "transactions of 5 inserts, 4 updated rows and 1 delete",
        Kind::Inserts => "transactions of 10 inserts",
        Kind::Updates => "transactions of 10 updated rows",
        Kind::Deletes => "transactions of 10 deletes",
        Kind::Hot => "transactions of 10 updated rows, all among 1,000",
        Kind::One => "one transaction of inserts",
    };
    let width = match (load.wide, load.toasted) {
        (0, _) => "about 120 bytes a row".to_owned(),
        (bytes, false) => format!("with a text of {bytes} byte(s)"),
        (bytes, true) => format!("with a text of {bytes} bytes out of line"),
    };
    let Workload { changes, tables, rows, .. } = load;
    format!(
        "A backlog of {changes} changes: {what}; {tables} table(s) of 8 columns and {rows} rows, \
        {width}. trem from the start of its process, the subscription from ENABLE, both until the last change can be \
         seen on the target; the others to the end of their process. trem to null is there before, as what it \
         remembers lives in its process: from where it is let go on until its slot has moved past the last change."
    )
}

/// Looks on a target for the last change of the backlog.
const MARKER: &str = "SELECT 'seen' FROM public.marker";

/// Waits until what a subscription has copied can be seen.
pub async fn wait_copied(target: &Db) -> Result<(), String> {
    let sql = "SELECT coalesce(bool_and(srsubstate IN ('f', 's', 'r')), false)::text FROM pg_subscription_rel";
    // Looking takes processor time from what is looked at.
    until(target, sql, "true", LOOK * 4).await
}

/// Waits until a subscription follows all its tables.
pub async fn wait_ready(target: &Db) -> Result<(), String> {
    let sql = "SELECT coalesce(bool_and(srsubstate = 'r'), false)::text FROM pg_subscription_rel";
    until(target, sql, "true", LOOK).await
}

async fn until(db: &Db, sql: &str, wanted: &str, pause: Duration) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = db.try_rows(sql).await?;
        if rows.first().and_then(|r| r.first()).and_then(|v| v.as_deref()) == Some(wanted) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("not caught up after {PATIENCE:?}"));
        }
        tokio::time::sleep(pause).await;
    }
}

/// Where perf writes.
pub fn profile(pair: &Pair) -> PathBuf {
    pair.file("perf.data")
}

/// Keeps a profile as text beside the results.
pub fn profiled(pair: &Pair, name: &str, plan: &Plan) {
    if !plan.profile {
        return;
    }
    let report = |arguments: &[&str]| {
        let mut perf = Command::new("perf");
        perf.args(["report", "--stdio", "-i"]).arg(profile(pair)).args(arguments).stderr(Stdio::null());
        perf.output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
    };
    let facts: String = machine::facts().iter().map(|(fact, value)| format!("# {fact}: {value}\n")).collect();
    let processes = report(&["--no-children", "--sort", "pid", "--percent-limit", "0.5"]);
    let flat = report(&["--no-children", "--sort", "pid,dso,symbol", "--percent-limit", "0.3"]);
    let text = format!(
        "{facts}# Processor time of the machine while trem ran, by process (swapper: nobody)\n{processes}\n\
         # By function\n{flat}"
    );
    let kept: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    let file = root().join(format!("benches/results/{name}.profile.txt"));
    std::fs::write(file, kept.join("\n") + "\n").expect("the profile is written");
}

impl<'a> Sides<'a> {
    async fn create(pair: &'a Pair, name: &'a str, load: &Workload, plan: &'a Plan) -> Self {
        let source = pair.source.create_database(SOURCE).await;
        load.create(&source).await;
        let (ours, theirs) = (pair.fresh(OURS).await, pair.fresh(THEIRS).await);
        Self { pair, plan, name, source, ours, theirs, null: None }
    }

    fn task(&self, name: &'static str, mode: &'static str) -> Task {
        let settings = self.plan.settings.clone();
        Task { name, mode, target: None, arguments: &["--until-current"], settings, profile: None }
    }

    fn ours(&self) -> Task {
        Task { target: Some(OURS.to_owned()), ..self.task("bench", "full-load-and-cdc") }
    }

    async fn prepare(&mut self, who: &str, load: &Workload) -> Result<(), String> {
        match who {
            TREM => {
                Running::start(&mut self.pair.trem(&self.ours()), &self.pair.file("trem.log")).wait()?;
                load.store(&self.ours).await;
                self.ours.exec("VACUUM ANALYZE").await;
            }
            NATIVE => {
                load.create_empty(&self.theirs).await;
                self.source.try_exec("CREATE PUBLICATION native FOR ALL TABLES").await?;
                let port = self.pair.source.port();
                let sql = format!(
                    "CREATE SUBSCRIPTION native CONNECTION 'port={port} dbname={SOURCE} {CONNINFO_OPTIONS}' \
                     PUBLICATION native WITH (binary = true)"
                );
                self.theirs.try_exec(&sql).await?;
                wait_ready(&self.theirs).await?;
                self.theirs.try_exec("ALTER SUBSCRIPTION native DISABLE").await?;
                self.theirs.exec("VACUUM ANALYZE").await;
            }
            RECEIVE | PEEK => {
                let slot = if who == RECEIVE { "receive" } else { "peek" };
                self.source.try_exec(&format!("CREATE PUBLICATION {slot} FOR ALL TABLES")).await?;
                let sql = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
                self.source.try_rows(&sql).await?;
            }
            _ => self.freeze_null().await?,
        }
        Ok(())
    }

    /// What a null target remembers lives in its process. So the process is there before the backlog, stopped and
    /// without its connection to the log; woken up it connects again and has everything before it.
    async fn freeze_null(&mut self) -> Result<(), String> {
        let settings = format!("{}\n[TASK.retry]\ninitial = \"1ms\"\nmax = \"2ms\"\n", self.plan.settings);
        let task = Task { settings, arguments: &[], ..self.task("null", "cdc") };
        let mut null = Running::start(&mut self.pair.trem(&task), &self.pair.file("null.log"));
        let streaming = "SELECT count(*)::text FROM pg_replication_slots s JOIN pg_stat_replication r \
                         ON r.pid = s.active_pid WHERE s.slot_name = 'trem_null' AND r.state = 'streaming'";
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.source.one(streaming).await != "1" {
            if !null.runs() || Instant::now() > deadline {
                return Err(format!("the null task does not stream: {}", null.said()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        signal(null.pid(), "STOP");
        let cut =
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = 'trem_null'";
        self.source.try_rows(cut).await?;
        self.null = Some(null);
        Ok(())
    }

    async fn make_backlog(&self, load: &Workload) -> Goal {
        let changes = load.backlog(&self.source).await;
        let lsn = self.source.one("SELECT pg_current_wal_insert_lsn()").await;
        // Something behind the goal, so that whoever waits for it gets past it.
        self.source.exec("SELECT pg_logical_emit_message(true, 'bench', '')").await;
        let digest = digest(&self.source).await;
        self.source.exec("VACUUM ANALYZE").await;
        Goal { lsn, changes: changes + 1, digest }
    }

    async fn drain(&mut self, who: &str, goal: &Goal) -> Result<Cost, String> {
        self.pair.settle().await;
        // Likewise the rows of whoever is next.
        match who {
            TREM => drop(digest(&self.ours).await),
            NATIVE => drop(digest(&self.theirs).await),
            _ => {}
        }
        match who {
            TREM => self.by_trem(goal).await,
            NATIVE => self.by_native(goal).await,
            RECEIVE => self.by_receiver(goal).await,
            PEEK => self.by_peeking(goal).await,
            _ => self.by_null(goal).await,
        }
    }

    async fn by_trem(&self, goal: &Goal) -> Result<Cost, String> {
        let plan = self.plan;
        let task = Task { profile: plan.profile.then(|| profile(self.pair)), ..self.ours() };
        let mut command = self.pair.trem(&task);
        let watch = Stopwatch::start(self.pair);
        let mut trem = Running::start(&mut command, &self.pair.file("trem.log"));
        while self.ours.try_rows(MARKER).await?.is_empty() && trem.runs() {
            tokio::time::sleep(LOOK).await;
        }
        let visible = watch.elapsed();
        let used = trem.wait()?;
        // Under perf these are perf's own.
        let whole = watch.stop(if plan.profile { Program::default() } else { used });
        let cost = Cost { wall: visible, exit: Some(whole.wall), ..whole };
        profiled(self.pair, self.name, plan);
        equal(&self.ours, goal).await?;
        Ok(cost)
    }

    async fn by_native(&self, goal: &Goal) -> Result<Cost, String> {
        let watch = Stopwatch::start(self.pair);
        self.theirs.try_exec("ALTER SUBSCRIPTION native ENABLE").await?;
        until(&self.theirs, MARKER, "seen", LOOK).await?;
        let cost = watch.stop(Program::default());
        // It must be at rest when others are measured.
        self.theirs.try_exec("ALTER SUBSCRIPTION native DISABLE").await?;
        let sql = "SELECT (active_pid IS NULL)::text FROM pg_replication_slots WHERE slot_name = 'native'";
        until(&self.source, sql, "true", Duration::from_millis(20)).await?;
        equal(&self.theirs, goal).await?;
        Ok(cost)
    }

    async fn by_receiver(&self, goal: &Goal) -> Result<Cost, String> {
        let mut command = self.pair.client("pg_recvlogical");
        command.args(["--start", "--no-loop", "-S", "receive", "-f", "-", "-h", "127.0.0.1", "-U", "postgres"]);
        command.args(["-d", SOURCE, "-p", &self.pair.source.port().to_string(), "--endpos", &goal.lsn]);
        command.args(["-o", "proto_version=1", "-o", "publication_names=receive", "-o", "binary=true"]);
        command.env("PGPASSWORD", PASSWORD);
        let watch = Stopwatch::start(self.pair);
        let used = Running::start(&mut command, &self.pair.file("receive.log")).wait()?;
        let cost = watch.stop(used);
        self.advanced("receive", goal).await?;
        Ok(cost)
    }

    async fn by_peeking(&self, goal: &Goal) -> Result<Cost, String> {
        let sql = format!("COPY ({}) TO STDOUT (FORMAT binary)", goal.peek("lsn, xid, data"));
        let watch = Stopwatch::start(self.pair);
        let used = self.pair.psql(&self.pair.source.url(SOURCE), &sql)?;
        let cost = watch.stop(used);
        self.peeked(goal).await?;
        Ok(cost)
    }

    async fn by_null(&mut self, goal: &Goal) -> Result<Cost, String> {
        let mut null = self.null.take().ok_or("the null task is not there")?;
        let before = null.used();
        let moved = format!(
            "SELECT (confirmed_flush_lsn >= '{}')::text FROM pg_replication_slots \
                             WHERE slot_name = 'trem_null'",
            goal.lsn
        );
        let watch = Stopwatch::start(self.pair);
        signal(null.pid(), "CONT");
        until(&self.source, &moved, "true", Duration::from_millis(5)).await?;
        let mut used = null.used();
        used.cpu = used.cpu.saturating_sub(before.cpu);
        let cost = watch.stop(used);
        signal(null.pid(), "TERM");
        let log = self.pair.file("null.log");
        null.wait()?;
        let said = std::fs::read_to_string(log).unwrap_or_default();
        let counted: Option<u64> =
            said.rsplit_once("changes=").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        match counted {
            Some(n) if n == goal.changes => Ok(cost),
            _ => Err(format!("{counted:?} of {} changes came: {said}", goal.changes)),
        }
    }

    /// Whether the slot hands over every change. What was measured went to nowhere, so it is asked once more.
    async fn peeked(&self, goal: &Goal) -> Result<(), String> {
        let sql = goal.peek("count(*) FILTER (WHERE get_byte(data, 0) IN (ascii('I'), ascii('U'), ascii('D')))::text");
        let (changes, wanted) = (self.source.one(&sql).await, goal.changes);
        if changes == wanted.to_string() { Ok(()) } else { Err(format!("{changes} of {wanted} changes came")) }
    }

    async fn advanced(&self, slot: &str, goal: &Goal) -> Result<(), String> {
        let sql = format!(
            "SELECT (confirmed_flush_lsn >= '{}')::text FROM pg_replication_slots WHERE slot_name = '{slot}'",
            goal.lsn
        );
        if self.source.one(&sql).await == "true" { Ok(()) } else { Err("it did not get to the end".to_owned()) }
    }
}

async fn equal(db: &Db, goal: &Goal) -> Result<(), String> {
    let got = digest(db).await;
    if got == goal.digest { Ok(()) } else { Err(format!("both sides differ: source {}, target {got}", goal.digest)) }
}
