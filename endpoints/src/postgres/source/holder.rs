//! Who uses the task's slot, and what stands in the way of making one: transactions of the whole cluster that are open.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use trem_engine::schema::TableId;
use trem_engine::{Error, Remedy, Result};

use super::shared::Inner;
use crate::postgres::others::{Open, SESSION, ends, held_by, prepared, said, session};
use crate::postgres::row::get;
use crate::postgres::sqlstate;

/// How long a server may take to notice that whoever used a slot is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// The server process that uses a slot.
struct Holder {
    pid: i32,
    /// The slot has no place in the log yet: it is being made, which waits for open transactions.
    half_made: bool,
    /// By its name the process is one of this task.
    ours: bool,
    application: String,
}

async fn holder(inner: &Inner, client: &Client) -> Result<Option<Holder>> {
    let sql = "SELECT s.active_pid, s.confirmed_flush_lsn IS NULL AND s.slot_type = 'logical', \
                 coalesce(a.application_name = $2 AND a.usename = session_user, false), \
                 coalesce(a.application_name, '') \
               FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
               WHERE s.slot_name = $1 AND s.active_pid IS NOT NULL";
    let row = client.query_opt(sql, &[&inner.name, &inner.application]).await.map_err(sqlstate::error)?;
    let read = |r: tokio_postgres::Row| {
        Ok(Holder { pid: get(&r, 0)?, half_made: get(&r, 1)?, ours: get(&r, 2)?, application: get(&r, 3)? })
    };
    row.map(read).transpose()
}

/// Waits until nobody uses the task's slot. A process of ours that was left at making it is ended: it would not notice
/// that nobody waits for it before all transactions that are open now have ended.
///
/// # Errors
/// Class `Transient` when somebody goes on using it.
pub(super) async fn free(inner: &Inner) -> Result<()> {
    let client = inner.client().await?;
    let until = Instant::now() + PATIENCE;
    loop {
        let Some(holder) = holder(inner, &client).await? else { return Ok(()) };
        if holder.half_made && holder.ours {
            let end = client.execute("SELECT pg_terminate_backend($1)", &[&holder.pid]).await;
            if let Err(error) = end {
                tracing::debug!(%error, pid = holder.pid, "could not end the process that was making the slot");
            }
        }
        if Instant::now() >= until {
            return Err(in_use(inner, &client, &holder).await?);
        }
        sleep(PAUSE).await;
    }
}

async fn in_use(inner: &Inner, client: &Client, holder: &Holder) -> Result<Error> {
    let Holder { pid, half_made, application, .. } = holder;
    let end = Remedy::Sql(format!("SELECT pg_terminate_backend({pid})"));
    let mut what = format!("replication slot {} is in use by server process {pid} ({application:?})", inner.name);
    if !half_made {
        let stop = Remedy::from("stop the trem process that uses it");
        return Ok(Error::transient(what).remedy(stop.or(end)));
    }
    what.push_str(", which is making it");
    let open = open(client, Duration::ZERO).await?;
    if open.is_empty() {
        return Ok(Error::transient(what).remedy(end));
    }
    Ok(Error::transient(format!("{what} and waits for {}", said(&open))).remedy(ends(&open).or(end)))
}

/// What the slot of a load that wants to begin waits for; the load's own name tells it from those of others.
pub(super) async fn waits_for(inner: &Inner, client: &Client) -> Result<Option<String>> {
    let sql = "SELECT active_pid FROM pg_replication_slots \
               WHERE confirmed_flush_lsn IS NULL AND slot_type = 'logical' AND active_pid IS NOT NULL \
                 AND (slot_name = $1 OR slot_name ~ ('^' || left($1, 54) || '_[0-9a-f]{8}$'))";
    let rows = client.query(sql, &[&inner.name]).await.map_err(sqlstate::error)?;
    let making = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i32>>>()?;
    if making.is_empty() {
        return Ok(None);
    }
    // Asked only then: looking at all locks of a busy server is not for every few seconds.
    let sql = "SELECT count(*) FROM pg_locks WHERE pid = ANY ($1) AND NOT granted";
    let waiting: i64 = get(&client.query_one(sql, &[&making]).await.map_err(sqlstate::error)?, 0)?;
    if waiting == 0 {
        return Ok(None);
    }
    let open = open(client, Duration::ZERO).await?;
    Ok((!open.is_empty()).then(|| said(&open)))
}

/// Transactions of the cluster that have written, prepared ones included, and have been open for so long, oldest
/// first: a slot that is made now waits for all of them. Those of this session's role and name are left out.
pub(super) async fn open(client: &Client, age: Duration) -> Result<Vec<Open>> {
    let sql = format!(
        "SELECT {SESSION}, NULL::text FROM pg_stat_activity a \
         WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid() \
           AND a.application_name <> current_setting('application_name') \
         UNION ALL \
         SELECT NULL, p.database::text, p.owner::text, '', \
           extract(epoch FROM clock_timestamp() - p.prepared)::float8, '', p.gid FROM pg_prepared_xacts p \
         ORDER BY 5 DESC NULLS LAST"
    );
    let mut found = Vec::new();
    for row in client.query(&sql, &[]).await.map_err(sqlstate::error)? {
        let (seconds, gid): (Option<f64>, Option<String>) = (get(&row, 4)?, get(&row, 6)?);
        match gid {
            Some(gid) => found.push(prepared(&gid, &get::<String>(&row, 1)?, &get::<String>(&row, 2)?, seconds)),
            None if seconds.is_some_and(|s| s < age.as_secs_f64()) => {}
            None => found.push(session(&row, 0)?),
        }
    }
    Ok(found)
}

/// An error that says who holds the lock that was waited for, if it is a lock of one of these tables, by their numbers.
pub(super) async fn locked(client: &Client, error: Error, tables: &[u32]) -> Error {
    if sqlstate::code(&error) != Some("55P03") {
        return error;
    }
    match lock_of(client, tables).await {
        Ok(Some((table, open))) => held_by(error, &[open]).table(&table),
        Ok(None) => error,
        Err(other) => {
            tracing::debug!(error = %other, "could not ask who holds a lock");
            error
        }
    }
}

/// Whoever has held a lock on one of the tables for longest that keeps it from being read or published.
async fn lock_of(client: &Client, tables: &[u32]) -> Result<Option<(TableId, Open)>> {
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, {SESSION} \
         FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = l.relation \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY ($1) AND a.datname = current_database() \
           AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', \
             'AccessExclusiveLock') \
           AND a.pid <> pg_backend_pid() ORDER BY a.xact_start LIMIT 1"
    );
    let Some(row) = client.query_opt(&sql, &[&tables]).await.map_err(sqlstate::error)? else { return Ok(None) };
    let table = TableId::new(get::<String>(&row, 0)?, get::<String>(&row, 1)?);
    Ok(Some((table, session(&row, 2)?)))
}
