//! What could stop a task later, looked at before anything is created.

use std::time::Duration;

use tokio_postgres::Client;
use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::{Identity, TableId, TableSchema};
use trem_engine::task::Selection;
use trem_engine::{Remedy, Result};

use super::holder;
use super::obstacles::{self, Obstacle};
use super::setup::{self, slot_exists};
use super::shared::Inner;
use super::{identity, unmatched};
use crate::postgres::row::get;
use crate::postgres::types::table_number;
use crate::postgres::{catalog, others, quote, reach, sqlstate};

/// What makes such settings take effect.
const RESTART: &str = "restart the server";
/// A transaction that has been open for so long does not end at once.
const LONG: Duration = Duration::from_secs(1);
/// The oldest server version that is supported.
const OLDEST: i32 = 140_000;

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, subject: &str, message: impl Into<String>) {
        self.add(Severity::Ok, subject, message.into(), None);
    }

    fn warn(&mut self, subject: &str, message: impl Into<String>, remedy: impl Into<Remedy>) {
        self.add(Severity::Warning, subject, message.into(), Some(remedy.into()));
    }

    fn error(&mut self, subject: &str, message: impl Into<String>, remedy: impl Into<Remedy>) {
        self.add(Severity::Error, subject, message.into(), Some(remedy.into()));
    }

    /// What was tried has to work; a connection that was cut meanwhile says nothing of that.
    fn tried<T>(&mut self, subject: &str, outcome: Result<T>) -> Result<()> {
        match outcome {
            Err(error) if sqlstate::is_cut(&error) => return Err(error),
            Err(error) => self.add(Severity::Error, subject, error.reason(), error.advice().cloned()),
            Ok(_) => {}
        }
        Ok(())
    }

    /// Whether any of them refuses the task.
    fn refuses(&self) -> bool {
        self.0.iter().any(|f| f.severity == Severity::Error)
    }

    fn add(&mut self, severity: Severity, subject: &str, message: String, remedy: Option<Remedy>) {
        self.0.push(Finding { severity, subject: subject.to_owned(), message, remedy });
    }
}

/// Looks at the server, the role and the selected tables.
pub(super) async fn check(inner: &Inner, want: &Selection, cdc: bool, readers: usize) -> Result<Vec<Finding>> {
    let client = inner.client().await?;
    let mut findings = Findings::default();
    version(&client, cdc, &mut findings).await?;
    let tables = catalog::discover(&client, want).await?.tables;
    let ids: Vec<_> = tables.iter().map(|t| t.id.clone()).collect();
    findings.0.extend(unmatched::findings(&client, want, &ids).await?);
    let tables: Vec<&TableSchema> = tables.iter().map(AsRef::as_ref).collect();
    for Obstacle { table, message, remedy } in obstacles::privileges(&client, inner, &tables, cdc).await? {
        findings.error(&table.to_string(), message, remedy);
    }
    if cdc {
        settings(&client, inner, &mut findings).await?;
        role(&client, inner, &mut findings).await?;
        publication(&client, inner, &mut findings).await?;
        identities(&client, &tables, &mut findings).await?;
        open_transactions(&client, &mut findings).await?;
    }
    connections(&client, inner, cdc, readers, &mut findings).await?;
    Ok(findings.0)
}

/// A start waits for them, and so does each load beside the stream.
async fn open_transactions(client: &Client, findings: &mut Findings) -> Result<()> {
    let open = holder::open(client, LONG).await?;
    if let Some(oldest) = open.first() {
        let message = format!("a start waits until they have ended: {}", others::said(&open));
        findings.warn("open transactions", message, Remedy::from("let them end").or(oldest.remedy.clone()));
    }
    Ok(())
}

/// Opens what a run opens: a session, one more beside it, one that hands out COPY data, and one that reads the log.
async fn connections(client: &Client, inner: &Inner, cdc: bool, readers: usize, findings: &mut Findings) -> Result<()> {
    const SUBJECT: &str = "source connections";
    let readers = readers as i64;
    // Questions, the plan of chunks, a row that is read again; and the snapshot's holder, or two that read the log.
    findings.0.extend(reach::room(client, &inner.application, readers + 5, readers).await?);
    if findings.refuses() {
        return Ok(());
    }
    findings.0.extend(reach::sessions(&inner.config, &inner.application, SUBJECT).await?);
    let copy = async { inner.copying().await?.query("COPY (SELECT 1) TO STDOUT (FORMAT binary)").await };
    findings.tried("COPY", copy.await)?;
    if cdc {
        let identify = async { inner.replication().await?.query("IDENTIFY_SYSTEM").await };
        findings.tried("replication connection", identify.await)?;
    }
    Ok(())
}

