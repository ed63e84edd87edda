//! The validated plan of a task: what the runner sees. The user's own words are parsed in `server`.

mod pattern;
mod selection;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use pattern::{Glob, NameGlob, NameRegex, Pattern};
pub use selection::{Selection, TableRule};

/// What a task does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All rows once; the task ends by itself.
    FullLoad,
    /// Changes from now on; the rows that exist are taken to be on the target.
    Cdc,
    /// All rows, then every change.
    #[default]
    FullLoadAndCdc,
}

impl Mode {
    /// Whether rows are loaded.
    pub fn loads(self) -> bool {
        self != Self::Cdc
    }

    /// Whether the log is followed.
    pub fn follows(self) -> bool {
        self != Self::FullLoad
    }
}

/// What to do with rows that a target table already has when the task first meets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExisting {
    /// Refuse the task.
    #[default]
    Refuse,
    /// Keep them; loaded rows replace those with the same key.
    Keep,
    /// Empty the table.
    Truncate,
    /// Drop the table and create it anew.
    Recreate,
}

/// What is created on the target, after the load, beside primary keys and what identifies rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterLoad {
    /// Nothing.
    #[default]
    Keys,
    /// The source's other indexes.
    Indexes,
    /// Those, and its unique, exclusion, check and foreign key constraints.
    IndexesAndConstraints,
}

/// When a change set is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Rows.
    pub max_rows: usize,
    /// Bytes of column buffers.
    pub max_bytes: usize,
    /// How long a set that is neither full nor awaited may wait for more.
    pub linger: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { max_rows: 100_000, max_bytes: 16 << 20, linger: Duration::ZERO }
    }
}

/// How the full load runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Chunks read and written at a time.
    pub workers: usize,
    /// Wanted size of a chunk in bytes of the source's storage.
    pub chunk_bytes: u64,
    /// From this size on a table is cut by key, so that an interrupted load goes on where it was.
    pub resume_above_bytes: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { workers: 4, chunk_bytes: 256 << 20, resume_above_bytes: 1 << 30 }
    }
}

/// How failures that may heal are retried: exponential backoff with full jitter, without end unless bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first pause.
    pub initial: Duration,
    /// The longest pause.
    pub max: Duration,
    /// Give up after failing for this long without any progress; `None` never.
    pub give_up_after: Option<Duration>,
    /// What has failed for so long is told as something to look at.
    pub tell_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let (initial, max) = (Duration::from_millis(200), Duration::from_secs(30));
        Self { initial, max, give_up_after: None, tell_after: Duration::from_secs(60) }
    }
}

/// A task, validated.
#[derive(Clone, Debug)]
pub struct TaskPlan {
    /// The task's name.
    pub name: String,
    /// What it does.
    pub mode: Mode,
    /// Rows that are there already.
    pub on_existing: OnExisting,
    /// The tables.
    pub selection: Selection,
    /// What is created when they are loaded.
    pub after_load: AfterLoad,
    /// When a change set is full.
    pub batch: BatchLimits,
    /// The full load.
    pub load: LoadOptions,
    /// Retries.
    pub retry: RetryPolicy,
    /// How often the source is asked for new tables.
    pub rediscover: Duration,
}
