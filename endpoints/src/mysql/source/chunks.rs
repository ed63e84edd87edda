//! Chunks: ranges of a key of integers, or the whole table.

use std::ops::Range;

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use trem_engine::chunk::Chunk;
use trem_engine::ports::ChunkOptions;
use trem_engine::schema::{TableSchema, Type};
use trem_engine::{Error, Result};

use crate::mysql::connect::Session;
use crate::mysql::error::error;
use crate::mysql::quote;
use crate::mysql::row::get;

/// Chunks below this size are not worth another worker's while.
const SMALL: u64 = 16 << 20;
/// More chunks than this only make the record long.
const MOST: u64 = 1000;
/// What a table is read by that is not cut.
const WHOLE: &str = "whole";

/// Cuts a table.
pub(super) async fn plan(session: &mut Session, table: &TableSchema, options: ChunkOptions) -> Result<Vec<Chunk>> {
    let (rows, bytes) = size(session, table).await?;
    let chunk_bytes = options.chunk_bytes.min((bytes / options.parts.max(1)).max(SMALL));
    let wanted = bytes.div_ceil(chunk_bytes.max(1)).clamp(1, MOST);
    let ranges = match key(table) {
        Some(column) if wanted > 1 => ranges(session, table, column, wanted).await?,
        _ => vec![WHOLE.to_owned()],
    };
    let each = rows / (ranges.len() as u64).max(1);
    let chunk = |(range, id): (String, u32)| Chunk { id, range, survives: false, rows: each };
    Ok(ranges.into_iter().zip(0..).map(chunk).collect())
}

/// Rows and bytes, as the server estimates them.
async fn size(session: &mut Session, table: &TableSchema) -> Result<(u64, u64)> {
    let sql = format!(
        "SELECT coalesce(table_rows, 0), coalesce(data_length, 0) FROM information_schema.tables \
         WHERE table_schema = {} AND table_name = {}",
        quote::literal(&table.id.schema),
        quote::literal(&table.id.table)
    );
    let row: Option<Row> = session.conn.query_first(sql).await.map_err(error)?;
    row.map_or(Ok((0, 0)), |row| Ok((get(&row, 0)?, get(&row, 1)?)))
}

/// The first column of its key, if that is an integer.
fn key(table: &TableSchema) -> Option<&str> {
    let column = &table.columns[*table.key.first()?];
    let integer = matches!(
        column.ty,
        Type::Int8 | Type::Int16 | Type::Int32 | Type::Int64 | Type::UInt8 | Type::UInt16 | Type::UInt32 | Type::UInt64
    );
    integer.then_some(&column.name)
}

/// Equal parts of what is between the first and the last key. The server compares.
async fn ranges(session: &mut Session, table: &TableSchema, column: &str, wanted: u64) -> Result<Vec<String>> {
    let name = quote::ident(column);
    let sql = format!("SELECT CAST(min({name}) AS CHAR), CAST(max({name}) AS CHAR) FROM {}", quote::table(&table.id));
    let row: Option<Row> = session.conn.query_first(sql).await.map_err(error)?;
    let bounds: (Option<String>, Option<String>) =
        row.map_or(Ok((None, None)), |row| Ok::<_, Error>((get(&row, 0)?, get(&row, 1)?)))?;
    let number = |text: Option<String>| text.and_then(|text| text.parse::<i128>().ok());
    let (Some(first), Some(last)) = (number(bounds.0), number(bounds.1)) else { return Ok(vec![WHOLE.to_owned()]) };
    Ok(parts(first, last, wanted.into()))
}

fn parts(first: i128, last: i128, wanted: i128) -> Vec<String> {
    let step = ((last - first) / wanted).max(1);
    let bounds: Vec<i128> = (1..wanted).map(|n| first + n * step).filter(|bound| *bound <= last).collect();
    let mut ranges = vec![String::new(); bounds.len() + 1];
    for (at, range) in ranges.iter_mut().enumerate() {
        let lower = at.checked_sub(1).map_or_else(String::new, |at| bounds[at].to_string());
        let upper = bounds.get(at).map_or_else(String::new, i128::to_string);
        *range = format!("{lower}..{upper}");
    }
    ranges
}

/// The condition of a chunk's rows; empty for all of them.
pub(super) fn condition(table: &TableSchema, range: &str) -> Result<String> {
    let wrong = || Error::fatal(format!("internal: a chunk `{range}`")).table(&table.id);
    if range == WHOLE {
        return Ok(String::new());
    }
    let (lower, upper) = range.split_once("..").ok_or_else(wrong)?;
    let name = quote::ident(key(table).ok_or_else(wrong)?);
    let Range { start, end } = lower..upper;
    let mut conditions = Vec::new();
    for (sign, bound) in [(">=", start), ("<", end)] {
        if !bound.is_empty() {
            let bound: i128 = bound.parse().map_err(|_| wrong())?;
            conditions.push(format!("{name} {sign} {bound}"));
        }
    }
    Ok(if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_every_key_once() {
        assert_eq!(parts(1, 100, 4), ["..25", "25..49", "49..73", "73.."]);
        assert_eq!(parts(5, 5, 3), [".."]);
        let most = i128::from(u64::MAX);
        assert_eq!(parts(most - 1, most, 2), [format!("..{most}"), format!("{most}..")]);
    }
}
