//! What a statement leaves its mark on that rewrites a table.
//!
//! It logs nothing of the new values. It gives the table's file a new number, and where it changes values
//! (`ALTER TABLE ... TYPE ... USING`, `ADD COLUMN ... DEFAULT random()`) new versions of rows in `pg_attribute`.
//! `TRUNCATE`, which is in the log, `VACUUM FULL` and `CLUSTER` change only the former.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio_postgres::{Client, Row};
use trem_engine::Result;

use crate::postgres::row::get;
use crate::postgres::sqlstate;

/// The marks of tables, by their numbers, as they were when their rows were last known to be followed.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<HashMap<u32, Mark>>);

/// What a rewrite leaves its mark on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
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
        // A column added by a statement that rewrites has its values in the rows.
        let added = |(_, missing): (u32, bool)| !missing;
        let described = |(number, now): (&i16, &(u32, bool))| {
            self.columns.get(number).map_or_else(|| added(*now), |then| filled(*then, *now))
        };
        file && now.columns.iter().any(described)
    }
}

impl Marks {
    /// Compares with what was known and remembers it, unless the table was rewritten.
    pub(super) fn rewritten(&self, table: u32, now: Mark) -> bool {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rewritten = marks.get(&table).is_some_and(|then| then.rewritten(&now));
        if !rewritten {
            marks.insert(table, now);
        }
        rewritten
    }

    pub(super) fn loaded(&self, table: u32, mark: Mark) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table, mark);
    }
}

/// The catalogue as `client` sees it: all of it in one statement, so that a commit is seen whole or not at all.
pub(super) async fn marks(client: &Client, tables: &[u32]) -> Result<HashMap<u32, Mark>> {
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
        assert!(!then.rewritten(&mark(2, &[(5, false), (6, true), (9, true)])), "TRUNCATE, then ADD COLUMN");
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
