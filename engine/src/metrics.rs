//! Every metric of a task: its name, what it means, and its value out of the task's progress.

use std::time::SystemTime;

use crate::budget::Budget;
use crate::progress::{Phase, Progress};
use crate::record::TableState;

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows, from zero at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A metric. Its name has the unit in it; that of a counter ends in `_total`.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// What it means, in a sentence.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

static TASK_STATE: Metric = gauge("trem_task_state", "1 for the state that the task is in.");
static LAG_SECONDS: Metric =
    gauge("trem_lag_seconds", "Age of the last commit of the source that is on the target; 0 if nothing is missing.");
static LAG_BYTES: Metric = gauge("trem_lag_bytes", "Bytes of the source's log that are not on the target yet.");
static RETAINED_BYTES: Metric = gauge("trem_retained_bytes", "Bytes of log that the source retains for the task.");
static RETRIES: Metric = counter("trem_retries_total", "Attempts that failed and were tried again.");
static TRANSACTIONS: Metric = counter("trem_transactions_total", "Transactions of the source applied.");
static SETS: Metric = counter("trem_change_sets_total", "Transactions of the target that applied changes.");
static BATCHES: Metric = counter("trem_batches_total", "Batches of the load and sets of the log, by station.");
static ROWS: Metric = counter("trem_rows_total", "Rows and changes that passed a station.");
static BUSY: Metric = counter("trem_busy_seconds_total", "Seconds spent at a station, summed over all at work.");
static MEMORY: Metric = gauge("trem_memory_bytes", "Bytes of the memory budget that the task holds.");
static MEMORY_LIMIT: Metric = gauge("trem_memory_limit_bytes", "Bytes of the memory budget that the task may hold.");
static TABLE_STATE: Metric = gauge("trem_table_state", "1 for the state that the table is in.");
static ROWS_LOADED: Metric = gauge("trem_table_rows_loaded", "Rows that the load has committed.");
static CHANGES: Metric = counter("trem_table_changes_total", "Changes of the table, by what became of them.");
static MISFITS: Metric =
    counter("trem_table_misfits_total", "Values that did not fit their column and were put in as others, by column.");

/// All of them.
pub static ALL: [&Metric; 16] = [
    &TASK_STATE,
    &LAG_SECONDS,
    &LAG_BYTES,
    &RETAINED_BYTES,
    &RETRIES,
    &TRANSACTIONS,
    &SETS,
    &BATCHES,
    &ROWS,
    &BUSY,
    &MEMORY,
    &MEMORY_LIMIT,
    &TABLE_STATE,
    &ROWS_LOADED,
    &CHANGES,
    &MISFITS,
];

/// A value at one moment.
#[derive(Debug)]
pub struct Sample {
    /// Of what.
    pub metric: &'static Metric,
    /// Names and values that tell it from the others of this metric; `task` is always among them.
    pub labels: Vec<(&'static str, String)>,
    /// In the unit that the name says.
    pub value: f64,
}

/// What is known of a task. A number that the source has not told is left out, not zero.
pub fn of_task(task: &str, progress: &Progress, budget: &Budget, now: SystemTime) -> Vec<Sample> {
    let mut samples = Samples { task, all: Vec::new() };
    samples.add(&TASK_STATE, &[("state", progress.phase.name())], 1.0);
    let lag = progress.lag.as_ref();
    let known = [
        (&LAG_SECONDS, progress.lag_seconds(now)),
        (&LAG_BYTES, lag.and_then(|l| l.bytes).map(|b| b as f64)),
        (&RETAINED_BYTES, lag.and_then(|l| l.retained_bytes).map(|b| b as f64)),
        (&RETRIES, Some(progress.retries as f64)),
        (&TRANSACTIONS, Some(progress.transactions as f64)),
        (&SETS, Some(progress.sets as f64)),
        (&MEMORY, Some(budget.held() as f64)),
        (&MEMORY_LIMIT, Some(budget.bytes() as f64)),
    ];
    for (metric, value) in known {
        if let Some(value) = value {
            samples.add(metric, &[], value);
        }
    }
    for (station, flow) in [("read", progress.read), ("reduced", progress.reduced), ("applied", progress.written)] {
        let at = [("station", station)];
        samples.add(&BATCHES, &at, flow.batches as f64);
        samples.add(&ROWS, &at, flow.rows as f64);
        samples.add(&BUSY, &at, flow.busy.as_secs_f64());
    }
    for (id, table) in &progress.tables {
        let id = id.to_string();
        let of = ("table", id.as_str());
        if let Some(state) = table.state.map(TableState::name) {
            samples.add(&TABLE_STATE, &[of, ("state", state)], 1.0);
        }
        samples.add(&ROWS_LOADED, &[of], table.rows_loaded as f64);
        for (outcome, count) in table.counts.by_outcome() {
            samples.add(&CHANGES, &[of, ("outcome", outcome)], count as f64);
        }
        for (column, count) in &table.misfits {
            samples.add(&MISFITS, &[of, ("column", column)], *count as f64);
        }
    }
    samples.all
}

struct Samples<'a> {
    task: &'a str,
    all: Vec<Sample>,
}

