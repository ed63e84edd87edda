//! A single row of a table, for somebody to look at.

use tokio_postgres::Client;
use trem_engine::change::ChangeBatch;
use trem_engine::{Error, Result};

use super::literal::literal;
use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;
use crate::postgres::{counterpart, quote};

/// The row with the key of the first one of `like`.
pub(super) async fn look(client: &Client, like: &ChangeBatch) -> Result<Option<Vec<(String, Option<String>)>>> {
    let table = &like.table;
    if table.key.is_empty() {
        return Err(Error::refused("the target's table has no key by which a row could be asked for"));
    }
    let mut conditions = Vec::new();
    for at in &table.key {
        let column = &table.columns[*at];
        // A key is not NULL.
        let Some(value) = literal(like.rows.column(*at), 0, &column.ty)? else { return Ok(None) };
        conditions.push(format!("{} = {value}::{}", quote::ident(&column.name), counterpart::name(column)));
    }
    let columns: Vec<String> = table.columns.iter().map(|c| format!("{}::text", quote::ident(&c.name))).collect();
    let sql =
        format!("SELECT {} FROM {} WHERE {}", columns.join(", "), quote::table(&table.id), conditions.join(" AND "));
    let Some(row) = client.query_opt(&sql, &[]).await.map_err(pg)? else { return Ok(None) };
    let value = |(at, column): (usize, &trem_engine::schema::Column)| Ok((column.name.clone(), get(&row, at)?));
    table.columns.iter().enumerate().map(value).collect::<Result<_>>().map(Some)
}
