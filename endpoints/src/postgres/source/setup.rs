//! What a task owns at the source: a publication of exactly its tables, and a slot that keeps the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use trem_engine::position::{Checkpoint, Lineage};
use trem_engine::schema::{Identity, TableId, TableSchema};
use trem_engine::{Class, Error, Remedy, Result};

use super::holder;
use super::identity::Unkeyed;
use super::lsn;
use super::shared::{History, Inner};
use crate::postgres::row::get;
use crate::postgres::types::table_number;
use crate::postgres::wire::Conn;
use crate::postgres::{quote, sqlstate};

/// A slot just created, and the snapshot of its start. The snapshot lives until the connection's next command.
pub(super) struct Exported {
    pub(super) start: u64,
    pub(super) snapshot: String,
}

/// Creates the slot `name` at the connection, exporting the snapshot of its start.
pub(super) async fn create_slot(conn: &mut Conn, name: &str, temporary: bool) -> Result<Exported> {
    let temporary = if temporary { " TEMPORARY" } else { "" };
    // The server is to notice when nobody waits for it any more: making a slot waits for all open transactions. The
    // setting, which not every platform has, is looked at from the next statement on.
    if conn.query("SET client_connection_check_interval TO '1s'").await.is_ok() {
        conn.query("SELECT 1").await?;
    }
    // The form without parentheses is the one that every version knows.
    let sql = format!("CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput EXPORT_SNAPSHOT", quote::ident(name));
    let rows = conn.query(&sql).await.map_err(|e| e.context(format!("creating replication slot {name}")))?;
    match rows.into_iter().next().unwrap_or_default().as_slice() {
        [_, Some(start), Some(snapshot), ..] => Ok(Exported { start: lsn::parse(start)?, snapshot: snapshot.clone() }),
        _ => Err(Error::fatal(format!("the server created replication slot {name} without a snapshot"))),
    }
}

/// Whether a slot of this task's name exists.
pub(super) async fn slot_exists(inner: &Inner) -> Result<bool> {
    let client = inner.client().await?;
    let sql = "SELECT 1 FROM pg_replication_slots WHERE slot_name = $1";
    Ok(client.query_opt(sql, &[&inner.name]).await.map_err(sqlstate::error)?.is_some())
}

/// Refuses a slot of this task's name.
pub(super) async fn vacant(inner: &Inner) -> Result<()> {
    if !slot_exists(inner).await? {
        return Ok(());
    }
    Err(Error::refused(format!("replication slot {} exists already at the source", inner.name)).remedy(format!(
        "if no other trem uses it, drop it: SELECT pg_drop_replication_slot('{}'); otherwise rename this task",
        inner.name
    )))
}

/// Drops the slot if there is one; whether there was.
pub(super) async fn drop_slot(inner: &Inner) -> Result<bool> {
    holder::free(inner).await?;
    let client = inner.client().await?;
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
    Ok(!client.query(sql, &[&inner.name]).await.map_err(sqlstate::error)?.is_empty())
}

/// Removes slot and publication; whether there was either.
pub(super) async fn retire(inner: &Inner) -> Result<bool> {
    let slot = drop_slot(inner).await.map_err(|e| e.context(format!("dropping replication slot {}", inner.name)))?;
    let client = inner.client().await?;
    let sql = "SELECT pg_has_role(pubowner, 'USAGE') FROM pg_publication WHERE pubname = $1";
    let Some(row) = client.query_opt(sql, &[&inner.name]).await.map_err(sqlstate::error)? else {
        // A standby would refuse even to look for it.
        return Ok(slot);
    };
    if !get::<bool>(&row, 0)? {
        tracing::warn!(publication = %inner.name, "it belongs to another role, and stays");
        return Ok(slot);
    }
    let sql = format!("DROP PUBLICATION IF EXISTS {}", quote::ident(&inner.name));
    client.batch_execute(&sql).await.map_err(sqlstate::error)?;
    Ok(true)
}

/// Whether `r`, a row of `pg_publication_rel`, publishes only a part; the columns are not there in version 14.
pub(super) const FILTERED: &str = "(to_jsonb(r) ->> 'prqual' IS NOT NULL OR to_jsonb(r) ->> 'prattrs' IS NOT NULL)";

