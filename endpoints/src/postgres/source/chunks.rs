//! Cutting tables into chunks, and the SQL that reads a chunk.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use trem_engine::chunk::Chunk;
use trem_engine::ports::ChunkOptions;
use trem_engine::schema::{Identity, TableId, TableSchema, Type};
use trem_engine::{Error, Result};

use super::range::{ChunkRange, KeyBound};
use crate::datetime;
use crate::postgres::row::get;
use crate::postgres::types::table_number;
use crate::postgres::{decode, quote, sqlstate};

/// More chunks than this for one table cost more than they bring.
const MOST_CHUNKS: u64 = 10_000;
/// A chunk below this size is not worth another worker's while.
const SMALL_CHUNK: u64 = 16 << 20;
/// Blocks to look at when the boundaries of key ranges are estimated.
const SAMPLE_BLOCKS: f64 = 3_000.0;

/// Rows of one table file, meaningful within one snapshot.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Physical {
    /// The schema of the table or partition that stores them.
    schema: String,
    /// Its name.
    table: String,
    /// The first block; `None` with all of them.
    from: Option<u64>,
    /// The block after the last; `None` to the end.
    to: Option<u64>,
}

/// A table that stores rows: the table itself, or a partition of it.
struct Part {
    schema: String,
    table: String,
    bytes: u64,
    blocks: u64,
    rows: u64,
    partition: bool,
}

/// Cuts a table.
pub(super) async fn plan(client: &Client, table: &TableSchema, options: ChunkOptions) -> Result<Vec<Chunk>> {
    let parts = parts(client, table).await?;
    let (bytes, rows) = parts.iter().fold((0, 0), |(b, r), p| (b + p.bytes, r + p.rows));
    let chunk_bytes = options.chunk_bytes.min((bytes / options.parts.max(1)).max(SMALL_CHUNK));
    let ranges = if bytes >= options.resume_above_bytes
        && let Some(ranges) = key_ranges(client, table, &parts, chunk_bytes).await?
    {
        let each = rows / (ranges.len() as u64).max(1);
        ranges.into_iter().map(|range| (range, each)).collect()
    } else if options.physical {
        physical(&parts, chunk_bytes)?
    } else {
        vec![(ChunkRange::Whole, rows)]
    };
    // A partitioned table may be without partitions, and its load is still one that begins and ends.
    let ranges = if ranges.is_empty() { vec![(ChunkRange::Whole, 0)] } else { ranges };
    let chunk = |((range, rows), id): ((ChunkRange, u64), u32)| {
        Ok(Chunk { id, range: range.text()?, survives: range.survives(), rows })
    };
    ranges.into_iter().zip(0..).map(chunk).collect()
}

async fn parts(client: &Client, table: &TableSchema) -> Result<Vec<Part>> {
    // A table without statistics has -1 rows: a guess from its size serves progress well enough.
    let sql = "SELECT n.nspname::text, c.relname::text, pg_table_size(c.oid), \
                 pg_relation_size(c.oid) / current_setting('block_size')::int8, \
                 CASE WHEN c.reltuples >= 0 AND c.relpages > 0 \
                   THEN (c.reltuples / c.relpages \
                     * (pg_relation_size(c.oid) / current_setting('block_size')::int8))::int8 \
                   ELSE pg_relation_size(c.oid) / 100 END, \
                 c.relispartition AND c.oid <> r.oid \
               FROM pg_class r \
               JOIN pg_class c ON c.oid = r.oid AND r.relkind = 'r' \
                 OR r.relkind = 'p' AND c.oid IN (SELECT relid FROM pg_partition_tree(r.oid) WHERE isleaf) \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE r.oid = to_regclass($1) AND c.relkind <> 'p' ORDER BY 1, 2";
    let name = quote::table(&table.id);
    let rows = client.query(sql, &[&name]).await.map_err(sqlstate::error)?;
    let number = |row, index| -> Result<u64> { Ok(u64::try_from(get::<i64>(row, index)?).unwrap_or(0)) };
    let parts = rows.iter().map(|row| {
        Ok(Part {
            schema: get(row, 0)?,
            table: get(row, 1)?,
            bytes: number(row, 2)?,
            blocks: number(row, 3)?,
            rows: number(row, 4)?,
            partition: get(row, 5)?,
        })
    });
    parts.collect()
}

