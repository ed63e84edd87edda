//! PostgreSQL as a target: the cheapest statement that is right, and everything that must hold together in one
//! transaction.

#[cfg(feature = "bench")]
pub mod bench;
mod bookkeeping;
mod copy;
mod create;
mod encode;
mod failure;
mod fit;
mod format1;
mod generated;
mod inspect;
mod interference;
mod keyed;
mod keyless;
mod lane;
mod literal;
mod loader;
mod look;
mod mend;
mod misfits;
mod named;
mod part;
mod pipelined;
mod prepare;
mod secondary;
mod session;
mod shape;
mod statements;
mod tables;
mod wanted;
mod watched;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_postgres::Client;
use trem_engine::change::ChangeBatch;
use trem_engine::ports::{Finding, Loader, Mend, Severity, TablePreview, Target, TargetLane};
use trem_engine::position::Position;
use trem_engine::quarantine::QuarantineEntry;
use trem_engine::record::{Epoch, TaskRecord};
use trem_engine::schema::{Catalog, TableId};
use trem_engine::task::OnExisting;
use trem_engine::{Error, Remedy, Result};

pub(super) use literal::literal;
use watched::Watched;

use super::config::PgConfig;
use super::connect::database_identity;
use super::sqlstate::{self, error as pg};
use super::{quote, reach};
use crate::target::stored;

/// A PostgreSQL database that one task writes to.
pub struct PostgresTarget {
    config: PgConfig,
    task: String,
    /// A connection that has been asked something and is free again: the lane's, when it opens.
    idle: Mutex<Option<Client>>,
    /// It has taken a write since this process began.
    written: AtomicBool,
}

impl PostgresTarget {
    /// The target of `task` at `config`; nothing is connected yet.
    pub fn new(config: PgConfig, task: &str) -> Self {
        Self { config, task: task.to_owned(), idle: Mutex::new(None), written: AtomicBool::new(false) }
    }

    /// A server that took writes before may be about to be promoted; one that never did is most likely the wrong one.
    fn no_writes(&self, error: Error) -> Error {
        let read_only = sqlstate::code(&error) == Some("25006");
        if read_only && !self.written.load(Ordering::Relaxed) { error.refuse() } else { error }
    }

    fn application(&self) -> String {
        format!("trem {}", self.task)
    }

    async fn connect(&self) -> Result<Client> {
        let idle = self.idle.lock().await.take().filter(|client| !client.is_closed());
        match idle {
            Some(client) => Ok(client),
            None => self.config.connect(&self.application()).await,
        }
    }

    /// Asks over a connection, and keeps it for the next question if that went well.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&Client) -> Result<T>) -> Result<T> {
        let client = self.connect().await?;
        let answer = question(&client).await?;
        *self.idle.lock().await = Some(client);
        Ok(answer)
    }
}

impl std::fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresTarget").field("config", &self.config).field("task", &self.task).finish_non_exhaustive()
    }
}

#[async_trait]
impl Target for PostgresTarget {
    async fn identity(&self) -> Result<String> {
        self.ask(async |client| database_identity(client).await).await
    }

    async fn check(&self, loaders: usize) -> Result<Vec<Finding>> {
        let (application, loaders) = (self.application(), loaders as i64);
        let mut findings = self.ask(check).await?;
        // Lanes of the stream and of tables that are taken up beside it, and one for questions.
        let room = self.ask(async |client| reach::room(client, &application, loaders + 3, loaders).await);
        findings.extend(room.await?);
        if findings.iter().all(|f| f.severity != Severity::Error) {
            findings.extend(reach::sessions(&self.config, &application, "target connections").await?);
        }
        Ok(findings)
    }

    async fn plan(
        &self,
        catalog: &Catalog,
        known: &TaskRecord,
        on_existing: OnExisting,
        load: bool,
    ) -> Result<Vec<TablePreview>> {
        self.ask(async |client| {
            let task = bookkeeping::format(client).await?.map(|_| self.task.as_str());
            let replica = session::become_replica(client).await?;
            prepare::plan(client, task, replica, catalog, (on_existing, load), known).await
        })
        .await
    }

