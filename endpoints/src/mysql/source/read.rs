//! Reading one chunk: rows of the binary protocol into batches. Over the text protocol a FLOAT has six digits.

use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};
use tokio::sync::mpsc;
use trem_engine::change::{BatchBuilder, ChangeBatch, ColumnBuilder, ColumnMask, Op};
use trem_engine::chunk::Chunk;
use trem_engine::schema::{Column, Length, TableSchema, Type};
use trem_engine::{Error, Result};

use super::chunks;
use super::readers::Readers;
use crate::mysql::binlog::row::{bits, no_such_day};
use crate::mysql::binlog::temporal::{self, SECOND};
use crate::mysql::error::error;
use crate::mysql::quote;

/// Reads a chunk by a session of the snapshot, which goes back to the others unless something fails.
pub(super) async fn chunk(
    readers: &Readers,
    table: &Arc<TableSchema>,
    chunk: &Chunk,
    batch_bytes: usize,
    send: &mpsc::Sender<Result<ChangeBatch>>,
) -> Result<()> {
    let mut session = readers.take().await?;
    let columns: Vec<String> = table.columns.iter().map(|c| quote::ident(&c.name)).collect();
    let condition = chunks::condition(table, &chunk.range)?;
    let sql = format!("SELECT {} FROM {}{condition}", columns.join(", "), quote::table(&table.id));
    let mut rows = session.conn.exec_iter(sql, ()).await.map_err(error)?;
    let mut builder = BatchBuilder::new(Arc::clone(table));
    let mut bytes = 0;
    while let Some(row) = rows.next().await.map_err(error)? {
        bytes += push_row(&mut builder, table, row)?;
        if bytes >= batch_bytes.max(1) {
            bytes = 0;
            if send.send(builder.finish()).await.is_err() {
                // Nobody wants the rest, which the session would have to read first.
                return Ok(());
            }
        }
    }
    drop(rows);
    if !builder.is_empty() {
        let _ = send.send(builder.finish()).await;
    }
    readers.give_back(session).await;
    Ok(())
}

/// Appends a row; how many bytes it has, about.
fn push_row(builder: &mut BatchBuilder, table: &TableSchema, row: Row) -> Result<usize> {
    let mut bytes = 0;
    // Fails for a value that was taken out before: none was.
    for (at, (value, column)) in row.unwrap().into_iter().zip(&table.columns).enumerate() {
        bytes += match &value {
            Value::Bytes(bytes) => bytes.len(),
            _ => 8,
        };
        push(&mut builder.columns()[at], column, value).map_err(|e| e.context(format!("column {}", column.name)))?;
    }
    builder.end_row(Op::Insert, &ColumnMask::default())?;
    Ok(bytes)
}

/// Appends a value. What the log has of it has to come out the same ([`Reading`](crate::mysql::binlog::row::Reading)).
fn push(builder: &mut ColumnBuilder, column: &Column, value: Value) -> Result<()> {
    let wrong = || Error::fatal(format!("internal: a value that is none of type {}", column.ty));
    match value {
        Value::NULL => builder.push_null(),
        Value::Int(n) => return integer(builder, &column.ty, n.into()),
        Value::UInt(n) => return integer(builder, &column.ty, n.into()),
        Value::Float(f) => builder.push_f32(f)?,
        Value::Double(f) => builder.push_f64(f)?,
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let (date, time) = ((year.into(), month.into(), day.into()), (hour.into(), minute.into(), second.into()));
            let none = || no_such_day(date.0, date.1, date.2);
            match column.ty {
                Type::Date => builder.push_i32(temporal::days(date.0, date.1, date.2).ok_or_else(none)?)?,
                _ => builder.push_i64(temporal::micros(date, time, micros).ok_or_else(none)?)?,
            }
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let hours = i64::from(days) * 24 + i64::from(hours);
            let seconds = hours * 3600 + i64::from(minutes) * 60 + i64::from(seconds);
            let micros = seconds * SECOND + i64::from(micros);
            builder.push_i64(if negative { -micros } else { micros })?;
        }
        Value::Bytes(bytes) => match &column.ty {
            Type::Bit(length) => builder.push_slice(bits(&bytes, *length).as_bytes())?,
            Type::Binary(Length::Exactly(length)) if bytes.len() < *length as usize => return Err(wrong()),
            Type::Uuid => builder.push_16(&uuid(&bytes).ok_or_else(wrong)?)?,
            _ => builder.push_bytes(bytes.into())?,
        },
    }
    Ok(())
}

fn integer(builder: &mut ColumnBuilder, ty: &Type, value: i128) -> Result<()> {
    let wrong = |_| Error::fatal(format!("internal: {value} is no value of type {ty}"));
    match ty {
        Type::UInt64 => builder.push_u64(u64::try_from(value).map_err(wrong)?),
        Type::Int64 | Type::UInt32 => builder.push_i64(i64::try_from(value).map_err(wrong)?),
        Type::Int32 | Type::UInt16 => builder.push_i32(i32::try_from(value).map_err(wrong)?),
        _ => builder.push_i16(i16::try_from(value).map_err(wrong)?),
    }
}

/// Of its text.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .iter()
        .filter(|c| **c != b'-')
        .map(|c| char::from(*c).to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok()
}