fn physical(parts: &[Part], chunk_bytes: u64) -> Result<Vec<(ChunkRange, u64)>> {
    let mut ranges = Vec::new();
    for part in parts {
        let wanted = part.bytes.div_ceil(chunk_bytes.max(1)).clamp(1, MOST_CHUNKS.min(part.blocks.max(1)));
        if wanted == 1 && !part.partition {
            ranges.push((ChunkRange::Whole, part.rows));
            continue;
        }
        let step = part.blocks.div_ceil(wanted).max(1);
        for n in 0..wanted {
            let physical = Physical {
                schema: part.schema.clone(),
                table: part.table.clone(),
                from: (n > 0).then_some(n * step),
                to: (n + 1 < wanted).then_some((n + 1) * step),
            };
            let text = serde_json::to_string(&physical).map_err(|e| Error::fatal("internal: a chunk").cause(e))?;
            ranges.push((ChunkRange::Physical(text), part.rows / wanted));
        }
    }
    Ok(ranges)
}

/// Ranges of the first key column, if its type and collation order values as [`KeyBound`] does.
async fn key_ranges(
    client: &Client,
    table: &TableSchema,
    parts: &[Part],
    chunk_bytes: u64,
) -> Result<Option<Vec<ChunkRange>>> {
    if !matches!(table.identity, Identity::Key | Identity::KeyWithFullImage) {
        return Ok(None);
    }
    let Some(&column) = table.key.first() else { return Ok(None) };
    if !ordered_alike(client, table, column).await? {
        return Ok(None);
    }
    let (bytes, blocks) = parts.iter().fold((0, 0), |(by, bl), p| (by + p.bytes, bl + p.blocks));
    let wanted = bytes.div_ceil(chunk_bytes.max(1)).clamp(1, MOST_CHUNKS);
    let fractions: Vec<f64> = (1..wanted).map(|n| n as f64 / wanted as f64).collect();
    let percent = (SAMPLE_BLOCKS * 100.0 / (blocks.max(1) as f64)).min(100.0);
    let name = quote::ident(&table.columns[column].name);
    let sql = format!(
        "SELECT q.o::text FROM (SELECT DISTINCT o FROM unnest((SELECT percentile_disc($1::float8[]) WITHIN GROUP \
         (ORDER BY {name}) FROM {}{} TABLESAMPLE SYSTEM ({percent}))) u(o) WHERE o IS NOT NULL) q ORDER BY q.o",
        only(parts),
        quote::table(&table.id),
    );
    let rows = client.query(&sql, &[&fractions]).await.map_err(sqlstate::error)?;
    let mut bounds = Vec::with_capacity(rows.len());
    for row in &rows {
        bounds.push(parse_bound(&table.columns[column].ty, get(row, 0)?)?);
    }
    let mut ranges = Vec::with_capacity(bounds.len() + 1);
    let mut lower = None;
    for bound in bounds {
        ranges.push(ChunkRange::Key { column, lower: lower.replace(bound.clone()), upper: Some(bound) });
    }
    ranges.push(ChunkRange::Key { column, lower, upper: None });
    Ok(Some(ranges))
}

/// `ONLY` keeps tables that inherit out; a partitioned table is nothing but those.
fn only(parts: &[Part]) -> &'static str {
    if parts.iter().any(|p| p.partition) { "" } else { "ONLY " }
}

async fn ordered_alike(client: &Client, table: &TableSchema, column: usize) -> Result<bool> {
    use Type as L;
    match table.columns[column].ty {
        L::Int16 | L::Int32 | L::Int64 | L::Date | L::Timestamp(_) | L::TimestampTz(_) | L::Uuid => Ok(true),
        L::Text(_) => {
            let sql = "SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_collation l ON l.oid = a.attcollation \
                         CROSS JOIN pg_database d \
                       WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND a.atttypid IN (25, 1043) \
                         AND d.datname = current_database() AND (l.collname IN ('C', 'POSIX') \
                           OR l.collname = 'default' AND d.datcollate IN ('C', 'POSIX') AND \
                              coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'))";
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
                [&quote::table(&table.id), &table.columns[column].name];
            get(&client.query_one(sql, &parameters).await.map_err(sqlstate::error)?, 0)
        }
        _ => Ok(false),
    }
}