async fn version(client: &Client, cdc: bool, findings: &mut Findings) -> Result<()> {
    let sql = "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
                 pg_is_in_recovery(), pg_encoding_to_char(encoding)::text \
               FROM pg_database WHERE datname = current_database()";
    let row = client.query_one(sql, &[]).await.map_err(sqlstate::error)?;
    let (number, text): (i32, String) = (get(&row, 0)?, get(&row, 1)?);
    if number < OLDEST {
        findings.error("server version", format!("PostgreSQL {text} is too old"), "use PostgreSQL 14 or later");
    } else {
        findings.ok("server version", format!("PostgreSQL {text}"));
    }
    if get::<bool>(&row, 2)? {
        let remedy = "name the primary in the endpoint's url, or let the task only load (mode = \"full-load\")";
        match cdc {
            true => findings.error("server", "is a standby: publications cannot be created there", remedy),
            false => findings.ok("server", "is a standby: the rows are those that it has received"),
        }
    }
    if get::<&str>(&row, 3)? == "SQL_ASCII" {
        let message = "the database has encoding SQL_ASCII: text that is not valid UTF-8 suspends its table";
        findings.warn("encoding", message, "correct such text at the source, or move it to a UTF8 database");
    }
    Ok(())
}

async fn settings(client: &Client, inner: &Inner, findings: &mut Findings) -> Result<()> {
    let sql = "SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int8, \
                 (SELECT count(*) FROM pg_replication_slots), current_setting('max_wal_senders')::int8, \
                 (SELECT count(*) FROM pg_stat_replication), current_setting('max_slot_wal_keep_size'), \
                 (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'), \
                 current_setting('synchronous_standby_names')";
    let row = client.query_one(sql, &[]).await.map_err(sqlstate::error)?;
    let level: String = get(&row, 0)?;
    if level == "logical" {
        findings.ok("wal_level", "logical");
    } else {
        findings.error(
            "wal_level",
            format!("is {level}, so changes are not logged as rows"),
            Remedy::Sql("ALTER SYSTEM SET wal_level = 'logical'".to_owned()).then(RESTART),
        );
    }
    // The task's own slot is there already once it has started; a load by itself needs one more for a while.
    let needed = if slot_exists(inner).await? { 1 } else { 2 };
    for (name, most, used, needed) in [
        ("max_replication_slots", get::<i64>(&row, 1)?, get::<i64>(&row, 2)?, needed),
        ("max_wal_senders", get(&row, 3)?, get(&row, 4)?, 2),
    ] {
        let wanted = used + needed;
        if most > used && most < wanted {
            let remedy = Remedy::Sql(format!("ALTER SYSTEM SET {name} = {wanted}")).then(RESTART);
            findings.warn(name, format!("{used} of {most} are in use; a resumed load needs {needed}"), remedy);
        } else if most < wanted {
            let remedy = Remedy::Sql(format!("ALTER SYSTEM SET {name} = {}", wanted + 2)).then(RESTART);
            findings.error(name, format!("all {most} are in use"), remedy);
        } else {
            findings.ok(name, format!("{used} of {most} are in use"));
        }
    }
    let keep: String = get(&row, 5)?;
    if keep == "-1" {
        let message = "is unlimited: while the task is stopped, the log grows until the disk is full";
        findings.warn("max_slot_wal_keep_size", message, "watch the retained log, or set a limit that outages fit in");
    } else {
        let message = format!("is {keep}: a task that is behind by more loses its slot and must load anew");
        findings.warn("max_slot_wal_keep_size", message, "make it larger than the log of the longest outage");
    }
    let standbys: String = get(&row, 7)?;
    if names(&standbys, &inner.application) {
        findings.error(
            "synchronous_standby_names",
            format!("is {standbys}, which takes trem for a standby: commits at the source would wait for the target"),
            "name the standbys there one by one, not by *",
        );
    }
    let timeout: i64 = get(&row, 6)?;
    if (1..3000).contains(&timeout) {
        let message = format!("is {timeout} ms: a short pause of the network cuts the stream");
        findings.warn(
            "wal_sender_timeout",
            message,
            Remedy::Sql("ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()".to_owned()),
        );
    }
    Ok(())
}

/// Whether a list of synchronous standbys has this name in it (manual, section 20.6.2).
fn names(standbys: &str, application: &str) -> bool {
    let name = |one: &str| one.trim().trim_matches('"').replace("\"\"", "\"").to_lowercase();
    let application = application.to_lowercase();
    standbys.split([',', '(', ')']).any(|one| one.trim() == "*" || name(one) == application)
}

