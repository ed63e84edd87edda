//! What the log does not tell, found by looking at the catalogue: tables dropped, renamed, rewritten or changed in what
//! they are made of, partitions that come and go, and a publication changed by somebody else.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;
use trem_engine::schema::{self, Identity, SchemaChange, SchemaChangeKind, TableId, TableSchema};
use trem_engine::{Remedy, Result};

use super::catalogue::{self, Now};
use super::history::History;
use super::relation;
use super::shared::Inner;
use crate::postgres::row::get;
use crate::postgres::sqlstate;
use crate::postgres::types::table_number;

/// What a look has found about a table.
#[derive(Debug)]
pub(super) struct Lost {
    /// Which of those asked for.
    pub(super) index: usize,
    /// As it was known then: a table that is known better by now is looked at again.
    pub(super) of: Arc<TableSchema>,
    /// By which place in the log it was so.
    pub(super) place: u64,
    pub(super) verdict: Verdict,
}

/// What becomes of a table.
#[derive(Debug)]
pub(super) enum Verdict {
    /// A change that the stream has to pass on.
    Change(SchemaChangeKind),
    /// Partitions have been emptied. If these transactions have emptied the table as a whole, that is in the log.
    Emptied { by: Vec<u32>, change: SchemaChangeKind, otherwise: SchemaChangeKind },
}

/// What a snapshot that tables are read at has seen of their past, by their numbers. `client` sees it.
pub(super) async fn loaded(
    inner: &Inner,
    client: &Client,
    tables: &[Arc<TableSchema>],
) -> Result<HashMap<u32, schema::History>> {
    let now = catalogue::now(client, &inner.name, &numbers(tables)).await?;
    Ok(now.into_iter().map(|(number, now)| (number, now.history.stored())).collect())
}

fn numbers<'a>(tables: impl IntoIterator<Item = &'a Arc<TableSchema>>) -> Vec<u32> {
    tables.into_iter().map(|t| table_number(t)).collect()
}

/// Compares tables of the record with the catalogue, before the log is followed.
pub(super) async fn compare(inner: &Inner, tables: &[Arc<TableSchema>]) -> Result<Vec<SchemaChange>> {
    let tables: Vec<_> = tables.iter().filter(|t| t.native_id.is_some()).cloned().enumerate().collect();
    let found = look(inner, &tables).await?.into_iter().map(|lost| SchemaChange {
        table: lost.of,
        kind: match lost.verdict {
            Verdict::Change(kind) | Verdict::Emptied { otherwise: kind, .. } => kind,
        },
    });
    Ok(found.collect())
}

/// Looks what has become of tables since they were last known.
pub(super) async fn look(inner: &Inner, tables: &[(usize, Arc<TableSchema>)]) -> Result<Vec<Lost>> {
    let client = inner.client().await?;
    let now = catalogue::now(&client, &inner.name, &numbers(tables.iter().map(|(_, t)| t))).await?;
    let foreign = foreign_identities(&client, tables).await?;
    // Asked afterwards: whatever was seen is in the log before.
    let place = inner.current().await?;
    let mut found = Vec::new();
    for (index, table) in tables {
        let verdict = match foreign.get(&table_number(table)) {
            Some(reason) => Some(Verdict::Change(relation::partition_identity(table, reason.clone()))),
            None => judge(inner, table, now.get(&table_number(table))).await?,
        };
        found.extend(verdict.map(|verdict| Lost { index: *index, of: Arc::clone(table), place, verdict }));
    }
    Ok(found)
}

