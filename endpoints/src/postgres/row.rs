//! Rows that the driver hands out.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use trem_engine::Result;

use super::sqlstate;

/// A field of a row, by its place.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(sqlstate::error)
}
