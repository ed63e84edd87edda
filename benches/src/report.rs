//! What was measured, as a table for people and as JSON for programs.

use std::time::Duration;
use std::{fs, io};

use serde_json::{Value, json};
use trem_tests::binaries::root;

use crate::stopwatch::Cost;

/// All repetitions of one step of one program.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Who was measured.
    pub who: String,
    /// Rows or changes of each repetition, and what they cost.
    pub runs: Vec<(u64, Cost)>,
    /// Of each repetition, where that is what was measured.
    pub delays: Vec<Delays>,
    /// Why there is no figure.
    pub fault: Option<String>,
}

/// What was seen of the delay between commit and visibility, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Delays {
    /// Half were faster.
    pub p50: f64,
    /// One in a hundred was slower.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Delays {
    /// Of all that were measured.
    pub fn of(mut all: Vec<f64>) -> Option<Self> {
        all.sort_by(f64::total_cmp);
        let at = |share: f64| all.get(((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1))).copied();
        Some(Self { p50: at(0.5)?, p99: at(0.99)?, max: at(1.0)? })
    }
}

/// The figures of one comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Its name, as `--only` takes it.
    pub name: String,
    /// What was done.
    pub what: String,
    /// `rows` or `changes`.
    pub unit: &'static str,
    /// One for each program.
    pub figures: Vec<Figure>,
}

/// A ratio to reach: `of` at least `least` times as fast as `to`.
#[derive(Clone, Copy, Debug)]
struct Bar {
    comparison: &'static str,
    of: &'static str,
    to: &'static str,
    least: f64,
}

/// trem as a user runs it.
pub const TREM: &str = "trem";
/// trem with the null target.
pub const NULL: &str = "trem to null";
/// A native subscription.
pub const NATIVE: &str = "native subscription";
/// pg_recvlogical to nowhere.
pub const RECEIVE: &str = "pg_recvlogical to nowhere";
/// The COPY pipe, its key built after the rows.
pub const PIPE: &str = "COPY pipe, key after";

const BARS: &[Bar] = &[
    Bar { comparison: "full-load", of: TREM, to: PIPE, least: 0.95 },
    Bar { comparison: "full-load", of: TREM, to: NATIVE, least: 1.5 },
    Bar { comparison: "drain-mix", of: TREM, to: NATIVE, least: 2.0 },
    Bar { comparison: "drain-mix", of: TREM, to: RECEIVE, least: 1.1 },
    Bar { comparison: "drain-mix", of: NULL, to: RECEIVE, least: 2.5 },
    Bar { comparison: "drain-inserts", of: TREM, to: NATIVE, least: 3.0 },
    Bar { comparison: "drain-hot", of: TREM, to: NATIVE, least: 5.0 },
];
/// Peak resident memory in all comparisons, in MiB.
const PEAK_BAR: f64 = 200.0;
/// Slowest commit in a hundred to visible at 2,000 transactions a second, relative to a native subscription.
const DELAY_BAR: f64 = 1.5;
/// Where that is measured.
const DELAY_CASE: &str = "latency-2000";
/// Processor time of trem for one change of the mix, in microseconds.
const CPU_BAR: f64 = 2.0;

