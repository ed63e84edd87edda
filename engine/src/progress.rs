//! What a running task has done so far: shared between the runner, which writes, and whoever shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::change::TableCounts;
use crate::error::{Class, Error, Result};
use crate::ports::Lag;
use crate::position::Position;
use crate::record::TableState;
use crate::remedy::Remedy;
use crate::schema::TableId;

/// What the task is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Connecting, discovering, preparing.
    #[default]
    Starting,
    /// Loading tables.
    Loading,
    /// Following the log.
    Following,
    /// Told to move no rows for a while.
    Paused,
    /// Waiting before the next attempt.
    Retrying(Trouble),
    /// Ended.
    Done,
    /// Stopped on an error.
    Failed(Trouble),
}

/// An error, as it can be shown for as long as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What may be done about it.
    pub class: Class,
    /// The table it is about.
    pub table: Option<TableId>,
    /// What happened.
    pub reason: String,
    /// What the operator should do.
    pub remedy: Option<Remedy>,
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        let (table, remedy) = (error.table_id().cloned(), error.advice().cloned());
        Self { class: error.class(), table, reason: error.reason(), remedy }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(table) = &self.table {
            write!(f, "{table}: ")?;
        }
        f.write_str(&self.reason)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, " (remedy: {remedy})"))
    }
}

/// A station that rows pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Station {
    /// Read at the source, by the load or from the log.
    Read,
    /// Mapped and brought to what they amount to on the target.
    Reduced,
    /// Written to the target.
    Applied,
}

/// What has passed a station.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Batches of the load and sets of the log.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Time spent on them; several may be under way at a time.
    pub busy: Duration,
}

/// One table, by its name at the source.
#[derive(Clone, Debug, Default)]
pub struct TableProgress {
    /// Its name on the target, once known.
    pub target: Option<TableId>,
    /// The state, once known.
    pub state: Option<TableState>,
    /// Rows that the load will bring, estimated.
    pub rows_estimated: u64,
    /// Rows loaded and committed.
    pub rows_loaded: u64,
    /// Rows read by the load so far, committed or not.
    pub rows_read: u64,
    /// Bytes of the rows that have been loaded and committed since the task was started, as they are in memory.
    pub bytes_loaded: u64,
    /// When its load began, and how many rows had been read before.
    pub load_began: Option<(Instant, u64)>,
    /// Changes applied.
    pub counts: TableCounts,
    /// Values that did not fit their column and were put in as others, by the target's column.
    pub misfits: BTreeMap<String, u64>,
    /// Why it is suspended.
    pub reason: Option<String>,
    /// What the operator should do about it.
    pub remedy: Option<Remedy>,
}

/// Seconds until these tables are loaded, if it goes on as it has gone; `None` while that cannot be told.
pub fn load_seconds_left<'t>(tables: impl IntoIterator<Item = &'t TableProgress>) -> Option<f64> {
    let (mut left, mut read, mut began) = (0, 0, None);
    for table in tables.into_iter().filter(|t| t.state == Some(TableState::Loading)) {
        left += table.rows_estimated.saturating_sub(table.rows_read);
        if let Some((at, before)) = table.load_began {
            read += table.rows_read.saturating_sub(before);
            began = began.into_iter().chain([at]).min();
        }
    }
    let rate = read as f64 / began?.elapsed().as_secs_f64();
    (left > 0 && rate > 0.0).then(|| left as f64 / rate)
}

/// A task at one moment.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// The tables.
    pub tables: BTreeMap<TableId, TableProgress>,
    /// Where the target is.
    pub applied: Option<Position>,
    /// What the source has been told.
    pub acknowledged: Option<Position>,
    /// When the last applied transaction committed at the source.
    pub committed_at: Option<SystemTime>,
    /// Transactions applied.
    pub transactions: u64,
    /// Change sets applied.
    pub sets: u64,
    /// Attempts that failed and were retried.
    pub retries: u64,
    /// How far it is behind, as the source said last.
    pub lag: Option<Lag>,
    /// What has been read.
    pub read: Flow,
    /// What has been reduced.
    pub reduced: Flow,
    /// What has been written.
    pub written: Flow,
}

/// A handle on the progress of one task; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reporter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<Progress>,
    /// Counts changes of what the task and its tables are doing.
    changes: watch::Sender<u64>,
}