fn parse_bound(ty: &Type, text: &str) -> Result<KeyBound> {
    let wrong = || Error::fatal(format!("`{text}` cannot be a bound of a key range"));
    Ok(match ty {
        Type::Date => KeyBound::Int(datetime::parse_date(text.as_bytes())?.into()),
        Type::Timestamp(_) | Type::TimestampTz(_) => KeyBound::Int(datetime::parse_timestamp(text.as_bytes())?),
        Type::Uuid => KeyBound::Bytes(decode::uuid(text.as_bytes()).ok_or_else(wrong)?.to_vec()),
        Type::Text(_) => KeyBound::Bytes(text.as_bytes().to_vec()),
        _ => KeyBound::Int(text.parse().map_err(|_| wrong())?),
    })
}

/// A bound as SQL.
fn bound_sql(ty: &Type, bound: &KeyBound) -> Result<String> {
    let wrong = || Error::fatal("a key range of this table was recorded for a column of another type");
    let mut text = Vec::new();
    match (ty, bound) {
        (Type::Date, KeyBound::Int(days)) => {
            datetime::write_date(i32::try_from(*days).map_err(|_| wrong())?, &mut text);
        }
        (Type::Timestamp(_), KeyBound::Int(micros)) => datetime::write_timestamp(*micros, false, &mut text),
        (Type::TimestampTz(_), KeyBound::Int(micros)) => datetime::write_timestamp(*micros, true, &mut text),
        (Type::Int16 | Type::Int32 | Type::Int64, KeyBound::Int(n)) => {
            return Ok(format!("'{n}'"));
        }
        (Type::Text(_), KeyBound::Bytes(bytes)) => text.clone_from(bytes),
        (Type::Uuid, KeyBound::Bytes(bytes)) => text.extend(bytes.iter().flat_map(|b| {
            let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0') as u8;
            [digit(b >> 4), digit(b & 15)]
        })),
        _ => return Err(wrong()),
    }
    Ok(quote::literal(&String::from_utf8(text).map_err(|_| wrong())?))
}

/// `FROM ... WHERE ...` of a chunk. Rows of tables that inherit from this one are published under their own name,
/// rows of partitions under the partitioned table's.
pub(super) fn from_where(
    table: &TableSchema,
    range: &ChunkRange,
    partitioned: bool,
    wanted: Option<String>,
) -> Result<String> {
    let mut from = format!("FROM {}{}", if partitioned { "" } else { "ONLY " }, quote::table(&table.id));
    let mut conditions: Vec<String> = Vec::new();
    match range {
        ChunkRange::Whole => {}
        ChunkRange::Physical(_) => {
            if let Some(part) = part_of(range)? {
                from = format!("FROM ONLY {}.{}", quote::ident(&part.schema), quote::ident(&part.table));
                let bounds = [part.from.map(|b| (">=", b)), part.to.map(|b| ("<", b))];
                conditions.extend(bounds.into_iter().flatten().map(|(op, b)| format!("ctid {op} '({b},0)'::tid")));
            }
        }
        ChunkRange::Key { column, lower, upper } => {
            let wrong = || Error::fatal("a key range was recorded for a column that is not there").table(&table.id);
            let column = table.columns.get(*column).ok_or_else(wrong)?;
            let key = quote::ident(&column.name);
            for (op, bound) in [(">=", lower), ("<", upper)] {
                if let Some(bound) = bound {
                    conditions.push(format!("{key} {op} {}", bound_sql(&column.ty, bound)?));
                }
            }
        }
    }
    conditions.extend(wanted);
    if conditions.is_empty() { Ok(from) } else { Ok(format!("{from} WHERE {}", conditions.join(" AND "))) }
}

