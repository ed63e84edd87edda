//! PostgreSQL as a target: the cheapest statement that is right, and everything that must hold together in one
//! transaction.

#[cfg(feature = "bench")]
pub mod bench;
mod bookkeeping;
mod copy;
mod encode;
mod facts;
mod failure;
mod keyed;
mod keyless;
mod lane;
mod loader;
mod prepare;
mod secondary;
mod session;
mod shape;
mod statements;
mod tables;
mod together;
mod writer;

use std::collections::HashMap;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_postgres::Client;
use trem_engine::ports::{Epoch, Finding, Loader, Severity, TablePreview, TableState, Target, TargetLane, TaskRecord};
use trem_engine::schema::{Catalog, TableId};
use trem_engine::task::OnExisting;
use trem_engine::{Error, Result};

use super::config::PgConfig;
use super::connect::database_identity;
use super::sqlstate::error as pg;

/// A PostgreSQL database that one task writes to.
pub struct PostgresTarget {
    config: PgConfig,
    task: String,
    /// A connection that has been asked something and is free again: the lane's, when it opens.
    idle: Mutex<Option<Client>>,
}

impl PostgresTarget {
    /// The target of `task` at `config`; nothing is connected yet.
    pub fn new(config: PgConfig, task: &str) -> Self {
        Self { config, task: task.to_owned(), idle: Mutex::new(None) }
    }

    async fn connect(&self) -> Result<Client> {
        let idle = self.idle.lock().await.take().filter(|client| !client.is_closed());
        match idle {
            Some(client) => Ok(client),
            None => self.config.connect(&format!("trem {}", self.task)).await,
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

    async fn check(&self) -> Result<Vec<Finding>> {
        self.ask(check).await
    }

    async fn plan(&self, catalog: &Catalog, on_existing: OnExisting, load: bool) -> Result<Vec<TablePreview>> {
        self.ask(async |client| {
            let task = bookkeeping::exists(client).await?.then_some(self.task.as_str());
            let known = match task {
                Some(task) => bookkeeping::origins(client, task).await?,
                None => HashMap::new(),
            };
            let replica = session::become_replica(client).await?;
            let settings = (on_existing, load);
            prepare::plan(client, task, replica, catalog, settings, &known).await
        })
        .await
    }

    async fn record(&self) -> Result<Option<TaskRecord>> {
        self.ask(async |client| bookkeeping::read(client, &self.task).await).await
    }

    async fn open_lane(&self) -> Result<Box<dyn TargetLane>> {
        Ok(Box::new(lane::PgLane::open(self.connect().await?, &self.task).await?))
    }

    async fn open_loader(&self, epoch: Epoch) -> Result<Box<dyn Loader>> {
        Ok(Box::new(loader::PgLoader::open(&self.config, &self.task, epoch).await?))
    }

    async fn reload(&self, table: &TableId) -> Result<()> {
        let client = self.connect().await?;
        let known = bookkeeping::exists(&client).await?
            && bookkeeping::set_state(&client, &self.task, table, TableState::Reload).await?;
        if known {
            return Ok(());
        }
        Err(Error::refused(format!("task {} does not know this table", self.task))
            .table(table)
            .remedy("see `trem status` for the tables it knows"))
    }

    async fn forget(&self) -> Result<()> {
        let client = self.connect().await?;
        if !bookkeeping::exists(&client).await? {
            return Ok(());
        }
        bookkeeping::forget(&client, &self.task).await
    }
}

/// What the server and the role allow.
async fn check(client: &Client) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
               pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', \
               has_database_privilege(current_database(), 'CREATE') \
               OR EXISTS (SELECT FROM pg_namespace \
                   WHERE nspname = 'trem' AND has_schema_privilege(oid, 'CREATE')), \
               current_database()::text, current_user::text";
    let row = client.query_one(sql, &[]).await.map_err(pg)?;
    let (number, version): (i32, String) = (row.try_get(0).map_err(pg)?, row.try_get(1).map_err(pg)?);
    let (recovery, read_only): (bool, bool) = (row.try_get(2).map_err(pg)?, row.try_get(3).map_err(pg)?);
    let (create, database): (bool, String) = (row.try_get(4).map_err(pg)?, row.try_get(5).map_err(pg)?);
    let user: String = row.try_get(6).map_err(pg)?;
    let mut say = |ok: bool, subject: &str, message: String, remedy: &str| {
        let severity = if ok { Severity::Ok } else { Severity::Error };
        let remedy = (!ok).then(|| remedy.to_owned());
        out.push(Finding { severity, subject: subject.to_owned(), message, remedy });
    };
    say(number >= 140_000, "target version", format!("PostgreSQL {version}"), "PostgreSQL 14 or later is needed");
    let writable = !recovery && !read_only;
    let found = if recovery {
        "is a standby"
    } else if read_only {
        "is read-only"
    } else {
        "accepts writes"
    };
    say(
        writable,
        "target",
        format!("the server {found}"),
        "name the primary in the endpoint's url, with default_transaction_read_only off",
    );
    let found = if create { "may" } else { "may not" };
    say(
        create,
        "target privileges",
        format!("{user} {found} create schemas in database {database}"),
        &format!("GRANT CREATE ON DATABASE {} TO {}", super::quote::ident(&database), super::quote::ident(&user)),
    );
    out.extend(temporary_tables(client, &database, &user).await?);
    out.push(replica_role(client, &user).await?);
    Ok(out)
}

/// Large batches go by way of temporary tables.
async fn temporary_tables(client: &Client, database: &str, user: &str) -> Result<Option<Finding>> {
    let sql = "SELECT has_database_privilege(current_database(), 'TEMPORARY')";
    let may: bool = client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(pg)?;
    let (user, database) = (super::quote::ident(user), super::quote::ident(database));
    Ok((!may).then(|| Finding {
        severity: Severity::Error,
        subject: "target privileges".to_owned(),
        message: format!("{user} may not create temporary tables in database {database}"),
        remedy: Some(format!("GRANT TEMPORARY ON DATABASE {database} TO {user}")),
    }))
}

/// Whether triggers and foreign keys can be kept out of the way.
async fn replica_role(client: &Client, user: &str) -> Result<Finding> {
    let finding = |severity, message: &str, remedy: Option<String>| Finding {
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
        "may not be set: triggers and foreign keys of target tables fire for replicated rows",
        Some(format!(
            "GRANT SET ON PARAMETER session_replication_role TO {} (PostgreSQL 15 and later), or drop them",
            super::quote::ident(user)
        )),
    ))
}