impl Reporter {
    /// A copy of the whole.
    pub fn snapshot(&self) -> Progress {
        self.lock().clone()
    }

    /// Changes the whole.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.lock();
        let before = progress.phase.clone();
        change(&mut progress);
        if progress.phase != before {
            self.tell();
        }
    }

    /// The task runs no more.
    pub fn ended(&self, how: &Result<()>) {
        self.update(|p| {
            p.phase = match how {
                Ok(()) => Phase::Done,
                Err(error) => Phase::Failed(Trouble::from(error)),
            }
        });
    }

    /// Changes one table.
    pub fn table(&self, id: &TableId, change: impl FnOnce(&mut TableProgress)) {
        let mut progress = self.lock();
        let table = progress.tables.entry(id.clone()).or_default();
        let before = table.state;
        change(table);
        if table.state != before {
            self.tell();
        }
    }

    /// Changes whenever the task's phase or a table's state does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Has whoever waits for [`Reporter::changes`] look again.
    pub fn tell(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// A batch or a set has passed a station.
    pub fn passed(&self, station: Station, rows: usize, busy: Duration) {
        let mut progress = self.lock();
        let flow = match station {
            Station::Read => &mut progress.read,
            Station::Reduced => &mut progress.reduced,
            Station::Applied => &mut progress.written,
        };
        flow.batches += 1;
        flow.rows += rows as u64;
        flow.busy += busy;
    }

    /// Adds what became of changes.
    pub fn add(&self, counts: &[(TableId, TableCounts)]) {
        let mut progress = self.lock();
        for (id, counts) in counts {
            progress.tables.entry(id.clone()).or_default().counts.add(counts);
        }
    }

    /// Adds values that did not fit, by table and column. The first of a column is told.
    pub fn misfits(&self, misfits: &[(TableId, String, u64)]) {
        let mut progress = self.lock();
        for (table, column, count) in misfits {
            let of_table = &mut progress.tables.entry(table.clone()).or_default().misfits;
            if !of_table.contains_key(column) {
                tracing::warn!(%table, column, "values do not fit, and others are put in: see the rules");
            }
            *of_table.entry(column.clone()).or_default() += count;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // A panic while holding it leaves counters at worst one update behind.
        self.0.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress {
    /// Seconds that the target is behind the source: the age of the last commit applied, unless nothing is missing;
    /// `None` while that is not known.
    pub fn lag_seconds(&self, now: SystemTime) -> Option<f64> {
        self.lag.as_ref()?.seconds(self.committed_at, now)
    }

    /// Rows loaded and committed, over all tables.
    pub fn rows_loaded(&self) -> u64 {
        self.tables.values().map(|t| t.rows_loaded).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_load_is_told_by_what_this_run_has_read() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("a machine that has run");
        let table = |estimated, read, began| TableProgress {
            state: Some(TableState::Loading),
            rows_estimated: estimated,
            rows_read: read,
            load_began: began,
            ..TableProgress::default()
        };
        let near = |left: Option<f64>, seconds: f64| left.is_some_and(|left| (left - seconds).abs() < seconds / 10.0);
        let (half, waits) = (table(400, 300, Some((ago(10), 200))), table(100, 0, None));
        assert!(near(load_seconds_left([&half]), 10.0), "100 rows in 10 s, and 100 to come");
        assert!(near(load_seconds_left([&half, &waits]), 20.0));
        assert_eq!((load_seconds_left([&waits]), load_seconds_left([])), (None, None));
        let ready = TableProgress { state: Some(TableState::Ready), ..half.clone() };
        assert_eq!(load_seconds_left([&ready]), None);
        assert_eq!(load_seconds_left([&table(100, 150, Some((ago(10), 0)))]), None, "more than was estimated");
    }

    #[test]
    fn lag_is_the_age_of_the_last_commit_unless_nothing_is_missing() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let at = |ms: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        let seconds =
            |bytes: Option<u64>, committed_at| Lag::of(Position::new(1, "1"), bytes).seconds(committed_at, now);
        assert_eq!(seconds(Some(0), at(1000)), Some(0.0));
        assert_eq!(seconds(Some(9), at(98_750)), Some(1.25));
        assert_eq!(seconds(Some(9), at(101_000)), Some(0.0));
        assert_eq!((seconds(Some(9), None), seconds(None, at(1000))), (None, None));
    }
}