/// Makes the publication hold exactly these tables. With `followed` it must be there already, with these in it.
pub(super) async fn publish(inner: &Inner, tables: &[Arc<TableSchema>], followed: Option<&[TableId]>) -> Result<()> {
    let client = inner.client().await?;
    if let Some(table) = tables.iter().find(|t| t.identity == Identity::InsertOnly) {
        return Err(Unkeyed::of(&client, table).await?.error(table));
    }
    let name = quote::ident(&inner.name);
    // Servers before 18 do not know of it.
    let sql = "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot, oid, \
                 to_jsonb(p) ->> 'pubgencols' <> 's', pg_has_role(pubowner, 'USAGE') \
               FROM pg_publication p WHERE pubname = $1";
    let found = client.query_opt(sql, &[&inner.name]).await.map_err(sqlstate::error)?;
    let Some(row) = found else {
        if followed.is_some() {
            return Err(lost_publication(inner));
        }
        if tables.is_empty() {
            return Err(Error::refused("no table is selected, so there is nothing to publish"));
        }
        let (list, more) = (table_list(tables), stored_columns(&client).await?);
        let sql = format!("CREATE PUBLICATION {name} FOR TABLE {list} WITH (publish_via_partition_root = true{more})");
        return change(inner, &sql, &tables.iter().map(|t| table_number(t)).collect::<Vec<_>>()).await;
    };
    if get::<bool>(&row, 0)? || !get::<bool>(&row, 1)? {
        return Err(not_ours(inner));
    }
    let own: bool = get(&row, 4)?;
    if own && get::<Option<bool>>(&row, 3)? == Some(true) {
        let sql = format!("ALTER PUBLICATION {name} SET ({STORED_COLUMNS})");
        client.batch_execute(&sql).await.map_err(|e| publication_error(inner, e))?;
    }
    let oid: u32 = get(&row, 2)?;
    let sql = format!("SELECT r.prrelid, {FILTERED} FROM pg_publication_rel r WHERE r.prpubid = $1");
    let (mut members, mut filtered) = (BTreeSet::new(), BTreeSet::new());
    for row in client.query(&sql, &[&oid]).await.map_err(sqlstate::error)? {
        let (member, is_part): (u32, bool) = (get(&row, 0)?, get(&row, 1)?);
        members.insert(member);
        if is_part {
            filtered.insert(member);
        }
    }
    // Of a followed table that is not published, or in part, there are changes that the log does not have for us.
    // Whoever looks at the catalogue finds out why; put back in here, it would look as if nothing had happened.
    let whole = |oid: u32| members.contains(&oid) && !filtered.contains(&oid);
    let missed = |t: &TableSchema| followed.is_some_and(|f| f.contains(&t.id)) && !whole(table_number(t));
    let wanted: BTreeSet<u32> = tables.iter().filter(|t| !missed(t)).map(|t| table_number(t)).collect();
    // Only what changes is named: every table named is locked, and must be the role's own to be added.
    let surplus = |m: &&u32| !wanted.contains(m) || filtered.contains(m);
    // One that somebody else has made stays as it is: what is published beside is passed over.
    let gone: BTreeSet<u32> = members.iter().filter(surplus).filter(|_| own).copied().collect();
    let new: BTreeSet<u32> = wanted.iter().filter(|m| !members.contains(m) || filtered.contains(m)).copied().collect();
    for (verb, tables) in [("DROP", gone), ("ADD", new)] {
        // Tables dropped at the source are no longer members, and cannot be made so.
        let list = current_names(&client, &tables).await?;
        if list.is_empty() {
            continue;
        }
        let sql = format!("ALTER PUBLICATION {name} {verb} TABLE {list}");
        match change(inner, &sql, &tables.into_iter().collect::<Vec<_>>()).await {
            // What is published beside harms nobody as it is: the next change takes it out.
            Err(error) if verb == "DROP" && error.class() == Class::Transient => {
                tracing::warn!(publication = %inner.name, "tables stay published for now: {error}");
            }
            changed => changed?,
        }
    }
    Ok(())
}

/// Makes or changes the publication, which locks the tables that come or go. Over a connection of its own: others ask
/// the source meanwhile.
async fn change(inner: &Inner, sql: &str, tables: &[u32]) -> Result<()> {
    let client = inner.writing().await?;
    client.batch_execute(&format!("SET lock_timeout TO {LOCK_TIMEOUT}")).await.map_err(sqlstate::error)?;
    match client.batch_execute(sql).await {
        Ok(()) => Ok(()),
        Err(e) => Err(holder::locked(&client, publication_error(inner, e), tables).await),
    }
}

/// How long a table's lock may be waited for.
const LOCK_TIMEOUT: &str = "'5s'";

