//! Single rows of a table, for somebody to look at.

use std::sync::Arc;

use trem_engine::change::{BatchBuilder, ChangeBatch};
use trem_engine::ports::Look;
use trem_engine::schema::TableSchema;
use trem_engine::{Error, Result};

use super::read::{push_row, select_list};
use super::relation;
use super::shared::Inner;
use crate::postgres::quote;
use crate::postgres::target::literal;
use crate::postgres::types::{TypeBook, Wire};
use crate::postgres::wire::Conn;
use crate::postgres::wire::copy::CopyDecoder;

/// These rows, as they are now.
pub(super) async fn look(inner: &Inner, table: &Arc<TableSchema>, rows: &Look) -> Result<ChangeBatch> {
    let wires = TypeBook::of(&*inner.client().await?, [table.as_ref()]).await?.wires(table);
    let list = select_list(table, &wires);
    let copy = match rows {
        Look::Some(count) => {
            format!("COPY (SELECT {list} FROM {} LIMIT {count}) TO STDOUT (FORMAT binary)", quote::table(&table.id))
        }
        Look::Key(key) => relation::by_key(table, &list, &literals(table, key)?),
        Look::KeyAlone(key) => {
            let alone = alone(table, &literals(table, key)?);
            format!("COPY (SELECT {list} FROM (SELECT {alone}) AS row_of_the_key) TO STDOUT (FORMAT binary)")
        }
    };
    read(&mut connect(inner).await?, table, &wires, &copy).await
}

/// The rows that the keys of these have now.
pub(super) async fn again(inner: &Inner, rows: &ChangeBatch, of: &[usize]) -> Result<Vec<Option<ChangeBatch>>> {
    let table = &rows.table;
    let wires = TypeBook::of(&*inner.client().await?, [table.as_ref()]).await?.wires(table);
    let list = select_list(table, &wires);
    let mut conn = connect(inner).await?;
    let mut found = Vec::with_capacity(of.len());
    for row in of {
        let value = |at: &usize| {
            let value = literal(rows.rows.column(*at), *row, &table.columns[*at].ty)?;
            value.ok_or_else(|| Error::fatal("internal: a key that is NULL"))
        };
        let key = table.key.iter().map(value).collect::<Result<Vec<String>>>()?;
        let row = read(&mut conn, table, &wires, &relation::by_key(table, &list, &key)).await?;
        found.push(Some(row).filter(|row| !row.is_empty()));
    }
    Ok(found)
}

async fn connect(inner: &Inner) -> Result<Conn> {
    let mut conn = inner.copying().await?;
    conn.query("SET lock_timeout = '10s'").await?;
    Ok(conn)
}

async fn read(conn: &mut Conn, table: &Arc<TableSchema>, wires: &[Wire], copy: &str) -> Result<ChangeBatch> {
    conn.start_copy(copy).await?;
    let (mut decoder, mut scratch) = (CopyDecoder::default(), Vec::new());
    let mut builder = BatchBuilder::new(Arc::clone(table));
    while let Some(message) = conn.copy_data().await? {
        if let Some(row) = decoder.row(&message)? {
            push_row(&mut builder, wires, row, &message, &mut scratch)?;
        }
    }
    builder.finish()
}

/// Fails unless there is one value for each column of the key.
fn literals(table: &TableSchema, key: &[String]) -> Result<Vec<String>> {
    if table.key.is_empty() || table.key.len() != key.len() {
        let names: Vec<&str> = table.key.iter().map(|at| table.columns[*at].name.as_str()).collect();
        let what = match names.is_empty() {
            true => "the table has no key, and its rows cannot be asked for one by one".to_owned(),
            false => format!("its key is ({}), and {} values were given", names.join(", "), key.len()),
        };
        return Err(Error::refused(what)
            .table(&table.id)
            .remedy("give a value for each column of the key, in its order"));
    }
    Ok(key.iter().map(|value| quote::literal(value)).collect())
}

/// A row with these values of the key, and NULL for the others.
fn alone(table: &TableSchema, literals: &[String]) -> String {
    let one = |(at, column): (usize, &trem_engine::schema::Column)| {
        let value = table.key.iter().position(|key| *key == at).map_or("NULL", |place| literals[place].as_str());
        format!("{value}::{} AS {}", column.native.name, quote::ident(&column.name))
    };
    table.columns.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
}
