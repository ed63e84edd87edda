//! Sessions and prepared transactions of others, in the words in which they are told of.

use tokio_postgres::{Client, Row};
use trem_engine::{Error, Remedy, Result};

use super::row::get;
use super::{quote, sqlstate};

/// How many a message names.
const NAMED: usize = 3;

/// What [`session`] reads of `pg_stat_activity a`. Of other roles only some may see more than process and database.
pub(super) const SESSION: &str = "a.pid, coalesce(a.datname::text, ''), coalesce(a.usename::text, ''), \
    coalesce(a.application_name, ''), \
    extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8, \
    coalesce(left(regexp_replace(a.query, '\\s+', ' ', 'g'), 100), '')";

/// A transaction that is open.
pub(super) struct Open {
    /// Whose it is, how old, and what it did last.
    pub(super) what: String,
    /// What ends it.
    pub(super) remedy: Remedy,
}

/// The oldest of some transactions, in words.
pub(super) fn said(open: &[Open]) -> String {
    let named: Vec<&str> = open.iter().take(NAMED).map(|o| o.what.as_str()).collect();
    match open.len().saturating_sub(NAMED) {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

/// What ends each of those that are named.
pub(super) fn ends(open: &[Open]) -> Remedy {
    Remedy::Any(open.iter().take(NAMED).map(|o| o.remedy.clone()).collect())
}

/// A session whose [`SESSION`] begins at this column.
pub(super) fn session(row: &Row, first: usize) -> Result<Open> {
    let text = |at| get::<Option<String>>(row, first + at).map(Option::unwrap_or_default);
    let (pid, seconds): (i32, Option<f64>) = (get(row, first)?, get(row, first + 4)?);
    let (database, role, application, statement) = (text(1)?, text(2)?, text(3)?, text(5)?);
    let since = since(seconds);
    let doing = if statement.is_empty() { String::new() } else { format!(", last: {statement}") };
    Ok(Open {
        what: format!("process {pid} (database {database}, role {role}, application {application:?}{since}{doing})"),
        remedy: Remedy::Sql(format!("SELECT pg_terminate_backend({pid})")),
    })
}

/// A prepared transaction.
pub(super) fn prepared(gid: &str, database: &str, role: &str, seconds: Option<f64>) -> Open {
    let gid = quote::literal(gid);
    let what = format!("prepared transaction {gid} (database {database}, role {role}{})", since(seconds));
    Open { what, remedy: Remedy::Sql(format!("ROLLBACK PREPARED {gid}")).or(format!("COMMIT PREPARED {gid}")) }
}

fn since(seconds: Option<f64>) -> String {
    seconds.map_or_else(String::new, |s| format!(", open for {:.0} s", s.max(0.0).floor()))
}

/// Whoever this server process waits for.
pub(super) async fn blocking(client: &Client, pid: i32) -> Result<Vec<Open>> {
    let sql = format!(
        "SELECT {SESSION} FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids($1)) ORDER BY a.xact_start"
    );
    let rows = client.query(&sql, &[&pid]).await.map_err(sqlstate::error)?;
    let mut found = rows.iter().map(|row| session(row, 0)).collect::<Result<Vec<Open>>>()?;
    if found.is_empty() {
        // A lock of a prepared transaction has no process (pg_blocking_pids, manual: zero).
        let sql = "SELECT p.gid, p.database::text, p.owner::text, \
                     extract(epoch FROM clock_timestamp() - p.prepared)::float8 \
                   FROM pg_prepared_xacts p WHERE 0 = ANY (pg_blocking_pids($1)) ORDER BY p.prepared";
        for row in client.query(sql, &[&pid]).await.map_err(sqlstate::error)? {
            let text = |at| get::<String>(&row, at);
            found.push(prepared(&text(0)?, &text(1)?, &text(2)?, get(&row, 3)?));
        }
    }
    Ok(found)
}

/// An error of a lock that was waited for, with who has it.
pub(super) fn held_by(error: Error, open: &[Open]) -> Error {
    let what = format!("locked by {}", said(open));
    error.context(what).remedy(Remedy::from("let it end").or(ends(open)))
}
