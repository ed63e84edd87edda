//! A connection that writes: its settings, its prepared statements.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::task::Poll;

use futures::future::maybe_done;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use trem_engine::Result;

use super::encode::Raw;
use super::failure::{Failure, Tried};
use super::shape::Reads;
use crate::postgres::config::PgConfig;
use crate::postgres::sqlstate::error as pg;

/// Settings of a writing session. A statement here is one of many alike, planned once; a peer that vanished does not
/// hold its locks for hours; an index is sorted in memory where the server's own setting would go through files.
const SETTINGS: &str = "SET synchronous_commit TO on; SET plan_cache_mode TO force_generic_plan; SET jit TO off; \
    SET lock_timeout TO '30s'; SET tcp_keepalives_idle TO 30; SET tcp_keepalives_interval TO 10; \
    SET tcp_keepalives_count TO 3; SET row_security TO off; \
    SELECT set_config('maintenance_work_mem', '256MB', false) \
    WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < 256 * 1024 * 1024";

/// Begins the transaction of a set. It does not wait for the disk: `durable` tells when the target has it.
///
/// Rows are met by the index of their key: the planner, which takes pages for far away, would rather read the whole
/// table from some hundredths of its rows on, and take twice as long; and a plan made while the table was small would
/// be kept when it is large.
pub(super) const BEGIN_SET: &str = "BEGIN; SET LOCAL synchronous_commit TO off; SET LOCAL enable_hashjoin TO off; \
    SET LOCAL enable_mergejoin TO off; SET LOCAL enable_seqscan TO off";

/// Triggers and foreign keys have done their work at the source already.
const REPLICA: &str = "SET session_replication_role TO replica";

/// Keeps triggers and foreign keys out of the way of this session, outside of a transaction; false if the role may not.
pub(super) async fn become_replica(client: &Client) -> Result<bool> {
    match client.batch_execute(REPLICA).await {
        Ok(()) => Ok(true),
        Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(e) => Err(pg(e)),
    }
}

/// A statement that is likely to come again, with its parameters.
pub(super) struct Call {
    pub(super) sql: String,
    pub(super) arrays: Vec<Raw>,
    /// Whether its answer is one number, instead of the rows it touched.
    pub(super) returns: bool,
}

impl Call {
    /// A statement without parameters.
    pub(super) fn plain(sql: &str) -> Self {
        Self { sql: sql.to_owned(), arrays: Vec::new(), returns: false }
    }
}

/// A connection that writes.
pub(super) struct Session {
    pub(super) client: Client,
    /// Number of the last row put into a temporary table in this transaction.
    pub(super) last_ord: i32,
    /// Triggers and foreign keys are out of the way.
    pub(super) replica: bool,
    /// For reading tables from the catalogue.
    pub(super) reads: Reads,
    statements: HashMap<String, Statement>,
}

impl Session {
    /// Connects.
    pub(super) async fn open(config: &PgConfig, task: &str) -> Result<Self> {
        Self::over(config.connect(&format!("trem {task}")).await?).await
    }

    /// Makes a connection one that writes.
    pub(super) async fn over(client: Client) -> Result<Self> {
        client.batch_execute(SETTINGS).await.map_err(pg)?;
        let replica = become_replica(&client).await?;
        if !replica {
            // `check` has warned about what that means.
            tracing::debug!("session_replication_role stays at origin: not permitted");
        }
        Ok(Self { client, last_ord: 0, replica, reads: Reads::default(), statements: HashMap::new() })
    }

    /// The prepared form of a statement that is likely to come again.
    pub(super) async fn statement(&mut self, sql: &str) -> Tried<Statement> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Runs a statement that is likely to come again; returns the rows it touched.
    pub(super) async fn execute(&mut self, sql: &str, parameters: &[Raw]) -> Tried<u64> {
        let statement = self.statement(sql).await?;
        Ok(self.client.execute_raw(&statement, parameters.iter().map(|p| p as &(dyn ToSql + Sync))).await?)
    }

    /// As [`Session::execute`], for a statement that returns one number.
    pub(super) async fn count(&mut self, sql: &str, parameters: &[Raw]) -> Tried<u64> {
        let statement = self.statement(sql).await?;
        self.number(&statement, parameters).await
    }

    /// Runs calls in their order without waiting for each one's answer; the answers, or which call failed first.
    pub(super) async fn call_all(&mut self, calls: &[Call]) -> std::result::Result<Vec<u64>, (usize, Failure)> {
        let mut new: Vec<(usize, &str)> = Vec::new();
        for (n, call) in calls.iter().enumerate() {
            if !self.statements.contains_key(&call.sql) && !new.iter().any(|(_, sql)| *sql == call.sql) {
                new.push((n, &call.sql));
            }
        }
        let prepared = in_order(new.iter().map(|(_, sql)| self.client.prepare(sql))).await;
        for ((n, sql), statement) in new.into_iter().zip(prepared) {
            let statement = statement.map_err(|e| (n, e.into()))?;
            self.statements.insert(sql.to_owned(), statement);
        }
        let mut ready = Vec::with_capacity(calls.len());
        for (n, call) in calls.iter().enumerate() {
            ready.push((self.statement(&call.sql).await.map_err(|e| (n, e))?, call));
        }
        let answers = in_order(ready.iter().map(|(statement, call)| self.answer(statement, call))).await;
        answers.into_iter().enumerate().map(|(n, answer)| answer.map_err(|e| (n, e))).collect()
    }

    async fn answer(&self, statement: &Statement, call: &Call) -> Tried<u64> {
        if call.returns {
            return self.number(statement, &call.arrays).await;
        }
        Ok(self.client.execute_raw(statement, call.arrays.iter().map(|p| p as &(dyn ToSql + Sync))).await?)
    }

    async fn number(&self, statement: &Statement, parameters: &[Raw]) -> Tried<u64> {
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| p as _).collect();
        let row = self.client.query_one(statement, &parameters).await?;
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }

    /// Lets the planner do as it likes inside a set, where there is no index to go by; or not again.
    pub(super) async fn plan_freely(&self, allowed: bool) -> Tried<()> {
        let on = if allowed { "on" } else { "off" };
        let settings = ["hashjoin", "mergejoin", "seqscan"].map(|name| format!("SET LOCAL enable_{name} TO {on}"));
        Ok(self.client.batch_execute(&settings.join("; ")).await?)
    }

    /// Forgets the statements: a table has changed.
    pub(super) fn forget_statements(&mut self) {
        self.statements.clear();
    }
}

/// Awaits all of them. Each is polled for the first time in the order given, so that what they send goes out in it.
async fn in_order<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = futures.map(|f| Box::pin(maybe_done(f))).collect();
    poll_fn(|cx| {
        // Every one is polled each time, so nothing is cut short at the first that waits.
        let waiting = all.iter_mut().filter_map(|f| f.as_mut().poll(cx).is_pending().then_some(())).count();
        if waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    all.iter_mut().filter_map(|f| f.as_mut().take_output()).collect()
}
