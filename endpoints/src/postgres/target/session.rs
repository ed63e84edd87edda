//! A connection that writes: its settings, its prepared statements.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures::future::{BoxFuture, MaybeDone, maybe_done};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};
use trem_engine::Result;

use super::encode::Raw;
use super::failure::{Failure, Tried};
use super::shape::Reads;
use super::statements::Statements;
use crate::postgres::config::PgConfig;
use crate::postgres::sqlstate::error as pg;

/// Settings of a writing session. A statement here is one of many alike, planned once; a peer that vanished does not
/// hold its locks for hours; an index is sorted in memory where the server's own setting would go through files.
const SETTINGS: &str = "SET synchronous_commit TO on; SET plan_cache_mode TO force_generic_plan; SET jit TO off; \
    SET lock_timeout TO '30s'; SET tcp_keepalives_idle TO 30; SET tcp_keepalives_interval TO 10; \
    SET tcp_keepalives_count TO 3; SET row_security TO off; \
    SELECT set_config('maintenance_work_mem', '256MB', false) \
    WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < 256 * 1024 * 1024; SELECT pg_backend_pid()";

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
    pub(super) client: Arc<Client>,
    /// The server's process.
    pub(super) pid: i32,
    /// Number of the last row put into a temporary table in this transaction.
    pub(super) last_ord: i32,
    /// Triggers and foreign keys are out of the way.
    pub(super) replica: bool,
    /// For reading tables from the catalogue.
    pub(super) reads: Reads,
    statements: Statements,
}

impl Session {
    /// Connects.
    pub(super) async fn open(config: &PgConfig, task: &str) -> Result<Self> {
        Self::over(config.connect(&format!("trem {task}")).await?).await
    }

    /// Makes a connection one that writes.
    pub(super) async fn over(client: Client) -> Result<Self> {
        let answers = client.simple_query(SETTINGS).await.map_err(pg)?;
        let pid = answers.iter().rev().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        let replica = become_replica(&client).await?;
        if !replica {
            // `check` has warned about what that means.
            tracing::debug!("session_replication_role stays at origin: not permitted");
        }
        Ok(Self {
            client: Arc::new(client),
            pid: pid.unwrap_or_default(),
            last_ord: 0,
            replica,
            reads: Reads::default(),
            statements: Statements::default(),
        })
    }

    /// The prepared form of a statement that is likely to come again.
    pub(super) async fn statement(&mut self, sql: &str) -> Tried<Statement> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.put(sql, &statement);
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
        number(&self.client, &statement, parameters).await
    }

    /// Asks for the statements of these calls, as far as they are not known.
    pub(super) fn prepare_all(&mut self, calls: &[Call]) -> Pending<Prepared> {
        let one = |call: &Call| -> BoxFuture<'static, Prepared> {
            if let Some(known) = self.statements.get(&call.sql) {
                return Box::pin(std::future::ready(Ok(known)));
            }
            let (client, sql) = (Arc::clone(&self.client), call.sql.clone());
            Box::pin(async move { Ok(client.prepare(&sql).await?) })
        };
        Pending::of(calls.iter().map(one))
    }

    /// Sends calls in their order as soon as their statements are there; or tells for which call there is none.
    pub(super) async fn call_prepared(
        &mut self,
        statements: Pending<Prepared>,
        calls: Vec<Call>,
    ) -> std::result::Result<Pending<Tried<u64>>, (usize, Failure)> {
        let mut all = Vec::with_capacity(calls.len());
        for (call, statement) in calls.into_iter().zip(statements.all().await) {
            let statement = statement.map_err(|failure| (all.len(), failure))?;
            self.statements.put(&call.sql, &statement);
            all.push(answer(Arc::clone(&self.client), statement, call));
        }
        Ok(Pending::of(all.into_iter()))
    }

    /// Lets the planner do as it likes inside a set, where there is no index to go by; or not again.
    pub(super) async fn plan_freely(&self, allowed: bool) -> Tried<()> {
        let on = if allowed { "on" } else { "off" };
        let settings = ["hashjoin", "mergejoin", "seqscan"].map(|name| format!("SET LOCAL enable_{name} TO {on}"));
        Ok(self.client.batch_execute(&settings.join("; ")).await?)
    }

    /// A transaction has ended.
    pub(super) fn transaction_ended(&mut self) {
        self.last_ord = 0;
        self.statements.transaction_ended();
    }

    /// Forgets the statements: a table has changed.
    pub(super) fn forget_statements(&mut self) {
        self.statements.clear();
    }
}

/// A statement that may be run.
pub(super) type Prepared = Tried<Statement>;

/// Requests that have been sent, in their order.
pub(super) struct Pending<T>(Vec<MaybeDone<BoxFuture<'static, T>>>);

impl<T> Pending<T> {
    /// A request is sent when it is polled for the first time.
    fn of(requests: impl Iterator<Item = BoxFuture<'static, T>>) -> Self {
        let mut nobody = Context::from_waker(Waker::noop());
        let send = |request| {
            let mut sent = maybe_done(request);
            // Who awaits it polls again.
            let _ = Pin::new(&mut sent).poll(&mut nobody);
            sent
        };
        Self(requests.map(send).collect())
    }

    /// What has come of each.
    pub(super) async fn all(self) -> Vec<T> {
        let mut all = Vec::with_capacity(self.0.len());
        for mut sent in self.0 {
            (&mut sent).await;
            all.extend(Pin::new(&mut sent).take_output());
        }
        all
    }
}

fn answer(client: Arc<Client>, statement: Statement, call: Call) -> BoxFuture<'static, Tried<u64>> {
    Box::pin(async move {
        if call.returns {
            return number(&client, &statement, &call.arrays).await;
        }
        Ok(client.execute_raw(&statement, call.arrays.iter().map(|p| p as &(dyn ToSql + Sync))).await?)
    })
}

async fn number(client: &Client, statement: &Statement, parameters: &[Raw]) -> Tried<u64> {
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|p| p as _).collect();
    let row = client.query_one(statement, &parameters).await?;
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
}