/// Whether a comparison has a ratio to reach.
pub fn barred(comparison: &str) -> bool {
    comparison == DELAY_CASE || BARS.iter().any(|b| b.comparison == comparison)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

impl Figure {
    /// Nothing measured yet.
    pub fn new(who: &str) -> Self {
        Self { who: who.to_owned(), runs: Vec::new(), delays: Vec::new(), fault: None }
    }

    fn median(&self, of: impl Fn(&(u64, Cost)) -> f64) -> Option<f64> {
        if self.fault.is_some() { None } else { median(self.runs.iter().map(of).collect()) }
    }

    fn delay(&self, of: impl Fn(&Delays) -> f64) -> Option<f64> {
        if self.fault.is_some() { None } else { median(self.delays.iter().map(of).collect()) }
    }

    /// Rows or changes a second, the median.
    pub fn rate(&self) -> Option<f64> {
        self.median(|(work, cost)| *work as f64 / cost.wall.as_secs_f64())
    }

    fn micros(&self, of: impl Fn(&Cost) -> Duration) -> Option<f64> {
        self.median(|(work, cost)| of(cost).as_secs_f64() * 1e6 / (*work).max(1) as f64)
    }

    /// Of the program itself, where it is one process whose time is known.
    fn own_cpu(&self) -> Option<f64> {
        self.micros(|c| c.cpu).filter(|micros| *micros > 0.0)
    }

    fn why(&self) -> String {
        self.fault.as_deref().unwrap_or("not measured").replace(['\n', '|'], " ")
    }

    fn peak(&self) -> Option<f64> {
        let peak = self.runs.iter().map(|(_, cost)| cost.peak_kib).max()?;
        (peak > 0 && self.fault.is_none()).then_some(peak as f64 / 1024.0)
    }
}

impl Comparison {
    fn figure(&self, who: &str) -> Option<&Figure> {
        self.figures.iter().find(|f| f.who == who && f.fault.is_none())
    }

    /// How many times as fast one is as the other: the median of the rounds' own ratios, as the machine itself is
    /// faster in one round than in another.
    fn faster(&self, of: &str, to: &str) -> Option<f64> {
        self.ratio(of, to, |cost| cost.wall)
    }

    fn ratio(&self, of: &str, to: &str, taken: impl Fn(&Cost) -> Duration) -> Option<f64> {
        let (of, to) = (self.figure(of)?, self.figure(to)?);
        let rounds = of.runs.iter().zip(&to.runs);
        let rate = |work: u64, time: Duration| work as f64 / time.as_secs_f64();
        median(
            rounds.map(|((work, cost), (other, whole))| rate(*work, taken(cost)) / rate(*other, whole.wall)).collect(),
        )
    }

    /// The same with everything that comes behind the last change: what was read is acknowledged, the process ends.
    fn to_the_end(&self) -> Option<String> {
        let exit = |cost: &Cost| cost.exit.unwrap_or(cost.wall);
        let figure = self.figure(TREM).filter(|f| f.runs.iter().any(|(_, cost)| cost.exit.is_some()))?;
        let rate = figure.median(|(work, cost)| *work as f64 / exit(cost).as_secs_f64())?;
        let ratio = self.ratio(TREM, NATIVE, exit).map_or(String::new(), |r| format!(", {r:.2} x {NATIVE}"));
        Some(format!("to the end of its process {TREM} does {}/s{ratio}", thousands(rate)))
    }

    /// Likewise the slowest delay in a hundred.
    fn later(&self, of: &str, to: &str) -> Option<f64> {
        let delays = |who| Some(self.figure(who)?.delays.iter().map(|d| d.p99));
        median(delays(of)?.zip(delays(to)?).map(|(of, to)| of / to).collect())
    }

    /// As a Markdown section.
    pub fn markdown(&self) -> String {
        let table = if self.figures.iter().any(|f| !f.delays.is_empty()) { self.delays() } else { self.rates() };
        let bars: String = self.bars().iter().chain(&self.to_the_end()).map(|bar| format!("\n- {bar}")).collect();
        format!("### {}\n\n{}\n\n{table}{bars}\n", self.name, self.what)
    }

    fn delays(&self) -> String {
        let mut text =
            "| | p50 ms | p99 ms | max ms | own CPU us/row | peak MiB |\n|---|--:|--:|--:|--:|--:|\n".to_owned();
        for figure in &self.figures {
            let who = &figure.who;
            let delays = figure.delay(|d| d.p50).zip(figure.delay(|d| d.p99)).zip(figure.delay(|d| d.max));
            let Some(((p50, p99), max)) = delays else {
                text.push_str(&format!("| {who} | no figure: {} | | | | |\n", figure.why()));
                continue;
            };
            let cpu = figure.own_cpu().map_or(String::new(), |c| format!("{c:.0}"));
            let peak = figure.peak().map_or(String::new(), |p| format!("{p:.0}"));
            text.push_str(&format!("| {who} | {p50:.1} | {p99:.1} | {max:.1} | {cpu} | {peak} |\n"));
        }
        text
    }

    fn rates(&self) -> String {
        let mut text = String::new();
        let unit = self.unit.trim_end_matches('s');
        text.push_str(&format!(
            "| | {}/s | slowest to fastest | trem is | own CPU us/{unit} | source CPU | target CPU | peak MiB |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|\n",
            self.unit
        ));
        for figure in &self.figures {
            let who = &figure.who;
            let Some(rate) = figure.rate() else {
                text.push_str(&format!("| {who} | no figure: {} | | | | | | |\n", figure.why()));
                continue;
            };
            let rates = figure.runs.iter().map(|(work, cost)| *work as f64 / cost.wall.as_secs_f64());
            let slowest = rates.clone().fold(f64::INFINITY, f64::min);
            let fastest = rates.fold(0.0, f64::max);
            let ratio = self.faster(TREM, who).filter(|_| who != TREM);
            let ratio = ratio.map_or(String::new(), |r| format!("{r:.2} x"));
            let micros = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.2}"));
            text.push_str(&format!(
                "| {who} | {} | {} to {} | {ratio} | {} | {} | {} | {} |\n",
                thousands(rate),
                thousands(slowest),
                thousands(fastest),
                micros(figure.own_cpu()),
                micros(figure.micros(|c| c.source_cpu)),
                micros(figure.micros(|c| c.target_cpu)),
                figure.peak().map_or(String::new(), |p| format!("{p:.0}")),
            ));
        }
        text
    }

    fn bars(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for bar in BARS.iter().filter(|b| b.comparison == self.name) {
            if let Some(ratio) = self.faster(bar.of, bar.to) {
                let verdict = if ratio >= bar.least { "reached" } else { "MISSED" };
                let Bar { of, to, least, .. } = bar;
                lines.push(format!("{verdict}: {of} is {ratio:.2} x {to} (bar: {least})"));
            }
        }
        if let Some(ratio) = self.later(TREM, NATIVE).filter(|_| self.name == DELAY_CASE) {
            let verdict = if ratio <= DELAY_BAR { "reached" } else { "MISSED" };
            lines.push(format!("{verdict}: the p99 of {TREM} is {ratio:.2} x that of a {NATIVE} (bar: {DELAY_BAR})"));
        }
        for who in [TREM, NULL] {
            let Some(figure) = self.figures.iter().find(|f| f.who == who) else { continue };
            if let Some(peak) = figure.peak() {
                let verdict = if peak <= PEAK_BAR { "reached" } else { "MISSED" };
                lines.push(format!("{verdict}: {who} peaks at {peak:.0} MiB (bar: {PEAK_BAR})"));
            }
        }
        if let Some(figure) = self.figures.iter().find(|f| f.who == TREM && self.name == "drain-mix")
            && let Some(cpu) = figure.own_cpu()
        {
            let verdict = if cpu < CPU_BAR { "reached" } else { "MISSED" };
            lines.push(format!("{verdict}: trem's own CPU is {cpu:.2} us a change (bar: {CPU_BAR})"));
        }
        lines
    }

    fn json(&self) -> Value {
        let figures: Vec<Value> = self.figures.iter().map(figure_json).collect();
        json!({ "name": self.name, "what": self.what, "unit": self.unit, "figures": figures, "bars": self.bars() })
    }
}

