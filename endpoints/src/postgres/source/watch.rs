//! What the log does not tell: tables dropped, renamed or rewritten, found by looking at the catalogue.
//!
//! A statement that rewrites a table logs nothing of the new values. It gives the table's file a new number, and where
//! it changes values (`ALTER TABLE ... TYPE ... USING`, `ADD COLUMN ... DEFAULT random()`) new versions of rows in
//! `pg_attribute`. `TRUNCATE`, which is in the log, `VACUUM FULL` and `CLUSTER` change only the former. What happened
//! while trem was not running is not seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::{Client, Row};
use trem_engine::Result;
use trem_engine::schema::{Identity, TableSchema};

use super::{Inner, get, lsn, setup};
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

/// By the tables' numbers.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<HashMap<u32, Mark>>);

/// What a rewrite leaves its mark on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mark {
    /// The file of each table that stores rows.
    files: HashMap<u32, u32>,
    /// For each column the transaction that wrote its description, and whether rows from before it was added get its
    /// value from there.
    columns: HashMap<i16, (u32, bool)>,
}

impl Mark {
    /// Whether a statement that changes columns has rewritten the table since.
    fn rewritten(&self, now: &Self) -> bool {
        let file = self.files.iter().any(|(part, file)| now.files.get(part).is_some_and(|f| f != file));
        // Any rewrite, VACUUM FULL too, moves such values into the rows and changes the description so.
        let filled = |(then, missing): (u32, bool), (now, still): (u32, bool)| then != now && (still || !missing);
        let described = |(number, now): (&i16, &(u32, bool))| self.columns.get(number).is_none_or(|t| filled(*t, *now));
        file && now.columns.iter().any(described)
    }
}

impl Marks {
    /// Compares with what was known and remembers it, unless the table was rewritten.
    fn rewritten(&self, table: u32, now: Mark) -> bool {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rewritten = marks.get(&table).is_some_and(|then| then.rewritten(&now));
        if !rewritten {
            marks.insert(table, now);
        }
        rewritten
    }

    fn loaded(&self, table: u32, mark: Mark) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table, mark);
    }
}

/// The catalogue as `client` sees it: all of it in one statement, so that a commit is seen whole or not at all.
async fn marks(client: &Client, tables: &[u32]) -> Result<HashMap<u32, Mark>> {
    let sql = "WITH RECURSIVE tree(root, oid) AS (SELECT t, t FROM unnest($1::oid[]) t UNION ALL \
                 SELECT t.root, i.inhrelid FROM tree t JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p' \
                   JOIN pg_inherits i ON i.inhparent = p.oid), \
               files AS (SELECT t.root, array_agg(c.oid) AS parts, array_agg(c.relfilenode) AS files \
                 FROM tree t JOIN pg_class c ON c.oid = t.oid WHERE c.relkind = 'r' GROUP BY 1) \
               SELECT a.attrelid, array_agg(a.attnum), array_agg(a.xmin::text), array_agg(a.atthasmissing), \
                 coalesce(f.parts, '{}'), coalesce(f.files, '{}') \
               FROM pg_attribute a LEFT JOIN files f ON f.root = a.attrelid \
               WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1, f.parts, f.files";
    let rows = client.query(sql, &[&tables]).await.map_err(sqlstate::error)?;
    rows.iter().map(|row| Ok((get(row, 0)?, mark(row)?))).collect()
}

fn mark(row: &Row) -> Result<Mark> {
    let (numbers, written): (Vec<i16>, Vec<&str>) = (get(row, 1)?, get(row, 2)?);
    let missing: Vec<bool> = get(row, 3)?;
    let written = written.into_iter().map(|x| x.parse().unwrap_or(0));
    let (parts, files): (Vec<u32>, Vec<u32>) = (get(row, 4)?, get(row, 5)?);
    let columns = numbers.into_iter().zip(written.zip(missing)).collect();
    Ok(Mark { files: parts.into_iter().zip(files).collect(), columns })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(file: u32, columns: &[(u32, bool)]) -> Mark {
        Mark { files: HashMap::from([(7, file)]), columns: (1..).zip(columns.iter().copied()).collect() }
    }

    #[test]
    fn only_a_rewrite_that_changes_columns_counts() {
        let then = mark(1, &[(5, false), (6, true)]);
        assert!(!then.rewritten(&then));
        assert!(!then.rewritten(&mark(2, &[(5, false), (6, true)])), "TRUNCATE");
        assert!(!then.rewritten(&mark(2, &[(5, false), (9, false)])), "VACUUM FULL");
        assert!(!then.rewritten(&mark(1, &[(5, false), (6, true), (9, true)])), "ADD COLUMN");
        assert!(then.rewritten(&mark(2, &[(9, false), (6, true)])), "TYPE ... USING");
        assert!(then.rewritten(&mark(2, &[(5, false), (6, true), (9, false)])), "a volatile default");
        let mut parts = then.clone();
        parts.files.insert(8, 3);
        assert!(!then.rewritten(&parts), "a new partition");
    }

    #[test]
    fn what_was_rewritten_stays_so_until_it_is_loaded() {
        let marks = Marks::default();
        assert!(!marks.rewritten(7, mark(1, &[(5, false)])));
        assert!(!marks.rewritten(7, mark(2, &[(5, false)])));
        assert!(!marks.rewritten(7, mark(2, &[(6, false)])), "the file has not changed since");
        assert!(marks.rewritten(7, mark(3, &[(8, false)])));
        assert!(marks.rewritten(7, mark(3, &[(8, false)])));
        marks.loaded(7, mark(3, &[(8, false)]));
        assert!(!marks.rewritten(7, mark(3, &[(8, false)])));
    }
}
