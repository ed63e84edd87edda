//! trem against what a user would pick instead: on the same servers, in one run, turn about. A step whose check
//! fails gives no figure: after it both sides must be equal; of what reads to nowhere every change must have come, of
//! pg_recvlogical its position must have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod drain;
mod full_load;
mod latency;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use trem_benches::machine;
use trem_benches::pair::{Pair, SETTINGS};
use trem_benches::report::{self, Comparison};
use trem_benches::workload::{Kind, Workload};

/// What to measure.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these comparisons, by name; a `*` at the end stands for anything.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these programs, by the start of their names: trem, native, pg_recvlogical, COPY, pgcopydb, SQL.
    #[arg(long, value_delimiter = ',')]
    with: Vec<String>,
    /// Sizes relative to the default ones.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// How often each step is measured; where there is no mark to reach, three times at the most.
    #[arg(long, default_value_t = REPETITIONS)]
    repetitions: usize,
    /// Settings for trem's task, as TOML lines, the task's own first and `TASK` for its table:
    /// "memory = '64MiB'\n[TASK.batch]\nmax-rows = 1000".
    #[arg(long, default_value = "")]
    settings: String,
    /// Write a profile of trem in each comparison beside the results (needs perf; the figures are then slower).
    #[arg(long)]
    profile: bool,
    /// Name of the files below benches/results; `side-by-side` if everything is measured as usual, else `partial`.
    #[arg(long)]
    name: Option<String>,
    /// List the comparisons.
    #[arg(long)]
    list: bool,
}

impl Arguments {
    /// A part, or something else than the defaults, must not be taken for the record.
    fn name(&self) -> &str {
        let part = !(self.only.is_empty() && self.with.is_empty() && self.settings.is_empty()) || self.profile;
        let usual = !part && self.repetitions == REPETITIONS && (self.scale - 1.0).abs() < f64::EPSILON;
        self.name.as_deref().unwrap_or(if usual { "side-by-side" } else { "partial" })
    }

    /// How it is measured, for whoever reads the results.
    fn facts(&self, cases: &[&Case]) -> Vec<(&'static str, String)> {
        let most = cases.iter().map(|c| c.repetitions(self.repetitions)).max().unwrap_or_default();
        let least = cases.iter().map(|c| c.repetitions(self.repetitions)).min().unwrap_or_default();
        let rounds =
            if most == least { most.to_string() } else { format!("{most}, or {least} where there is no mark") };
        let mut facts = vec![
            ("repetitions, turn about", format!("{rounds}; rates are medians, ratios medians of each round's own")),
            ("scale", self.scale.to_string()),
            (
                "settings of trem",
                if self.settings.is_empty() { "the defaults" } else { &self.settings }.replace('\n', " "),
            ),
        ];
        if !self.with.is_empty() {
            facts.push(("only measured", self.with.join(", ")));
        }
        if self.profile {
            facts.push(("profiled", "trem, which is slower so".to_owned()));
        }
        facts
    }
}

/// How to measure.
#[derive(Clone, Debug)]
struct Plan {
    with: Vec<String>,
    repetitions: usize,
    settings: String,
    profile: bool,
}

impl Plan {
    fn takes(&self, who: &str) -> bool {
        self.with.is_empty() || self.with.iter().any(|w| who == w || (who.starts_with(w.as_str()) && w != "trem"))
    }
}

/// How often a step is measured that has a mark to reach, and one that has none.
const REPETITIONS: usize = 5;
const USUAL_REPETITIONS: usize = 3;

/// Who is measured when, in this round: each begins once, and each second round goes the other way about, so that
/// nobody always follows the same one.
fn turns(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (round + if round.is_multiple_of(2) { turn } else { count - turn }) % count)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    FullLoad,
    Drain,
    Latency { per_second: u32 },
}

#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    step: Step,
    load: Workload,
    alone: bool,
    named: bool,
    /// Settings of both servers that differ from the others'.
    settings: &'static [&'static str],
}

const fn case(name: &'static str, step: Step, kind: Kind, rows: u64, changes: u64) -> Case {
    let load = Workload { kind, tables: 1, rows, changes, wide: 0, toasted: false };
    Case { name, step, load, alone: false, named: false, settings: &[] }
}