async fn role(client: &Client, inner: &Inner, findings: &mut Findings) -> Result<()> {
    let sql = "SELECT r.rolreplication OR r.rolsuper OR coalesce((SELECT bool_or(pg_has_role(g.oid, 'MEMBER')) \
                 FROM pg_roles g WHERE g.rolname = 'rds_replication'), false), \
                 has_database_privilege(current_database(), 'CREATE'), current_database()::text, current_user::text \
               FROM pg_roles r WHERE r.rolname = current_user";
    let row = client.query_one(sql, &[]).await.map_err(sqlstate::error)?;
    let (database, user): (String, String) = (get(&row, 2)?, get(&row, 3)?);
    if get::<bool>(&row, 0)? {
        findings.ok("replication privilege", format!("role {user} may replicate"));
    } else {
        let remedy = Remedy::Sql(format!("ALTER ROLE {} REPLICATION", quote::ident(&user)));
        findings.error("replication privilege", format!("role {user} may not replicate"), remedy);
    }
    if !get::<bool>(&row, 1)? {
        let sql = "SELECT 1 FROM pg_publication WHERE pubname = $1";
        if client.query_opt(sql, &[&inner.name]).await.map_err(sqlstate::error)?.is_none() {
            let message = format!("role {user} may not create publications in database {database}");
            let remedy = format!("GRANT CREATE ON DATABASE {} TO {}", quote::ident(&database), quote::ident(&user));
            findings.error("publication", message, Remedy::Sql(remedy));
        }
    }
    Ok(())
}

/// One that is there already is used, by whomever it was made.
async fn publication(client: &Client, inner: &Inner, findings: &mut Findings) -> Result<()> {
    let sql = "SELECT puballtables OR NOT (pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot) \
               FROM pg_publication WHERE pubname = $1";
    let row = client.query_opt(sql, &[&inner.name]).await.map_err(sqlstate::error)?;
    if row.map(|row| get::<bool>(&row, 0)).transpose()? == Some(true) {
        findings.tried::<()>("publication", Err(setup::not_ours(inner)))?;
    }
    Ok(())
}

async fn identities(client: &Client, tables: &[&TableSchema], findings: &mut Findings) -> Result<()> {
    for table in tables {
        let subject = table.id.to_string();
        match table.identity {
            Identity::InsertOnly => {
                let found = identity::Unkeyed::of(client, table).await?;
                findings.error(&subject, found.refusal(), found.remedy());
            }
            Identity::Full => {
                let found = identity::Unkeyed::of(client, table).await?;
                let message =
                    format!("{}: changed rows are found by comparing every column, which is slow", found.why());
                findings.warn(&subject, message, found.key());
            }
            Identity::Key | Identity::KeyWithFullImage => {}
        }
    }
    // The server logs a partition's rows by the partition's own identity, whatever that of the partitioned table.
    let oids: Vec<u32> = tables.iter().map(|t| table_number(t)).collect();
    for (partition, remedy) in identity::foreign_to_root(client, &oids).await? {
        let message = "is a partition whose replica identity is not that of its partitioned table";
        findings.error(&partition.to_string(), message, remedy);
    }
    foreign_partitions(client, &oids, findings).await?;
    let sql = "SELECT oid FROM pg_class WHERE oid = ANY ($1) AND relkind = 'p'";
    for row in client.query(sql, &[&oids]).await.map_err(sqlstate::error)? {
        let oid: u32 = get(&row, 0)?;
        if let Some(table) = tables.iter().find(|t| table_number(t) == oid) {
            let message = "is partitioned: TRUNCATE, ATTACH, DETACH and DROP of a single partition are not in the log, \
                           and load the table again";
            findings.warn(&table.id.to_string(), message, "empty or drop partitions when a load does no harm");
        }
    }
    Ok(())
}

/// A foreign table's rows are read with those of its partitioned table, and their changes are in no log of this server.
async fn foreign_partitions(client: &Client, oids: &[u32], findings: &mut Findings) -> Result<()> {
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class r \
               CROSS JOIN LATERAL pg_partition_tree(r.oid) p JOIN pg_class c ON c.oid = p.relid \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE r.oid = ANY ($1) AND r.relkind = 'p' AND c.relkind = 'f' ORDER BY 1, 2";
    for row in client.query(sql, &[&oids]).await.map_err(sqlstate::error)? {
        let name = TableId::new(get::<String>(&row, 0)?, get::<String>(&row, 1)?);
        let message = "is a foreign table that is a partition: its rows are loaded, its changes never follow";
        let remedy = "replicate it from its own server, and exclude its partitioned table or detach it";
        findings.warn(&name.to_string(), message, remedy);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synchronous_standbys_are_named_or_all() {
        for with in ["*", "FIRST 1 (*)", "a, *", "ANY 2 (a, \"Trem t\")", "\"trem t\""] {
            assert!(names(with, "trem t"), "{with}");
        }
        for without in ["", "a", "FIRST 1 (a, b)", "\"trem tt\"", "\"*\""] {
            assert!(!names(without, "trem t"), "{without}");
        }
    }
}
