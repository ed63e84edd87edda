//! What rules cost: the same backlog drained by the same task, without rules and with them, turn about. A run whose
//! target is not what the rules make of the source gives no figure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use trem_benches::machine;
use trem_benches::pair::{Pair, SOURCE, Task};
use trem_benches::process::{LOOK, Running};
use trem_benches::stopwatch::Stopwatch;
use trem_benches::workload::{Kind, Workload};
use trem_tests::Db;
use trem_tests::binaries::root;

/// What to measure.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these cases, by name, beside the one without rules.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Changes of the backlog.
    #[arg(long, default_value_t = 300_000)]
    changes: u64,
}

/// Rules, and what they make of the table.
struct Case {
    name: &'static str,
    /// In the entry of `tables`.
    filter: &'static str,
    rules: &'static [&'static str],
    /// The table on the target.
    table: &'static str,
}

const SCHEMA: &str = "action = 'rename-schema'\nto = 'dw'";
const TABLE: &str = "action = 'rename-table'\nto = 'orders'";
const NAME: &str = "action = 'rename-column'\ncolumn = 'name'\nto = 'customer_name'";
const MASK: &str = "action = 'set-value'\ncolumn = 'name'\nmask = 'hash'\nsalt = 'salt'";
const CAST: &str = "action = 'change-type'\ncolumn = 'quantity'\nto = 'int64'";

const CASES: &[Case] = &[
    Case { name: "no rules", filter: "true", rules: &[], table: "public.t0" },
    Case { name: "renames", filter: "true", rules: &[SCHEMA, TABLE, NAME], table: "dw.orders" },
    Case { name: "cast", filter: "true", rules: &[CAST], table: "public.t0" },
    Case { name: "masking", filter: "true", rules: &[MASK], table: "public.t0" },
    Case { name: "filter of 1 %", filter: "customer % 100 = 0", rules: &[], table: "public.t0" },
    Case { name: "filter of 99 %", filter: "customer % 100 <> 0", rules: &[], table: "public.t0" },
    Case { name: "usual", filter: "customer % 10 <> 0", rules: &[TABLE, NAME, MASK], table: "public.orders" },
    Case {
        name: "ten rules",
        filter: "customer % 10 <> 0",
        rules: &[
            SCHEMA,
            TABLE,
            MASK,
            CAST,
            NAME,
            "action = 'create-column'\ncolumn = 'total'\ntype = 'decimal(14,2)'\nvalue = 'price * quantity'",
            "action = 'create-column'\ncolumn = 'day'\ntype = 'date'\nvalue = 'CAST(changed AS date)'",
            "action = 'set-value'\ncolumn = 'note'\nvalue = 'upper(note)'",
            "action = 'create-column'\ncolumn = 'changed_by'\ntype = 'text'\nvalue = 'operation()'",
            "action = 'drop-column'\ncolumn = 'active'",
        ],
        table: "dw.orders",
    },
];

impl Case {
    fn settings(&self) -> String {
        let rule = |keys: &&str| format!("[[TASK.rules]]\nmatch = ['public.t0', 'dw.t0', '*.orders']\n{keys}\n");
        let rules: String = self.rules.iter().map(rule).collect();
        match self.filter {
            "true" => rules,
            filter => format!("{rules}[[TASK.tables]]\ninclude = 'public.t0'\nfilter = \"{filter}\"\n"),
        }
    }

    fn task(&self, at: usize) -> Task {
        // Names that last: a task's slot is named by it.
        const NAMES: [&str; 8] = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"];
        Task {
            name: NAMES[at],
            mode: "full-load-and-cdc",
            target: Some(NAMES[at].to_owned()),
            arguments: &["--until-current"],
            settings: self.settings(),
            profile: None,
        }
    }
}

/// Seconds until the last change is on the target.
async fn drain(pair: &Pair, task: &Task, target: &Db) -> Result<Duration, String> {
    pair.settle().await;
    let mut command = pair.trem(task);
    let watch = Stopwatch::start(pair);
    let mut trem = Running::start(&mut command, &pair.file("trem.log"));
    while target.try_rows("SELECT FROM public.marker").await?.is_empty() && trem.runs() {
        tokio::time::sleep(LOOK).await;
    }
    let visible = watch.elapsed();
    trem.wait()?;
    Ok(visible)
}

async fn round(trem: &Path, arguments: &Arguments, cases: &[(usize, &Case)], round: usize, times: &mut [Vec<f64>]) {
    let pair = Pair::start(trem, &[]);
    let changes = arguments.changes;
    let load = Workload { kind: Kind::Mix, tables: 1, rows: 200_000, changes, wide: 0, toasted: false };
    let source = pair.source.create_database(SOURCE).await;
    load.create(&source).await;
    let mut targets = Vec::new();
    for (at, case) in cases {
        let target = pair.fresh(case.task(*at).target.as_deref().unwrap()).await;
        Running::start(&mut pair.trem(&case.task(*at)), &pair.file("load.log")).wait().expect("the load");
        target.exec("VACUUM ANALYZE").await;
        targets.push(target);
    }
    load.backlog(&source).await;
    for turn in 0..cases.len() {
        let which = (round + if round.is_multiple_of(2) { turn } else { cases.len() - turn }) % cases.len();
        let (at, case) = cases[which];
        let took = drain(&pair, &case.task(at), &targets[which]).await.expect(case.name);
        let wanted = source.one(&format!("SELECT count(*) FROM t0 WHERE {}", case.filter)).await;
        let found = targets[which].one(&format!("SELECT count(*) FROM {}", case.table)).await;
        assert_eq!(found, wanted, "{}", case.name);
        times[which].push(took.as_secs_f64());
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let trem = machine::trem();
    let wanted = |case: &Case| arguments.only.is_empty() || arguments.only.iter().any(|only| only == case.name);
    let cases: Vec<(usize, &Case)> = CASES.iter().enumerate().filter(|(at, case)| *at == 0 || wanted(case)).collect();
    let mut times = vec![Vec::new(); cases.len()];
    for number in 0..arguments.rounds {
        round(&trem, &arguments, &cases, number, &mut times).await;
    }
    let mut out = String::from("# What rules cost\n\nThe same backlog drained by the same task, turn about.\n\n");
    for (fact, value) in machine::facts() {
        out.push_str(&format!("- {fact}: {value}\n"));
    }
    out.push_str(&format!("- rounds: {}, changes: {}; medians\n\n", arguments.rounds, arguments.changes));
    out.push_str("| rules | changes a second | time relative to none |\n|---|---|---|\n");
    for (at, (_, case)) in cases.iter().enumerate() {
        let relative: Vec<f64> = times[at].iter().zip(&times[0]).map(|(with, without)| with / without).collect();
        let rate = arguments.changes as f64 / median(&times[at]);
        out.push_str(&format!("| {} | {rate:.0} | {:.2} |\n", case.name, median(&relative)));
    }
    println!("{out}");
    if arguments.only.is_empty() {
        std::fs::write(root().join("benches/results/rules.md"), out).expect("the results are written");
    }
}
