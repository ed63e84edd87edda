//! Both sides, compared as text.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::db::Db;
use crate::trem::Running;

/// Rows of a table shown when the sides differ.
const SHOWN: usize = 5;
/// Tables of up to this many rows are fetched to show how they differ.
const FETCHED: i64 = 200_000;
/// Tables that differ shown.
const TABLES: usize = 6;

/// How the tables that are alike by pattern (SQL `LIKE` on `schema.table`) differ; empty when both sides are equal.
///
/// Every column that the source has must be on the target; columns of the target alone are not looked at.
pub async fn differences(source: &Db, target: &Db, tables: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for pattern in tables {
        let names = table_names(source, pattern).await;
        if names.is_empty() {
            found.push(format!("the source has no table like {pattern}"));
        }
        for name in names {
            if let Some(difference) = table_difference(source, target, &name).await {
                found.push(difference);
            }
            if found.len() > TABLES {
                found.push("... and perhaps more".to_owned());
                return found;
            }
        }
    }
    found
}

/// Fails unless both sides are equal now.
#[track_caller]
pub fn assert_equal<'a>(source: &'a Db, target: &'a Db, tables: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
    let at = std::panic::Location::caller();
    async move {
        let found = differences(source, target, tables).await;
        assert!(found.is_empty(), "{at}: both sides differ:\n{}", found.join("\n"));
    }
}

/// Waits until both sides are equal, while `running` goes on.
#[track_caller]
pub fn wait_equal<'a>(
    source: &'a Db,
    target: &'a Db,
    tables: &'a [&'a str],
    running: &'a mut Running,
    limit: Duration,
) -> impl Future<Output = ()> + 'a {
    let at = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + limit;
        loop {
            let found = differences(source, target, tables).await;
            if found.is_empty() {
                return;
            }
            let ended = running.ended();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{at}: both sides still differ ({}):\n{}\ntrem logged:\n{}",
                ended.map_or_else(|| format!("after {limit:?}"), |code| format!("trem ended with {code:?}")),
                found.join("\n"),
                running.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Quoted names of the tables (partitions left out) that are alike by pattern.
async fn table_names(db: &Db, pattern: &str) -> Vec<String> {
    let sql = format!(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname <> 'trem' \
         AND n.nspname || '.' || c.relname LIKE '{pattern}' \
         AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1"
    );
    db.rows(&sql).await.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect()
}

async fn table_difference(source: &Db, target: &Db, table: &str) -> Option<String> {
    let sql = format!(
        "SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = $q${table}$q$::regclass AND attnum > 0 AND NOT attisdropped"
    );
    let columns = source.one(&sql).await;
    // Sums of hashes do not depend on the order of rows and need no sorting.
    let digest = format!(
        "SELECT count(*), sum(('x' || left(md5(r), 15))::bit(60)::bigint::numeric) \
         FROM (SELECT ROW({columns})::text AS r FROM {table}) AS t"
    );
    let (theirs, ours) = (source.try_rows(&digest).await, target.try_rows(&digest).await);
    let (theirs, ours) = match (theirs, ours) {
        (Ok(a), Ok(b)) if a == b => return None,
        (Ok(a), Ok(b)) => (a, b),
        (a, b) => return Some(format!("{table}: source {:?}, target {:?}", a.err(), b.err())),
    };
    let count = |rows: &[Vec<Option<String>>]| {
        rows.first().and_then(|r| r.first()).cloned().flatten().and_then(|c| c.parse::<i64>().ok()).unwrap_or(0)
    };
    let (there, here) = (count(&theirs), count(&ours));
    let mut text = format!("{table}: {there} rows at the source, {here} on the target");
    if there.max(here) <= FETCHED {
        let rows = format!("SELECT ROW({columns})::text FROM {table}");
        show_rows(&mut text, source.rows(&rows).await, target.rows(&rows).await);
    }
    Some(text)
}

fn show_rows(text: &mut String, source: Vec<Vec<Option<String>>>, target: Vec<Vec<Option<String>>>) {
    let mut surplus: BTreeMap<String, i64> = BTreeMap::new();
    for (rows, sign) in [(source, 1), (target, -1)] {
        for row in rows {
            *surplus.entry(row.into_iter().next().flatten().unwrap_or_default()).or_default() += sign;
        }
    }
    for (side, sign) in [("source", 1), ("target", -1)] {
        let rows: Vec<_> = surplus.iter().filter(|(_, n)| **n * sign > 0).collect();
        for (row, n) in rows.iter().take(SHOWN) {
            let row: String = row.chars().take(160).collect();
            text.push_str(&format!("\n  only at the {side} ({}x): {row}", n.abs()));
        }
        if rows.len() > SHOWN {
            text.push_str(&format!("\n  ... and {} more at the {side}", rows.len() - SHOWN));
        }
    }
}
