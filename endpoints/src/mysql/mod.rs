//! MySQL and MariaDB.

mod binlog;
mod catalog;
mod charset;
pub mod config;
mod connect;
mod counterpart;
pub mod error;
pub mod kind;
mod quote;
mod row;
pub mod source;
pub mod target;
mod types;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use trem_engine::{Error, Result};

pub use source::MysqlSource;
pub use target::MysqlTarget;

/// Tells a server from others: MariaDB has no number of its own.
async fn identity(conn: &mut Conn) -> Result<String> {
    let sql = "SELECT concat_ws(':', @@hostname, @@port, @@datadir)";
    let row: Option<mysql_async::Row> = conn.query_first(sql).await.map_err(error::error)?;
    let row = row.ok_or_else(|| Error::fatal("the server does not say which one it is"))?;
    Ok(format!("mysql:{}", row::get::<String>(&row, 0)?))
}