    async fn record(&self) -> Result<Option<TaskRecord>> {
        self.ask(async |client| bookkeeping::read(client, &self.task).await).await
    }

    async fn take_over(&self) -> Result<(Epoch, TaskRecord)> {
        self.ask(async |client| {
            lane::end_stalled(client).await;
            bookkeeping::take_over(client, &self.task).await
        })
        .await
        .inspect(|_| self.written.store(true, Ordering::Relaxed))
        .map_err(|error| self.no_writes(error))
    }

    async fn settled(&self, epoch: Epoch) -> Result<()> {
        self.ask(async |client| bookkeeping::settled(client, &self.task, epoch).await).await
    }

    async fn open_lane(&self, epoch: Epoch, committed: Option<&Position>) -> Result<Box<dyn TargetLane>> {
        let lane = lane::PgLane::open(self.connect().await?, &self.task, epoch, committed).await?;
        let pid = lane.pid();
        Ok(Box::new(Watched::new(lane, pid, &self.config, self.application())))
    }

    async fn open_loader(&self, epoch: Epoch) -> Result<Box<dyn Loader>> {
        let loader = loader::PgLoader::open(&self.config, &self.task, epoch).await?;
        let pid = loader.pid();
        Ok(Box::new(Watched::new(loader, pid, &self.config, self.application())))
    }

    async fn request_reload(&self, table: &TableId) -> Result<()> {
        let client = self.connect().await?;
        if bookkeeping::request_reload(&client, &self.task, table).await? {
            return Ok(());
        }
        Err(stored::unknown_table(&self.task, table))
    }

    async fn requests(&self) -> Result<Vec<TableId>> {
        self.ask(async |client| bookkeeping::requests(client, &self.task).await).await
    }

    async fn look(&self, like: &ChangeBatch) -> Result<Option<Vec<(String, Option<String>)>>> {
        let row = self.ask(async |client| look::look(client, like).await).await;
        row.map_err(|e| e.target_table(&like.table.id))
    }

    async fn quarantined(&self) -> Result<Vec<QuarantineEntry>> {
        self.ask(async |client| bookkeeping::quarantined(client, &self.task).await).await
    }

    async fn release(&self, numbers: &[i64]) -> Result<u64> {
        self.ask(async |client| match bookkeeping::format(client).await? {
            Some(3..) => bookkeeping::release(client, &self.task, numbers).await,
            _ => Ok(0),
        })
        .await
    }

    async fn mend(&self) -> Result<Box<dyn Mend>> {
        Ok(Box::new(mend::PgMend::open(self.connect().await?, &self.task).await?))
    }

    async fn forget(&self) -> Result<bool> {
        let client = self.connect().await?;
        match bookkeeping::format(&client).await? {
            None => Ok(false),
            Some(_) => bookkeeping::forget(&client, &self.task).await,
        }
    }
}