fn part_of(range: &ChunkRange) -> Result<Option<Physical>> {
    match range {
        ChunkRange::Physical(text) => {
            serde_json::from_str(text).map(Some).map_err(|e| Error::fatal("a recorded chunk cannot be read").cause(e))
        }
        ChunkRange::Whole | ChunkRange::Key { .. } => Ok(None),
    }
}

/// The statement that keeps the tables of a chunk from being rewritten.
pub(super) fn lock(table: &TableSchema, range: &ChunkRange, partitioned: bool) -> Result<String> {
    let name = match part_of(range)? {
        Some(part) => format!("ONLY {}", quote::table(&TableId::new(part.schema, part.table))),
        None => format!("{}{}", if partitioned { "" } else { "ONLY " }, quote::table(&table.id)),
    };
    Ok(format!("LOCK TABLE {name} IN ACCESS SHARE MODE"))
}

/// Asks whether the files that store a chunk are those of the snapshot: catalogue rows are as the snapshot sees them,
/// while `pg_relation_filenode` knows the latest. NULL if the snapshot does not have the table.
pub(super) fn same_files(table: &TableSchema, range: &ChunkRange) -> Result<String> {
    let one = match part_of(range)? {
        Some(part) => format!(
            "WHERE n.nspname = {} AND c.relname = {}",
            quote::literal(&part.schema),
            quote::literal(&part.table)
        ),
        None => String::new(),
    };
    Ok(format!(
        "WITH RECURSIVE tree AS (SELECT {}::oid AS oid UNION ALL SELECT i.inhrelid FROM tree t \
           JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p' JOIN pg_inherits i ON i.inhparent = p.oid) \
         SELECT bool_and(c.relkind <> 'r' OR c.relfilenode IS NOT DISTINCT FROM pg_relation_filenode(c.oid)) \
         FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace {one}",
        table_number(table)
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use trem_engine::schema::Length;

    use super::*;

    fn part(bytes: u64, blocks: u64, partition: bool) -> Part {
        Part { schema: "s".to_owned(), table: "t\"1".to_owned(), bytes, blocks, rows: 1000, partition }
    }

    #[test]
    fn blocks_are_covered_once() {
        for (blocks, chunk) in [(1, 8192), (100, 8192 * 30), (101, 8192 * 10), (7, 1)] {
            let ranges = physical(&[part(blocks * 8192, blocks, false)], chunk).unwrap();
            let mut next = 0;
            for (index, (range, _)) in ranges.iter().enumerate() {
                let ChunkRange::Physical(text) = range else {
                    assert_eq!(ranges.len(), 1);
                    continue;
                };
                let p: Physical = serde_json::from_str(text).unwrap();
                assert_eq!(p.from.unwrap_or(0), next);
                assert_eq!(p.to.is_none(), index + 1 == ranges.len());
                next = p.to.unwrap_or(0);
            }
        }
    }

    #[test]
    fn a_partition_is_read_under_its_own_name() {
        let ranges = physical(&[part(8192, 1, true), part(8192, 1, true)], 1 << 20).unwrap();
        assert_eq!(ranges.len(), 2);
        let sql = from_where(&crate::postgres::source::relation::tests::table(), &ranges[0].0, true, None).unwrap();
        assert_eq!(sql, "FROM ONLY \"s\".\"t\"\"1\"");
    }

    #[test]
    fn bounds_become_the_same_sql_values() {
        for (ty, text) in [
            (Type::Int64, "-5"),
            (Type::Date, "4714-11-24 BC"),
            (Type::Date, "infinity"),
            (Type::Timestamp(6), "2024-02-29 23:59:59.999999"),
            (Type::TimestampTz(6), "294276-12-31 23:59:59+00"),
            (Type::Text(Length::Unlimited), "O'Neil"),
        ] {
            let bound = parse_bound(&ty, text).unwrap();
            assert_eq!(bound_sql(&ty, &bound).unwrap(), quote::literal(text));
        }
        let bound = parse_bound(&Type::Uuid, "0123abcd-0000-0000-0000-0000000000ff").unwrap();
        assert_eq!(bound_sql(&Type::Uuid, &bound).unwrap(), "'0123abcd0000000000000000000000ff'");
        assert!(bound_sql(&Type::Uuid, &KeyBound::Int(1)).is_err());
    }
}
