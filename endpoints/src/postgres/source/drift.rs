//! What the log does not tell: tables dropped, renamed or rewritten, found by looking at the catalogue. What happened
//! while trem was not running is not seen.

use std::sync::Arc;

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::schema::{Identity, TableSchema};

use super::marks::marks;
use super::shared::Inner;
use super::{lsn, setup};
use crate::postgres::row::get;
use crate::postgres::sqlstate;
use crate::postgres::types::table_number;

/// A table that cannot be followed any more.
#[derive(Debug)]
pub(super) struct Lost {
    /// Which of those asked for.
    pub(super) index: usize,
    /// By which place in the log it was so.
    pub(super) place: u64,
    /// Why.
    pub(super) reason: String,
}

/// Remembers tables as a snapshot that they are read at has them. `client` sees it.
pub(super) async fn loaded(inner: &Inner, client: &Client, tables: &[Arc<TableSchema>]) -> Result<()> {
    let numbers: Vec<u32> = tables.iter().map(|t| table_number(t)).collect();
    for (table, mark) in marks(client, &numbers).await? {
        inner.marks.loaded(table, mark);
    }
    Ok(())
}

/// Why a table whose columns have changed cannot be followed.
pub(super) async fn rewritten(inner: &Inner, table: &TableSchema) -> Result<Option<String>> {
    let marks = marks(&*inner.client().await?, &[table_number(table)]).await?;
    let mut marks = marks.into_iter();
    Ok(marks.any(|(table, now)| inner.marks.rewritten(table, now)).then(reason))
}

fn reason() -> String {
    "a statement that changed its columns has rewritten the table, and the new values are not in the log".to_owned()
}

/// Looks whether the tables are still there under their names, and have not been rewritten.
///
/// # Errors
/// Class `Lineage` if one is not published any more, or not as a whole.
pub(super) async fn look(inner: &Inner, tables: &[(usize, Arc<TableSchema>)]) -> Result<Vec<Lost>> {
    let client = inner.client().await?;
    let numbers: Vec<u32> = tables.iter().map(|(_, t)| table_number(t)).collect();
    let mut lost = Vec::new();
    let sql = format!(
        "SELECT f.n, pg_current_wal_insert_lsn()::text, n.nspname::text, c.relname::text, coalesce({}, false) \
         FROM unnest($1::oid[], $2::text[], $3::text[]) WITH ORDINALITY f(oid, s, t, n) \
         LEFT JOIN pg_class c ON c.oid = f.oid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_publication p ON p.pubname = $4 \
         LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = f.oid \
         WHERE (n.nspname::text, c.relname::text) IS DISTINCT FROM (f.s, f.t) OR r.oid IS NULL OR {}",
        setup::FILTERED,
        setup::FILTERED
    );
    let schemas: Vec<&str> = tables.iter().map(|(_, t)| t.id.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|(_, t)| t.id.table.as_str()).collect();
    let rows = client.query(&sql, &[&numbers, &schemas, &names, &inner.name]).await.map_err(sqlstate::error)?;
    for row in rows {
        let Some((index, table)) = usize::try_from(get::<i64>(&row, 0)? - 1).ok().and_then(|n| tables.get(n)) else {
            continue;
        };
        let reason = match (get::<Option<String>>(&row, 2)?, get::<Option<String>>(&row, 3)?) {
            (Some(schema), Some(name)) if (&schema, &name) == (&table.id.schema, &table.id.table) => {
                return Err(setup::tampered(inner, &table.id, get(&row, 4)?));
            }
            (Some(schema), Some(name)) => format!("the table was renamed to {schema}.{name}"),
            _ => "the table was dropped, or dropped and created anew, at the source".to_owned(),
        };
        lost.push(Lost { index: *index, place: lsn::parse(get(&row, 1)?)?, reason });
    }
    lost.extend(foreign_identities(&client, tables).await?);
    let mut marks = marks(&client, &numbers).await?;
    let rewritten: Vec<usize> = tables
        .iter()
        .filter(|(_, t)| marks.remove(&table_number(t)).is_some_and(|now| inner.marks.rewritten(table_number(t), now)))
        .map(|(index, _)| *index)
        .collect();
    if !rewritten.is_empty() {
        let place = lsn::parse(get(&inner.one("SELECT pg_current_wal_insert_lsn()::text").await?, 0)?)?;
        lost.extend(rewritten.into_iter().map(|index| Lost { index, place, reason: reason() }));
    }
    Ok(lost)
}

/// Tables without a key, one of whose partitions does not log whole rows: the log does not tell which row was deleted.
async fn foreign_identities(client: &Client, tables: &[(usize, Arc<TableSchema>)]) -> Result<Vec<Lost>> {
    let keyless: Vec<_> = tables.iter().filter(|(_, t)| t.identity == Identity::Full).collect();
    if keyless.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT f.oid, pg_current_wal_insert_lsn()::text, min(c.oid::regclass::text) \
               FROM unnest($1::oid[]) f(oid) JOIN pg_class r ON r.oid = f.oid AND r.relkind = 'p' \
               CROSS JOIN LATERAL pg_partition_tree(r.oid) p JOIN pg_class c ON c.oid = p.relid \
               WHERE p.isleaf AND c.relkind = 'r' AND c.relreplident <> 'f' GROUP BY 1";
    let numbers: Vec<u32> = keyless.iter().map(|(_, t)| table_number(t)).collect();
    let mut lost = Vec::new();
    for row in client.query(sql, &[&numbers]).await.map_err(sqlstate::error)? {
        let (number, partition): (u32, &str) = (get(&row, 0)?, get(&row, 2)?);
        let place = lsn::parse(get(&row, 1)?)?;
        let reason = format!("its partition {partition} has no REPLICA IDENTITY FULL as the table has");
        let of = keyless.iter().filter(|(_, t)| table_number(t) == number);
        lost.extend(of.map(|(index, _)| Lost { index: *index, place, reason: reason.clone() }));
    }
    Ok(lost)
}
