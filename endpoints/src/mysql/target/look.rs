//! Single rows as the target has them, as text.

use mysql_async::prelude::Queryable;
use trem_engine::change::ChangeBatch;
use trem_engine::{Error, Result};

use super::encode::{self, Form};
use super::session::Session;
use crate::mysql::row::get;
use crate::mysql::{error, quote};
use crate::view::View;

/// The row with the key of the first one of `like`.
pub(super) async fn look(session: &mut Session, like: &ChangeBatch) -> Result<Option<Vec<(String, Option<String>)>>> {
    let table = &like.table;
    if table.key.is_empty() {
        return Err(Error::refused("the target's table has no key by which a row could be asked for"));
    }
    // Six digits are all that a text says of a FLOAT.
    let text = |name: &str, ty: &trem_engine::schema::Type| match ty {
        trem_engine::schema::Type::Float32 => format!("CAST({} + 0e0 AS CHAR)", quote::ident(name)),
        trem_engine::schema::Type::Binary(_) => format!("concat('0x', hex({}))", quote::ident(name)),
        _ => format!("CAST({} AS CHAR)", quote::ident(name)),
    };
    let columns: Vec<String> = table.columns.iter().map(|c| text(&c.name, &c.ty)).collect();
    let mut sql = format!("SELECT {} FROM {} WHERE true", columns.join(", "), quote::table(&table.id)).into_bytes();
    for at in &table.key {
        let column = &table.columns[*at];
        let view = View::of(like.rows.column(*at), &column.ty)?;
        sql.extend_from_slice(format!(" AND {} = ", quote::ident(&column.name)).as_bytes());
        encode::put_literal(&view, Form::Plain, 0, &mut sql)?;
    }
    let row: Option<mysql_async::Row> = session.conn.query_first(sql).await.map_err(error::error)?;
    let Some(row) = row else { return Ok(None) };
    let value = |(at, column): (usize, &trem_engine::schema::Column)| Ok((column.name.clone(), get(&row, at)?));
    table.columns.iter().enumerate().map(value).collect::<Result<_>>().map(Some)
}
