//! What functions on arrays give, for columns of them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};
use datafusion_common::Result;

use super::arguments::{Arguments, failed, texts};
use super::array_text;

/// The element at a place, one number for each dimension: `a[2]`, `array_element`.
pub(super) fn element(given: &Arguments<'_>) -> Result<ArrayRef> {
    let (array, place) = given.split()?;
    texts(given.rows, |row| {
        let place: Option<Vec<i64>> = place.iter().map(|at| at.whole(row)).collect();
        let (Some(array), Some(place)) = (array.text(row), place) else { return Ok(None) };
        array_text::element(array, &place).map(|element| element.map(Cow::Owned))
    })
}

/// How many elements a dimension has, the first one unless another is asked for: `array_length`.
pub(super) fn length(given: &Arguments<'_>) -> Result<ArrayRef> {
    let (array, dimension) = given.split()?;
    let length = |row: usize| {
        let dimension = dimension.first().map_or(Some(1), |d| d.whole(row));
        let (Some(array), Some(dimension)) = (array.text(row), dimension) else { return Ok(None) };
        let lengths = array_text::lengths(array).map_err(failed)?;
        Ok(usize::try_from(dimension).ok().and_then(|d| lengths.get(d.checked_sub(1)?).copied()))
    };
    Ok(Arc::new((0..given.rows).map(length).collect::<Result<Int64Array>>()?))
}