/// What the server and the role allow.
async fn check(client: &Client) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
               pg_is_in_recovery(), \
               has_database_privilege(current_database(), 'CREATE') \
               OR EXISTS (SELECT FROM pg_namespace \
                   WHERE nspname = 'trem' AND has_schema_privilege(oid, 'CREATE')), \
               current_database()::text, current_user::text";
    let row = client.query_one(sql, &[]).await.map_err(pg)?;
    let (number, version): (i32, String) = (row.try_get(0).map_err(pg)?, row.try_get(1).map_err(pg)?);
    let (recovery, create): (bool, bool) = (row.try_get(2).map_err(pg)?, row.try_get(3).map_err(pg)?);
    let (database, user): (String, String) = (row.try_get(4).map_err(pg)?, row.try_get(5).map_err(pg)?);
    let mut say = |ok: bool, subject: &str, message: String, remedy: Remedy| {
        let severity = if ok { Severity::Ok } else { Severity::Error };
        let remedy = (!ok).then_some(remedy);
        out.push(Finding { severity, subject: subject.to_owned(), message, remedy });
    };
    say(
        number >= 140_000,
        "target version",
        format!("PostgreSQL {version}"),
        "PostgreSQL 14 or later is needed".into(),
    );
    if recovery {
        say(false, "target", "the server is a standby".to_owned(), "name the primary in the endpoint's url".into());
    } else {
        match read_only(client, &database, &user).await? {
            None => say(true, "target", "the server accepts writes".to_owned(), "".into()),
            Some(remedy) => say(false, "default_transaction_read_only", "is on: no session writes".to_owned(), remedy),
        }
    }
    let found = if create { "may" } else { "may not" };
    say(
        create,
        "target privileges",
        format!("{user} {found} create schemas in database {database}"),
        Remedy::Sql(format!("GRANT CREATE ON DATABASE {} TO {}", quote::ident(&database), quote::ident(&user))),
    );
    out.extend(encoding(client).await?);
    out.extend(temporary_tables(client, &database, &user).await?);
    out.push(replica_role(client, &user).await?);
    Ok(out)
}

/// What lets sessions write again, if a setting keeps them from it.
async fn read_only(client: &Client, database: &str, user: &str) -> Result<Option<Remedy>> {
    const SETTING: &str = "default_transaction_read_only";
    let sql = "SELECT source FROM pg_settings WHERE name = $1 AND setting = 'on'";
    let Some(row) = client.query_opt(sql, &[&SETTING]).await.map_err(pg)? else { return Ok(None) };
    let (database, user) = (quote::ident(database), quote::ident(user));
    Ok(Some(Remedy::Sql(match row.try_get::<_, &str>(0).map_err(pg)? {
        "database" => format!("ALTER DATABASE {database} RESET {SETTING}"),
        "user" => format!("ALTER ROLE {user} RESET {SETTING}"),
        "database user" => format!("ALTER ROLE {user} IN DATABASE {database} RESET {SETTING}"),
        _ => format!("ALTER SYSTEM SET {SETTING} = off; SELECT pg_reload_conf()"),
    })))
}

/// Text comes in UTF-8.
async fn encoding(client: &Client) -> Result<Option<Finding>> {
    let sql = "SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()";
    let name: String = client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(pg)?;
    Ok((name != "UTF8").then(|| Finding {
        severity: Severity::Warning,
        subject: "encoding".to_owned(),
        message: format!("the database has encoding {name}: a character that it lacks suspends its table"),
        remedy: Some("replicate into a database of encoding UTF8".into()),
    }))
}

/// Large batches go by way of temporary tables.
async fn temporary_tables(client: &Client, database: &str, user: &str) -> Result<Option<Finding>> {
    let sql = "SELECT has_database_privilege(current_database(), 'TEMPORARY')";
    let may: bool = client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(pg)?;
    let (user, database) = (quote::ident(user), quote::ident(database));
    Ok((!may).then(|| Finding {
        severity: Severity::Error,
        subject: "target privileges".to_owned(),
        message: format!("{user} may not create temporary tables in database {database}"),
        remedy: Some(Remedy::Sql(format!("GRANT TEMPORARY ON DATABASE {database} TO {user}"))),
    }))
}

/// Whether triggers and foreign keys can be kept out of the way.
async fn replica_role(client: &Client, user: &str) -> Result<Finding> {
    let finding = |severity, message: &str, remedy: Option<Remedy>| Finding {
        severity,
        subject: "session_replication_role".to_owned(),
        message: message.to_owned(),
        remedy,
    };
    if session::become_replica(client).await? {
        return Ok(finding(Severity::Ok, "may be set: triggers and foreign keys do not fire twice", None));
    }
    Ok(finding(
        Severity::Warning,
        "may not be set: triggers and foreign keys of target tables fire for replicated rows, and after-load \
         creates no foreign keys",
        Some(inspect::may_become_replica(user).or("drop them")),
    ))
}