impl Samples<'_> {
    fn add(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)], value: f64) {
        let labels = [("task", self.task)].into_iter().chain(labels.iter().copied());
        self.all.push(Sample { metric, labels: labels.map(|(name, value)| (name, value.to_owned())).collect(), value });
    }
}

impl Phase {
    /// In a word, as a status has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Following => "following",
            Self::Paused => "paused",
            Self::Retrying(_) => "retrying",
            Self::Done => "done",
            Self::Failed(_) => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::ports::Lag;
    use crate::position::Position;
    use crate::progress::{Reporter, Station};
    use crate::schema::TableId;

    fn told() -> (Progress, SystemTime) {
        let (reporter, committed_at) = (Reporter::default(), SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        let lag = Lag { retained_bytes: Some(8), ..Lag::of(Position::new(9, "9"), Some(7)) };
        reporter.update(|p| (p.lag, p.committed_at) = (Some(lag), Some(committed_at)));
        reporter.passed(Station::Read, 3, Duration::from_millis(500));
        reporter.passed(Station::Read, 4, Duration::from_millis(250));
        reporter.table(&TableId::new("public", "t"), |t| {
            (t.state, t.counts.filtered, t.rows_loaded) = (Some(TableState::Ready), 5, 11);
            t.misfits.insert("size".to_owned(), 2);
        });
        (reporter.snapshot(), committed_at)
    }

    #[test]
    fn each_has_a_value_and_a_name_that_says_its_unit() {
        let (progress, now) = told();
        let samples = of_task("a", &progress, &Budget::new(1 << 20), now);
        let names = |metrics: &mut dyn Iterator<Item = &'static Metric>| metrics.map(|m| m.name).collect();
        let valued: BTreeSet<&str> = names(&mut samples.iter().map(|s| s.metric));
        let all: BTreeSet<&str> = names(&mut ALL.iter().copied());
        assert_eq!((valued, all.len()), (all.clone(), ALL.len()));
        for metric in ALL {
            assert!(metric.name.starts_with("trem_") && metric.help.ends_with('.'), "{metric:?}");
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{metric:?}");
        }
    }

    #[test]
    fn values_are_those_of_the_task() {
        let (progress, committed_at) = told();
        let samples = of_task("a", &progress, &Budget::new(1 << 20), committed_at + Duration::from_millis(1500));
        let value = |name: &str, label: (&'static str, &str)| {
            let is = |s: &&Sample| s.metric.name == name && s.labels.contains(&(label.0, label.1.to_owned()));
            samples.iter().find(is).map(|s| s.value)
        };
        let task = ("task", "a");
        assert_eq!(value("trem_lag_seconds", task), Some(1.5));
        assert_eq!(value("trem_lag_bytes", task), Some(7.0));
        assert_eq!(value("trem_rows_total", ("station", "read")), Some(7.0));
        assert_eq!(value("trem_batches_total", ("station", "read")), Some(2.0));
        assert_eq!(value("trem_busy_seconds_total", ("station", "read")), Some(0.75));
        assert_eq!(value("trem_table_changes_total", ("outcome", "filtered")), Some(5.0));
        assert_eq!(value("trem_table_rows_loaded", ("table", "public.t")), Some(11.0));
        assert_eq!(value("trem_memory_limit_bytes", task), Some(1_048_576.0));
    }

    #[test]
    fn what_nobody_has_told_is_left_out() {
        let samples = of_task("a", &Progress::default(), &Budget::new(1 << 20), SystemTime::UNIX_EPOCH);
        assert!(samples.iter().all(|s| !s.metric.name.starts_with("trem_lag")), "{samples:?}");
    }
}
