//! Whether all the connections of a run can be had: each to a session of its own, and as many as it takes.

use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage};
use trem_engine::ports::{Finding, Severity};
use trem_engine::{Remedy, Result};

use super::config::PgConfig;
use super::connect::opening;
use super::quote;
use super::row::get;
use super::sqlstate;

/// How many sessions are open beside one that is looked at: as many as every run has.
const OTHERS: usize = 3;
/// How long a session may be waited for while another of ours is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// What keeps connections from being sessions of their own: a pooler that lends one to several, a transaction each.
pub(super) async fn sessions(config: &PgConfig, application: &str, subject: &str) -> Result<Option<Finding>> {
    let (message, remedy) = match tokio::time::timeout(PATIENCE, own_sessions(config, application)).await {
        Ok(Ok(true)) => return Ok(None),
        Ok(Ok(false)) => (
            "a connection pooler lends one session of the server to several connections".to_owned(),
            Remedy::from("name the server itself in the endpoint's url, or set the pooler to pool whole sessions"),
        ),
        // A connection that was cut says nothing of how many there may be.
        Ok(Err(error)) if sqlstate::is_cut(&error) => return Err(error),
        Ok(Err(error)) => {
            let error = opening(error);
            (error.reason(), error.advice().cloned().unwrap_or_else(|| "let the role connect twice at a time".into()))
        }
        Err(_) => (
            format!("no second session within {} s while another is in a transaction", PATIENCE.as_secs()),
            "let the pooler hold more sessions, or name the server itself in the endpoint's url".into(),
        ),
    };
    Ok(Some(Finding { severity: Severity::Error, subject: subject.to_owned(), message, remedy: Some(remedy) }))
}

/// What one session has set is there in that session, and in no other: whichever of its server's sessions a pooler
/// hands out, those that are busy it cannot.
async fn own_sessions(config: &PgConfig, application: &str) -> Result<bool> {
    let mark = format!("{:032x}", rand::random::<u128>());
    let one = config.connect(application).await?;
    one.batch_execute(&format!("SET trem.mark TO '{mark}'")).await.map_err(sqlstate::error)?;
    let (mut busy, mut own) = (Vec::new(), true);
    for _ in 0..OTHERS {
        let other = config.connect(application).await?;
        other.batch_execute("BEGIN").await.map_err(sqlstate::error)?;
        own &= marked(&other).await? != mark && marked(&one).await? == mark;
        busy.push(other);
    }
    for other in busy {
        other.batch_execute("ROLLBACK").await.map_err(sqlstate::error)?;
    }
    Ok(own)
}

/// How a session is marked. Not by a prepared statement, which a pooler may take for another one.
async fn marked(client: &Client) -> Result<String> {
    let sql = "SELECT coalesce(current_setting('trem.mark', true), '')";
    let answer = client.simple_query(sql).await.map_err(sqlstate::error)?;
    let mark = answer.iter().find_map(|m| if let SimpleQueryMessage::Row(row) = m { row.get(0) } else { None });
    Ok(mark.unwrap_or_default().to_owned())
}

/// Limits that leave no room for `needed` connections, of which `parallel` read or write parts of tables. Those of this
/// task that are there already do not count.
pub(super) async fn room(client: &Client, application: &str, needed: i64, parallel: i64) -> Result<Vec<Finding>> {
    let sql = "WITH others AS (SELECT usename, datname FROM pg_stat_activity \
                 WHERE datid IS NOT NULL AND application_name <> $1) \
               SELECT r.rolsuper, r.rolconnlimit::int8, d.datconnlimit::int8, \
                 current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8 \
                   - coalesce(current_setting('reserved_connections', true)::int8, 0), \
                 (SELECT count(*) FROM others WHERE usename = r.rolname), \
                 (SELECT count(*) FROM others WHERE datname = d.datname), (SELECT count(*) FROM others), \
                 r.rolname::text, d.datname::text \
               FROM pg_roles r, pg_database d WHERE r.rolname = session_user AND d.datname = current_database()";
    let row = client.query_one(sql, &[&application]).await.map_err(sqlstate::error)?;
    let number = |index| get::<i64>(&row, index);
    let (superuser, role, database): (bool, String, String) = (get(&row, 0)?, get(&row, 7)?, get(&row, 8)?);
    let fewer = format!("lower load.workers of the task, which is {parallel}");
    let mut found = Vec::new();
    for (what, name, limit, used) in
        [("ROLE", role, number(1)?, number(4)?), ("DATABASE", database, number(2)?, number(5)?)]
    {
        if superuser || limit < 0 || limit - used >= needed {
            continue;
        }
        let statement = format!("ALTER {what} {} CONNECTION LIMIT {}", quote::ident(&name), used + needed);
        found.push(Finding {
            severity: Severity::Error,
            subject: format!("{} {name}", what.to_lowercase()),
            message: format!("may have {limit} connections, {used} are in use, and a run needs up to {needed}"),
            remedy: Some(Remedy::Sql(statement).or(fewer.as_str())),
        });
    }
    let (limit, used) = (number(3)?, number(6)?);
    if limit - used < needed {
        let least = needed - parallel + 1;
        let severity = if limit - used < least { Severity::Error } else { Severity::Warning };
        let statement = format!("ALTER SYSTEM SET max_connections = {}", limit + 2 * needed);
        found.push(Finding {
            severity,
            subject: "max_connections".to_owned(),
            message: format!("{used} of {limit} connections are in use, and a run needs up to {needed}"),
            remedy: Some(Remedy::Sql(statement).then("restart the server").or(fewer.as_str())),
        });
    }
    Ok(found)
}