const CASES: &[Case] = &[
    case("full-load", Step::FullLoad, Kind::Inserts, 2_000_000, 0),
    case("drain-mix", Step::Drain, Kind::Mix, 300_000, 600_000),
    case("drain-mix-large", Step::Drain, Kind::Mix, 2_000_000, 600_000).settings(&["shared_buffers=512MB"]),
    case("drain-inserts", Step::Drain, Kind::Inserts, 1_000, 600_000),
    case("drain-hot", Step::Drain, Kind::Hot, 300_000, 600_000),
    case("drain-updates", Step::Drain, Kind::Updates, 300_000, 600_000),
    case("drain-deletes", Step::Drain, Kind::Deletes, 2_000_000, 600_000),
    case("drain-one-transaction", Step::Drain, Kind::One, 1_000, 2_000_000),
    case("drain-wide", Step::Drain, Kind::Mix, 30_000, 100_000).wide(1900, false),
    case("drain-toasted", Step::Drain, Kind::Updates, 2_000, 200_000).wide(100_000, true),
    case("drain-100-tables", Step::Drain, Kind::Mix, 3_000, 600_000).tables(100),
    case("latency-200", Step::Latency { per_second: 200 }, Kind::Inserts, 1_000, 0),
    case("latency-2000", Step::Latency { per_second: 2_000 }, Kind::Inserts, 1_000, 0),
    case("growth-backlog-100k", Step::Drain, Kind::Mix, 100_000, 100_000).grows(),
    case("growth-backlog-1m", Step::Drain, Kind::Mix, 100_000, 1_000_000).grows(),
    case("growth-backlog-10m", Step::Drain, Kind::Mix, 100_000, 10_000_000).grows().only_by_name(),
    case("growth-tables-1", Step::Drain, Kind::Mix, 100_000, 300_000).grows(),
    case("growth-tables-100", Step::Drain, Kind::Mix, 1_000, 300_000).tables(100).grows(),
    case("growth-tables-1000", Step::Drain, Kind::Mix, 100, 300_000).tables(1_000).grows(),
    case("growth-row-50b", Step::Drain, Kind::Inserts, 1_000, 300_000).wide(1, false).grows(),
    case("growth-row-1k", Step::Drain, Kind::Inserts, 1_000, 200_000).wide(1_000, false).grows(),
    case("growth-row-10k", Step::Drain, Kind::Inserts, 1_000, 30_000).wide(10_000, true).grows(),
    case("growth-row-100k", Step::Drain, Kind::Inserts, 1_000, 3_000).wide(100_000, true).grows(),
];

impl Case {
    const fn wide(mut self, bytes: u32, toasted: bool) -> Self {
        (self.load.wide, self.load.toasted) = (bytes, toasted);
        self
    }

    const fn tables(mut self, tables: u32) -> Self {
        self.load.tables = tables;
        self
    }

    const fn settings(mut self, settings: &'static [&'static str]) -> Self {
        self.settings = settings;
        self
    }

    /// How the cost of trem and of nobody else grows.
    const fn grows(mut self) -> Self {
        self.alone = true;
        self
    }

    fn repetitions(&self, wanted: usize) -> usize {
        if report::barred(self.name) { wanted } else { wanted.min(USUAL_REPETITIONS) }
    }

    /// Too long for an ordinary run.
    const fn only_by_name(mut self) -> Self {
        self.named = true;
        self
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut told = signal(SignalKind::terminate()).expect("a signal handler");
    // Told to end, it returns from here, so that the servers are ended and their folders removed.
    tokio::select! {
        measured = measure(Arguments::parse()) => measured,
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = told.recv() => Ok(()),
    }
}

async fn measure(arguments: Arguments) -> std::io::Result<()> {
    let wanted = |case: &&Case| {
        let matches = |o: &String| o.strip_suffix('*').map_or(o == case.name, |start| case.name.starts_with(start));
        (arguments.only.is_empty() && !case.named) || arguments.only.iter().any(matches)
    };
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    assert!(!cases.is_empty(), "no comparison is called {:?}: --list shows all", arguments.only);
    if arguments.list {
        cases.iter().for_each(|c| println!("{}", c.name));
        return Ok(());
    }
    let trem = machine::trem();
    let mut facts = machine::facts();
    facts.push(("settings of both servers", SETTINGS.join(", ")));
    facts.extend(arguments.facts(&cases));
    let plan = Plan {
        with: arguments.with.clone(),
        repetitions: arguments.repetitions,
        settings: arguments.settings.replace("\\n", "\n"),
        profile: arguments.profile,
    };
    let mut done: Vec<Comparison> = Vec::new();
    for case in cases {
        let scaled = |n: u64| (n as f64 * arguments.scale) as u64;
        let load = Workload { rows: scaled(case.load.rows), changes: scaled(case.load.changes), ..case.load };
        let mut plan = Plan { repetitions: case.repetitions(plan.repetitions), ..plan.clone() };
        if case.alone && plan.with.is_empty() {
            plan.with.push(report::TREM.to_owned());
        }
        let comparison = match case.step {
            Step::FullLoad => full_load::compare(&Pair::start(&trem, case.settings), case.name, &load, &plan).await,
            Step::Drain => drain::compare(|| Pair::start(&trem, case.settings), case.name, &load, &plan).await,
            Step::Latency { per_second } => {
                latency::compare(&Pair::start(&trem, case.settings), case.name, &load, per_second, &plan).await
            }
        };
        println!("{}", comparison.markdown());
        done.push(comparison);
        // Written after each, so that an interrupted run leaves what it has.
        report::write(arguments.name(), &facts, &done)?;
    }
    println!("written to benches/results/{}.md and .json", arguments.name());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_measured_once_a_round_and_nobody_always_behind_the_same_one() {
        for count in 1..6 {
            for round in 0..count * 2 {
                let order: Vec<usize> = turns(round, count).collect();
                assert!((0..count).all(|who| order.contains(&who)) && order.len() == count, "{order:?}");
                assert_eq!(order[0], round % count);
            }
        }
        let behind = |round| turns(round, 5).collect::<Vec<_>>().windows(2).find(|p| p[1] == 3).map(|p| p[0]);
        assert_eq!((behind(0), behind(1)), (Some(2), Some(4)));
    }
}
