//! What is told of endpoints, tasks and tables.

use serde::Serialize;
use serde_json::Value;
use trem_engine::Remedy;
use trem_engine::progress::{TableProgress, load_seconds_left};
use trem_engine::record::{TableRecord, TableState};
use trem_engine::schema::TableId;
use utoipa::ToSchema;

use crate::remedy::Commands;
use crate::store::{Desired, StoredEndpoint, StoredRuleSet, StoredTask};

/// An endpoint, secrets hidden.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointView {
    /// Its name.
    pub name: String,
    /// Counts its changes, from 1; also the ETag.
    pub revision: i64,
    /// When it was last changed.
    pub changed_at: String,
    /// What it is, with the keys of `[endpoints.NAME]`.
    #[schema(value_type = Object)]
    pub spec: Value,
}

impl From<StoredEndpoint> for EndpointView {
    fn from(StoredEndpoint { name, shown, revision, changed_at }: StoredEndpoint) -> Self {
        Self { name, revision, changed_at, spec: shown }
    }
}

/// A set of rules that tasks use.
#[derive(Debug, Serialize, ToSchema)]
pub struct RuleSetView {
    /// Its name.
    pub name: String,
    /// Counts its changes, from 1; also the ETag.
    pub revision: i64,
    /// When it was last changed.
    pub changed_at: String,
    /// What it is, with the keys of `[rule-sets.NAME]`.
    #[schema(value_type = Object)]
    pub spec: Value,
}

impl From<StoredRuleSet> for RuleSetView {
    fn from(StoredRuleSet { name, spec, revision, changed_at }: StoredRuleSet) -> Self {
        Self { name, revision, changed_at, spec: Value::Object(spec) }
    }
}

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskView {
    /// Its name.
    pub name: String,
    /// Counts its changes, from 1; also the ETag.
    pub revision: i64,
    /// What is wanted of it.
    pub desired: Desired,
    /// When it was first put.
    pub created_at: String,
    /// When it was last changed.
    pub changed_at: String,
    /// What it is, with the keys of `[tasks.NAME]`.
    #[schema(value_type = Object)]
    pub spec: Value,
    /// What it does now.
    pub status: TaskStatus,
}

impl TaskView {
    /// A task, and what it does.
    pub fn of(stored: StoredTask, status: TaskStatus) -> Self {
        let StoredTask { name, spec, revision, desired, created_at, changed_at } = stored;
        Self { name, revision, desired, created_at, changed_at, spec: Value::Object(spec), status }
    }
}

/// What a task does.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct TaskStatus {
    /// The task.
    pub name: String,
    /// `stopped`, `starting`, `loading`, `following`, `paused`, `retrying`, `done` or `failed`.
    pub state: String,
    /// Why it fails, or has failed.
    pub reason: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
    /// The revision that runs, or ran last; a newer one is run at the next start.
    pub revision: Option<i64>,
    /// The run that is under way, or was last in this process.
    pub run: Option<i64>,
    /// Where the target is in the source's log.
    pub position: Option<String>,
    /// Where the source's log ends.
    pub source_position: Option<String>,
    /// Age of the last commit of the source that is on the target; 0 if nothing is missing.
    pub lag_seconds: Option<f64>,
    /// Bytes of the source's log that are not on the target yet.
    pub lag_bytes: Option<u64>,
    /// Bytes of log that the source retains for the task.
    pub retained_bytes: Option<u64>,
    /// Bytes of log above which the source lets go of what it retains; none where there is no such limit.
    pub retained_limit_bytes: Option<u64>,
    /// The transactions at the source that a load waits for.
    pub waits_for: Option<String>,
    /// Rows loaded and committed.
    pub rows_loaded: u64,
    /// Rows that the load will bring, estimated.
    pub rows_estimated: u64,
    /// Seconds until the load is done, if it goes on as it has gone; none while that cannot be told.
    pub load_seconds_left: Option<f64>,
    /// Changes that have taken effect in this run.
    pub changes: u64,
    /// Transactions applied in this run.
    pub transactions: u64,
    /// Attempts that failed and were tried again in this run.
    pub retries: u64,
    /// How many tables are in each state.
    pub tables: TableNumbers,
}

/// How many tables a task has.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct TableNumbers {
    /// All.
    pub total: usize,
    /// Loaded, and followed where the task follows.
    pub ready: usize,
    /// Left out until somebody mends them.
    pub suspended: usize,
}

/// What has become of a table.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct TableStatus {
    /// `schema.table` as the source has it.
    pub name: String,
    /// Its schema at the source.
    pub schema: String,
    /// Its name at the source.
    pub table: String,
    /// `schema.table` as the target has it.
    pub target: Option<String>,
    /// `preparing`, `loading`, `ready`, `suspended` or `reload`; none while nothing is known.
    pub state: Option<String>,
    /// Rows loaded and committed.
    pub rows_loaded: u64,
    /// Rows that the load will bring, estimated.
    pub rows_estimated: u64,
    /// Bytes of the rows that have been loaded and committed since the task was started, as they are in memory.
    pub bytes_loaded: u64,
    /// Seconds until it is loaded, if it goes on as it has gone; none while that cannot be told.
    pub load_seconds_left: Option<f64>,
    /// Rows inserted since the task was started.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Times that the source emptied the table.
    pub truncates: u64,
    /// Changes of the table's shape that were followed.
    pub ddl: u64,
    /// Changes that took effect through a later one of the same row.
    pub merged: u64,
    /// Changes that a filter kept away.
    pub filtered: u64,
    /// Changes that are set aside because a rule could not be applied to them.
    pub quarantined: u64,
    /// Changes that met another row on the target than the source had.
    pub conflicts: u64,
    /// Why it is suspended.
    pub reason: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
}

impl TableStatus {
    /// From a running task.
    pub fn of_progress(task: &str, id: &TableId, table: &TableProgress) -> Self {
        Self {
            target: table.target.as_ref().map(ToString::to_string),
            state: table.state.map(|s| s.name().to_owned()),
            rows_loaded: table.rows_loaded,
            rows_estimated: table.rows_estimated.max(table.rows_read),
            bytes_loaded: table.bytes_loaded,
            load_seconds_left: load_seconds_left([table]),
            inserted: table.counts.inserted,
            updated: table.counts.updated,
            deleted: table.counts.deleted,
            truncates: table.counts.truncates,
            ddl: table.counts.ddl,
            merged: table.counts.merged,
            filtered: table.counts.filtered,
            quarantined: table.counts.quarantined,
            conflicts: table.counts.conflicts,
            reason: table.reason.clone(),
            remedy: table.remedy.as_ref().map(|r| remedy(task, r)),
            ..Self::named(id)
        }
    }

    /// From what the target remembers of one that does not run.
    pub fn of_record(task: &str, record: &TableRecord) -> Self {
        Self {
            target: Some(record.target.id.to_string()),
            state: Some(record.state.name().to_owned()),
            rows_loaded: record.rows_loaded(),
            quarantined: record.quarantined,
            conflicts: record.conflicts,
            reason: record.reason.clone().filter(|_| record.state == TableState::Suspended),
            remedy: record.remedy.as_ref().map(|r| remedy(task, r)),
            ..Self::named(record.id())
        }
    }

    fn named(id: &TableId) -> Self {
        Self { name: id.to_string(), schema: id.schema.clone(), table: id.table.clone(), ..Self::default() }
    }
}

/// What helps, as one says it who talks to the daemon.
pub fn remedy(task: &str, remedy: &Remedy) -> String {
    Commands::of_daemon(task).remedy(remedy)
}