fn figure_json(figure: &Figure) -> Value {
    let good = figure.fault.is_none();
    let runs = figure.runs.iter().filter(|_| good).map(|(work, cost)| {
        json!({ "work": work, "seconds": cost.wall.as_secs_f64(),
                "seconds_to_exit": cost.exit.map(|e| e.as_secs_f64()), "cpu_seconds": cost.cpu.as_secs_f64(),
                "source_cpu_seconds": cost.source_cpu.as_secs_f64(),
                "target_cpu_seconds": cost.target_cpu.as_secs_f64(), "peak_kib": cost.peak_kib })
    });
    let runs: Vec<Value> = runs.collect();
    let delays = figure.delays.iter().filter(|_| good);
    let delays: Vec<Value> = delays.map(|d| json!({ "p50_ms": d.p50, "p99_ms": d.p99, "max_ms": d.max })).collect();
    json!({ "who": figure.who, "rate": figure.rate(), "runs": runs, "delays": delays, "fault": figure.fault })
}

/// Keeps the comparisons under this name; returns their Markdown.
///
/// # Errors
/// Those of [`keep`].
pub fn write(name: &str, facts: &[(&str, String)], comparisons: &[Comparison]) -> io::Result<String> {
    let text: Vec<String> = comparisons.iter().map(Comparison::markdown).collect();
    let all: Vec<Value> = comparisons.iter().map(Comparison::json).collect();
    keep(name, facts, &text.join("\n"), json!({ "comparisons": all }))
}

/// Writes `NAME.json` and `NAME.md` among the results, the facts first; returns the Markdown.
///
/// # Errors
/// When a file cannot be written.
pub fn keep(name: &str, facts: &[(&str, String)], text: &str, mut document: Value) -> io::Result<String> {
    let list: String = facts.iter().map(|(fact, value)| format!("- {fact}: {value}\n")).collect();
    let text = format!("# {name}\n\n{list}\n{text}");
    document["facts"] = facts.iter().map(|(k, v)| ((*k).to_owned(), Value::String(v.clone()))).collect();
    let folder = root().join("benches/results");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.json")), format!("{document:#}\n"))?;
    fs::write(folder.join(format!("{name}.md")), &text)?;
    Ok(text)
}

/// 1234567 as 1,234,567.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_step_whose_check_failed_gives_no_figure() {
        let cost = Cost { wall: Duration::from_secs(2), ..Cost::default() };
        let delays = Delays { p50: 7.25, p99: 7.25, max: 7.25 };
        let mut figure = Figure::new(TREM);
        (figure.runs, figure.delays) = (vec![(246, cost)], vec![delays]);
        let compare = |figure: &Figure| Comparison {
            name: DELAY_CASE.to_owned(),
            what: String::new(),
            unit: "rows",
            figures: vec![figure.clone(), Figure { who: NATIVE.to_owned(), fault: None, ..figure.clone() }],
        };
        let good = compare(&figure);
        assert!(good.markdown().contains("| trem | 7.2 |") && good.markdown().contains("1.00 x that of"));
        assert_eq!(good.json()["figures"][0]["rate"], 123.0);
        figure.fault = Some("both sides differ".to_owned());
        let bad = compare(&figure);
        assert!(bad.markdown().contains("| trem | no figure: both sides differ |"), "{}", bad.markdown());
        assert!(!bad.markdown().contains("x that of"));
        let told = bad.json()["figures"][0].clone();
        assert_eq!((&told["rate"], &told["runs"], &told["delays"]), (&Value::Null, &json!([]), &json!([])));
    }
}
