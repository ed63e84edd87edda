//! All rows of one table into an empty database.

use std::process::Stdio;

use trem_benches::machine;
use trem_benches::pair::{Pair, SOURCE, Task};
use trem_benches::process::{Program, Running};
use trem_benches::report::{Comparison, Figure, NATIVE, PIPE, TREM};
use trem_benches::stopwatch::{Cost, Stopwatch};
use trem_benches::workload::{Workload, digest, keyless_table};
use trem_tests::Db;

use crate::drain::{CONNINFO_OPTIONS, profile, profiled, wait_copied};
use crate::{Plan, turns};

const PIPE_KEY_FIRST: &str = "COPY pipe, key before";
const PGCOPYDB: &str = "pgcopydb clone";
/// From which size on pgcopydb copies parts of a table side by side.
const PARTS: &str = "64MB";

/// Measures all of them.
pub async fn compare(pair: &Pair, name: &str, load: &Workload, plan: &Plan) -> Comparison {
    let source = pair.source.create_database(SOURCE).await;
    load.create(&source).await;
    source.exec("CREATE PUBLICATION native FOR ALL TABLES").await;
    let wanted = digest(&source).await;
    let mut who = vec![TREM, PIPE, PIPE_KEY_FIRST, NATIVE];
    if machine::has("pgcopydb") {
        who.push(PGCOPYDB);
    }
    who.retain(|w| plan.takes(w));
    let mut figures: Vec<Figure> = who.iter().map(|w| Figure::new(w)).collect();
    // Memory that a server touches for the first time would cost the first contestant a second and more.
    let _ = step(pair, name, PIPE, load, plan, &wanted).await;
    for round in 0..plan.repetitions {
        for at in turns(round, who.len()) {
            let figure = &mut figures[at];
            if figure.fault.is_some() {
                continue;
            }
            match step(pair, name, who[at], load, plan, &wanted).await {
                Ok(cost) => figure.runs.push((load.rows, cost)),
                Err(fault) => figure.fault = Some(fault),
            }
        }
    }
    let what = format!(
        "{} rows of 8 columns, about 120 bytes each, into an empty database, with the primary key at the end. The key \
         is built after the rows by trem, pgcopydb and the first pipe, before them for the second pipe and the \
         subscription. The subscription until its copy can be seen, the others to the end of their processes; pgcopydb \
         in parts of {PARTS}, with its defaults otherwise, VACUUM ANALYZE among them.",
        load.rows
    );
    Comparison { name: name.to_owned(), what, unit: "rows", figures }
}

async fn step(pair: &Pair, name: &str, who: &str, load: &Workload, plan: &Plan, wanted: &str) -> Result<Cost, String> {
    let target = pair.fresh("reports").await;
    pair.settle().await;
    let cost = match who {
        TREM => {
            let task = Task {
                name: "bench",
                mode: "full-load",
                target: Some("reports".to_owned()),
                arguments: &[],
                settings: plan.settings.clone(),
                profile: plan.profile.then(|| profile(pair)),
            };
            let mut command = pair.trem(&task);
            let watch = Stopwatch::start(pair);
            let used = Running::start(&mut command, &pair.file("trem.log")).wait()?;
            // Under perf these are perf's own.
            let cost = watch.stop(if plan.profile { Program::default() } else { used });
            profiled(pair, name, plan);
            cost
        }
        PIPE | PIPE_KEY_FIRST => pipe(pair, &target, who == PIPE_KEY_FIRST).await?,
        NATIVE => native(pair, &target, load).await?,
        _ => pgcopydb(pair)?,
    };
    let got = digest(&target).await;
    if who == NATIVE {
        target.exec("DROP SUBSCRIPTION native").await;
    }
    // The pipe moves the one table that matters.
    let equal = got.lines().all(|l| wanted.contains(l)) && got.contains("t0:");
    if equal { Ok(cost) } else { Err(format!("both sides differ: source {wanted}, target {got}")) }
}

async fn pipe(pair: &Pair, target: &Db, key_first: bool) -> Result<Cost, String> {
    let key = "ALTER TABLE public.t0 ADD PRIMARY KEY (id)";
    target.exec(&keyless_table()).await;
    if key_first {
        target.exec(key).await;
    }
    let watch = Stopwatch::start(pair);
    let psql = |url: &str, sql: &str| {
        let mut command = pair.client("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
        command
    };
    let out = "COPY (SELECT * FROM public.t0) TO STDOUT (FORMAT binary)";
    let mut reader = psql(&pair.source.url(SOURCE), out);
    let mut reader = Running::start(reader.stdout(Stdio::piped()), &pair.file("out.log"));
    let into = "COPY public.t0 FROM STDIN (FORMAT binary)";
    let mut writer = psql(&pair.target.url("reports"), into);
    let writer = Running::start(writer.stdin(reader.take_stdout()), &pair.file("in.log"));
    let wrote = writer.wait()?;
    let read = reader.wait()?;
    if !key_first {
        pair.psql(&pair.target.url("reports"), key)?;
    }
    Ok(watch.stop(Program { cpu: read.cpu + wrote.cpu, peak_kib: read.peak_kib + wrote.peak_kib }))
}

async fn native(pair: &Pair, target: &Db, load: &Workload) -> Result<Cost, String> {
    load.create_empty(target).await;
    let connection = format!("port={} dbname={SOURCE} {CONNINFO_OPTIONS}", pair.source.port());
    let watch = Stopwatch::start(pair);
    let sql = format!("CREATE SUBSCRIPTION native CONNECTION '{connection}' PUBLICATION native WITH (binary = true)");
    target.try_exec(&sql).await?;
    wait_copied(target).await?;
    Ok(watch.stop(Program::default()))
}

fn pgcopydb(pair: &Pair) -> Result<Cost, String> {
    let folder = pair.file("pgcopydb");
    let mut command = std::process::Command::new("pgcopydb");
    command.args(["clone", "--dir"]).arg(&folder).args(["--restart", "--no-acl", "--no-owner", "--no-comments"]);
    command.args(["--split-tables-larger-than", PARTS]);
    command.arg("--source").arg(pair.source.url(SOURCE)).arg("--target").arg(pair.target.url("reports"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let watch = Stopwatch::start(pair);
    // Its work is done by processes of its own, whose time is not in its own.
    Running::start(&mut command, &pair.file("pgcopydb.log")).wait()?;
    Ok(watch.stop(Program::default()))
}