async fn judge(inner: &Inner, table: &Arc<TableSchema>, now: Option<&Now>) -> Result<Option<Verdict>> {
    let suspend = |reason: String| Ok(Some(Verdict::Change(relation::suspend(table, reason))));
    let Some(now) = now else {
        let reason = "the table was dropped, or dropped and created anew, at the source".to_owned();
        let again = Remedy::from("create it there again, if it is missing").then_reload(&table.id);
        let remedy = again.or(format!("exclude {} in [[tables]]", table.id));
        return Ok(Some(Verdict::Change(SchemaChangeKind::Suspend { reason, remedy })));
    };
    if (&now.schema, &now.name) != (&table.id.schema, &table.id.table) {
        return Ok(Some(Verdict::Change(relation::renamed(table, &TableId::new(&now.schema, &now.name)))));
    }
    if let Some(above) = &now.under {
        let reason = format!("it has become a partition of {above}, and its rows are replicated with those");
        let remedy = Remedy::from("exclude it, and drop it on the target if nobody needs it");
        return Ok(Some(Verdict::Change(SchemaChangeKind::Suspend { reason, remedy })));
    }
    let then = History::of(table);
    let member = then.as_ref().map_or(now.history.member, |then| then.member);
    if now.filtered || now.history.member.is_none() || now.history.member != member {
        return suspend(tampered(inner));
    }
    let noted = || SchemaChangeKind::Noted { next: Arc::new(table.with_history(now.history.stored())) };
    let Some(then) = then else { return Ok(Some(Verdict::Change(noted()))) };
    let difference = then.until(&now.history);
    if let Some(reason) = difference.changed {
        return suspend(reason);
    }
    let reload = |reason: String| SchemaChangeKind::Reload { reason };
    if let Some(reason) = difference.gone {
        return Ok(Some(Verdict::Change(reload(reason))));
    }
    if let Some((_, name)) = difference.attached.first()
        && hold_rows(inner, difference.attached.iter().map(|(number, _)| *number).collect()).await
    {
        let reason = format!("partition {name} was attached with the rows it had, which are not in the log");
        return Ok(Some(Verdict::Change(reload(reason))));
    }
    if difference.pending || then == now.history {
        return Ok(None);
    }
    Ok(Some(match difference.emptied.first() {
        None => Verdict::Change(noted()),
        Some((_, name)) => {
            let reason = format!("partition {name} was emptied or written anew, which is not in the log");
            let by = difference.emptied.iter().map(|(by, _)| *by).collect();
            Verdict::Emptied { by, change: noted(), otherwise: reload(reason) }
        }
    }))
}

/// Why a table is not followed that is not published as it was.
fn tampered(inner: &Inner) -> String {
    format!(
        "someone has taken the table out of publication {}, put it back, or given it a row filter or a column list \
         there: changes of it are not in the log for trem",
        inner.name
    )
}

/// Whether any of these parts may have rows. Nothing has ever been written to an empty file. A session of its own, as
/// whoever changes the table may hold its lock.
async fn hold_rows(inner: &Inner, parts: Vec<u32>) -> bool {
    let sql = "SELECT coalesce(bool_or(relkind <> 'r' OR pg_relation_size(oid) <> 0), true) \
               FROM pg_class WHERE oid = ANY ($1)";
    let asked = async {
        let client = inner.config.connect(&inner.application).await?;
        client.batch_execute("SET lock_timeout = '1s'").await.map_err(sqlstate::error)?;
        get(&client.query_one(sql, &[&parts]).await.map_err(sqlstate::error)?, 0)
    };
    asked.await.unwrap_or_else(|error: trem_engine::Error| {
        tracing::debug!(%error, "could not see whether a new partition is empty");
        true
    })
}

/// Tables one of whose partitions does not log what tells its rows apart: the server refuses to change them as long as
/// they are published, or, where the table has no key, the log does not tell which row was deleted. Why, by their
/// numbers.
async fn foreign_identities(client: &Client, tables: &[(usize, Arc<TableSchema>)]) -> Result<HashMap<u32, String>> {
    let sql = "SELECT r.oid, min(c.oid::regclass::text) \
               FROM pg_class r CROSS JOIN LATERAL pg_partition_tree(r.oid) p JOIN pg_class c ON c.oid = p.relid \
               WHERE r.oid = ANY ($1) AND r.relkind = 'p' AND p.isleaf AND c.relkind = 'r' AND CASE c.relreplident \
                 WHEN 'f' THEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v') \
                 WHEN 'n' THEN true \
                 ELSE r.oid = ANY ($2) OR NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid \
                   AND i.indisvalid AND i.indimmediate \
                   AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END) END \
               GROUP BY 1";
    let keyless = numbers(tables.iter().map(|(_, t)| t).filter(|t| t.identity == Identity::Full));
    let all = numbers(tables.iter().map(|(_, t)| t));
    let rows = client.query(sql, &[&all, &keyless]).await.map_err(sqlstate::error)?;
    let why = |name: &str| {
        format!("the REPLICA IDENTITY of its partition {name} does not tell rows apart as the table's does")
    };
    rows.iter().map(|row| Ok((get(row, 0)?, why(get(row, 1)?)))).collect()
}
