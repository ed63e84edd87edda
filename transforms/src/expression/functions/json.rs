//! What functions and operators on JSON give, for columns of it.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array};
use datafusion_common::Result;

use super::arguments::{Argument, Arguments, failed, texts};
use super::array_text;
use super::json_text::{self, Step};

/// As what a part of JSON comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// As it is written.
    Json,
    /// A string without quotes, NULL for `null`, anything else as it is written.
    Text,
}

/// The part at a key or a place: `->`, `->>`.
pub(super) fn get(given: &Arguments<'_>, part: Part) -> Result<ArrayRef> {
    let (json, keys) = given.split()?;
    let step = |key: &Argument<'_>, row: usize| {
        let step = key.text(row).map(|text| Step::key(text.to_owned()));
        step.or_else(|| key.whole(row).map(Step::at))
    };
    let steps = |row: usize| Ok(keys.iter().map(|key| step(key, row)).collect());
    parts(given.rows, json, part, keys.iter().all(Argument::is_constant), steps)
}

/// The part at a path that stands in one argument each: `json_extract_path`.
pub(super) fn extract(given: &Arguments<'_>, part: Part) -> Result<ArrayRef> {
    let (json, path) = given.split()?;
    let step = |key: &Argument<'_>, row: usize| {
        let step = key.text(row).map(|text| Step::either(text.to_owned()));
        step.or_else(|| key.whole(row).map(Step::at))
    };
    let steps = |row: usize| Ok(path.iter().map(|key| step(key, row)).collect());
    parts(given.rows, json, part, path.iter().all(Argument::is_constant), steps)
}

/// The part at a path that is an array: `#>`, `#>>`.
pub(super) fn follow(given: &Arguments<'_>, part: Part) -> Result<ArrayRef> {
    let (json, path) = given.split()?;
    let steps = |row: usize| match path.first().and_then(|path| path.text(row)) {
        Some(path) => {
            let keys = array_text::elements(path).map_err(failed)?;
            Ok(keys.into_iter().map(|key| key.map(Step::either)).collect())
        }
        None => Ok(None),
    };
    parts(given.rows, json, part, path.iter().all(Argument::is_constant), steps)
}

/// Of each row the part that its steps lead to; NULL where one of them is. Steps that are `constant` are made once.
fn parts(
    rows: usize,
    json: &Argument<'_>,
    part: Part,
    constant: bool,
    steps: impl Fn(usize) -> Result<Option<Vec<Step<'static>>>>,
) -> Result<ArrayRef> {
    let same = if constant { Some(steps(0)?) } else { None };
    texts(rows, |row| {
        let Some(json) = json.text(row) else { return Ok(None) };
        let steps = match &same {
            Some(steps) => Cow::Borrowed(steps),
            None => Cow::Owned(steps(row)?),
        };
        let Some(steps) = steps.as_ref() else { return Ok(None) };
        match (json_text::find(json, steps).map_err(failed)?, part) {
            (Some(found), Part::Text) => json_text::text(found).map_err(failed),
            (found, _) => Ok(found.map(Cow::Borrowed)),
        }
    })
}

/// What the value is: `json_typeof`.
pub(super) fn kind(given: &Arguments<'_>) -> Result<ArrayRef> {
    let (json, _) = given.split()?;
    texts(given.rows, |row| json.text(row).map(|json| json_text::kind(json).map(|kind| kind.name().into())).transpose())
}

/// How many elements an array has: `json_array_length`.
pub(super) fn length(given: &Arguments<'_>) -> Result<ArrayRef> {
    let (json, _) = given.split()?;
    let length = |json: &str| json_text::length(json).map(|length| length as i64).map_err(failed);
    let lengths = (0..given.rows).map(|row| json.text(row).map(length).transpose());
    Ok(Arc::new(lengths.collect::<Result<Int64Array>>()?))
}

/// Whether text is JSON: `json_valid`.
pub(super) fn valid(given: &Arguments<'_>) -> Result<ArrayRef> {
    let (text, _) = given.split()?;
    let valid = (0..given.rows).map(|row| text.text(row).map(json_text::is_json));
    Ok(Arc::new(valid.collect::<BooleanArray>()))
}

/// The same text, which has to be JSON: a cast.
pub(super) fn cast(given: &Arguments<'_>) -> Result<ArrayRef> {
    let (text, _) = given.split()?;
    texts(given.rows, |row| text.text(row).map(|text| json_text::kind(text).map(|_| Cow::Borrowed(text))).transpose())
}