/// Somebody has made or changed the publication in a way that leaves changes out of the log, or takes all tables in.
pub(super) fn not_ours(inner: &Inner) -> Error {
    let drop = Remedy::Sql(format!("DROP PUBLICATION {}", quote::ident(&inner.name)));
    Error::refused(format!("publication {} is not as trem makes it", inner.name))
        .remedy(drop.then(Remedy::StartAnew).or("give the task another name"))
}

/// Without it, from version 18 on the server refuses every UPDATE and DELETE of a table that has stored generated
/// columns and REPLICA IDENTITY FULL (manual, section 29.6).
const STORED_COLUMNS: &str = "publish_generated_columns = stored";

/// [`STORED_COLUMNS`] where the server knows it, as one more option.
async fn stored_columns(client: &tokio_postgres::Client) -> Result<String> {
    let sql = "SELECT current_setting('server_version_num')::int4 >= 180000";
    let row = client.query_one(sql, &[]).await.map_err(sqlstate::error)?;
    Ok(if get(&row, 0)? { format!(", {STORED_COLUMNS}") } else { String::new() })
}

fn table_list(tables: &[Arc<TableSchema>]) -> String {
    let names: Vec<_> = tables.iter().map(|t| format!("ONLY {}", quote::table(&t.id))).collect();
    names.join(", ")
}

/// Names as they are now: a renamed table stays published until its task says otherwise.
async fn current_names(client: &tokio_postgres::Client, oids: &BTreeSet<u32>) -> Result<String> {
    let oids: Vec<u32> = oids.iter().copied().collect();
    let sql = "SELECT 'ONLY ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1) ORDER BY 1";
    let rows = client.query(sql, &[&oids]).await.map_err(sqlstate::error)?;
    let names = rows.iter().map(|r| get::<String>(r, 0)).collect::<Result<Vec<_>>>()?;
    Ok(names.join(", "))
}

fn publication_error(inner: &Inner, e: tokio_postgres::Error) -> Error {
    let error = sqlstate::error(e).context(format!("publication {}", inner.name));
    match sqlstate::code(&error) {
        // Somebody has changed it, or dropped a table, between question and statement.
        Some("42704" | "42710" | "42P01") => Error::transient(error.reason()),
        Some("42501") => error.remedy(format!(
            "the role {} must own the tables and have CREATE on the database: a check of the task names the statements",
            inner.config.user
        )),
        _ => error,
    }
}

fn lost_publication(inner: &Inner) -> Error {
    // Made again it would publish nothing of what was committed while it was missing.
    Error::lineage(format!("publication {} is gone, and with it the changes since it was dropped", inner.name))
        .remedy(Remedy::StartAnew)
}

/// Whether the log can be followed from the checkpoint without a gap.
pub(super) async fn verify(inner: &Inner, checkpoint: &Checkpoint) -> Result<Lineage> {
    let then = History::parse(&checkpoint.lineage)?;
    let now = inner.history().await?;
    let at = lsn::of(&checkpoint.position)?;
    if (&then.system, then.database) != (&now.system, now.database) {
        return Err(Error::lineage(format!(
            "the source at {} is another database than the one followed so far ({}, before: {})",
            inner.config.describe(),
            now.lineage(),
            checkpoint.lineage
        ))
        .remedy(Remedy::from("point the endpoint's url at the former database").or(Remedy::StartAnew)));
    }
    if then.timeline != now.timeline {
        same_branch(inner, &then, &now, at).await?;
    }
    verify_slot(inner, at).await?;
    let current = lsn::parse(get(&inner.one("SELECT pg_current_wal_insert_lsn()::text").await?, 0)?)?;
    if at > current {
        return Err(Error::lineage(format!(
            "the target has changes up to {}, but the source's log ends at {}: the source was restored from a backup",
            lsn::text(at),
            lsn::text(current)
        ))
        .remedy(Remedy::StartAnew));
    }
    Ok(now.lineage())
}

/// After a failover the history goes on in a new timeline. It is the same history for us exactly if the timelines
/// parted behind the checkpoint: otherwise the target has changes that the new primary never had.
async fn same_branch(inner: &Inner, then: &History, now: &History, at: u64) -> Result<()> {
    let mut conn = inner.replication().await?;
    let rows = conn.query(&format!("TIMELINE_HISTORY {}", now.timeline)).await?;
    let content = rows.into_iter().next().and_then(|r| r.into_iter().nth(1)).flatten().unwrap_or_default();
    match parted(&content, then.timeline) {
        Some(switch) if at <= switch => Ok(()),
        Some(switch) => Err(Error::lineage(format!(
            "the source went over to timeline {} at {}, but the target has changes of timeline {} up to {}",
            now.timeline,
            lsn::text(switch),
            then.timeline,
            lsn::text(at)
        ))
        .remedy(Remedy::StartAnew)),
        None => Err(Error::lineage(format!(
            "the source is on timeline {}, which does not descend from timeline {} followed so far",
            now.timeline, then.timeline
        ))
        .remedy(Remedy::StartAnew)),
    }
}

