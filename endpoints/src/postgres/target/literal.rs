//! Values as they stand in a statement.

use arrow_array::ArrayRef;
use trem_engine::schema::Type;
use trem_engine::{Error, Result};

use crate::postgres::quote;
use crate::view::View;

/// A value of a column as a literal without its type, if it is not NULL.
pub(in crate::postgres) fn literal(values: &ArrayRef, row: usize, ty: &Type) -> Result<Option<String>> {
    let view = View::of(values, ty)?;
    if view.is_null(row) {
        return Ok(None);
    }
    let mut text = Vec::new();
    view.put_text(row, &mut text);
    let text = String::from_utf8(text).map_err(|e| Error::fatal("internal: a value's text").cause(e))?;
    Ok(Some(quote::literal(&text)))
}