/// Where a history file says that `timeline` was left.
fn parted(content: &str, timeline: u32) -> Option<u64> {
    content.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let left: u32 = words.next()?.parse().ok()?;
        words.next().filter(|_| left == timeline).and_then(|switch| lsn::parse(switch).ok())
    })
}

/// Sees that the task's slot still has the log from here on.
///
/// # Errors
/// Class `Lineage` if it has moved on: then these tables lack what lies between.
pub(super) async fn reaches_back(inner: &Inner, from: u64, tables: &[(usize, Arc<TableSchema>)]) -> Result<()> {
    let name = &inner.name;
    let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
    let row = inner.client().await?.query_opt(sql, &[name]).await.map_err(sqlstate::error)?;
    let confirmed = row.and_then(|row| get::<Option<String>>(&row, 0).transpose()).transpose()?;
    match confirmed.map(|c| lsn::parse(&c)).transpose()? {
        Some(confirmed) if confirmed <= from => Ok(()),
        Some(confirmed) => {
            let (at, need) = (lsn::text(confirmed), lsn::text(from));
            let what = format!("replication slot {name} has been moved on to {at}, past {need}");
            Err(Error::lineage(format!("{what}, from where tables that are being loaded need the log"))
                .remedy(Remedy::Then(tables.iter().map(|(_, t)| Remedy::Reload(t.id.clone())).collect())))
        }
        None => Err(Error::transient(format!("replication slot {name} is gone"))),
    }
}

async fn verify_slot(inner: &Inner, at: u64) -> Result<()> {
    let client = inner.client().await?;
    let sql = "SELECT slot_type::text, coalesce(plugin::text, ''), coalesce(database = current_database(), false), \
                 coalesce(wal_status, ''), confirmed_flush_lsn::text, active_pid, \
                 coalesce(to_jsonb(s) ->> 'invalidation_reason', '') \
               FROM pg_replication_slots s WHERE slot_name = $1";
    let name = &inner.name;
    let gap = |what: String| Error::lineage(what).remedy(Remedy::StartAnew);
    let Some(row) = client.query_opt(sql, &[name]).await.map_err(sqlstate::error)? else {
        return Err(gap(format!("replication slot {name} is gone, and the log since {} with it", lsn::text(at))));
    };
    if get::<&str>(&row, 0)? != "logical" || get::<&str>(&row, 1)? != "pgoutput" || !get::<bool>(&row, 2)? {
        return Err(gap(format!("replication slot {name} is not the one that trem created for this database")));
    }
    let invalidated: &str = get(&row, 6)?;
    if get::<&str>(&row, 3)? == "lost" || !invalidated.is_empty() {
        let mut why = format!("the server has invalidated replication slot {name}");
        if !invalidated.is_empty() {
            why.push_str(&format!(" ({invalidated})"));
        }
        let holds = Remedy::from("look at max_slot_wal_keep_size, so that the slot holds next time");
        return Err(gap(why).remedy(holds.then(Remedy::StartAnew)));
    }
    let confirmed: Option<String> = get(&row, 4)?;
    let confirmed = confirmed.map(|c| lsn::parse(&c)).transpose()?.unwrap_or(u64::MAX);
    if confirmed > at {
        return Err(gap(format!(
            "replication slot {name} starts at {}, behind the target's checkpoint {}: someone else has read from it or \
             made it anew, or the target was restored from a backup",
            lsn::text(confirmed),
            lsn::text(at)
        )));
    }
    if let Some(pid) = get::<Option<i32>>(&row, 5)? {
        return Err(Error::transient(format!("replication slot {name} is still in use by server process {pid}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_file_says_where_timelines_parted() {
        let file = "1\t0/3000000\tno recovery target specified\n\n2\t1/A0\tafter LSN 1/60\n";
        assert_eq!(parted(file, 1), Some(0x300_0000));
        assert_eq!(parted(file, 2), Some(0x1_0000_00A0));
        assert_eq!(parted(file, 3), None);
    }
}
