//! What functions are given, row by row, and what they give.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, StringArray};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs};

/// One argument: the same for all rows, or one for each.
#[derive(Debug)]
pub(super) enum Argument<'a> {
    Text(Option<&'a str>),
    Whole(Option<i64>),
    Texts(&'a StringArray),
    Wholes(&'a Int64Array),
}

impl<'a> Argument<'a> {
    fn new(value: &'a ColumnarValue) -> Result<Self> {
        let argument = match value {
            ColumnarValue::Scalar(ScalarValue::Utf8(text)) => Some(Self::Text(text.as_deref())),
            ColumnarValue::Scalar(ScalarValue::Int64(whole)) => Some(Self::Whole(*whole)),
            ColumnarValue::Scalar(_) => None,
            ColumnarValue::Array(array) => array
                .as_string_opt()
                .map(Self::Texts)
                .or_else(|| array.as_primitive_opt::<Int64Type>().map(Self::Wholes)),
        };
        argument.ok_or_else(|| exec_datafusion_err!("internal: an argument of type {}", value.data_type()))
    }

    /// Whether it is the same for all rows.
    pub(super) fn is_constant(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Whole(_))
    }

    /// Of this row, if it is text.
    pub(super) fn text(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Text(text) => *text,
            Self::Texts(all) => all.is_valid(row).then(|| all.value(row)),
            Self::Whole(_) | Self::Wholes(_) => None,
        }
    }

    /// Of this row, if it is a number.
    pub(super) fn whole(&self, row: usize) -> Option<i64> {
        match self {
            Self::Whole(whole) => *whole,
            Self::Wholes(all) => all.is_valid(row).then(|| all.value(row)),
            Self::Text(_) | Self::Texts(_) => None,
        }
    }
}

/// All arguments, and for how many rows.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    pub(super) all: Vec<Argument<'a>>,
    pub(super) rows: usize,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(given: &'a ScalarFunctionArgs) -> Result<Self> {
        let all = given.args.iter().map(Argument::new).collect::<Result<Vec<_>>>()?;
        let rows = if all.iter().all(Argument::is_constant) { 1 } else { given.number_rows };
        Ok(Self { all, rows })
    }

    /// The first one, which all functions have, and the others.
    pub(super) fn split(&self) -> Result<(&Argument<'a>, &[Argument<'a>])> {
        self.all.split_first().ok_or_else(|| exec_datafusion_err!("internal: no argument"))
    }
}

/// A value that is the same for all rows stays one.
pub(super) fn shared(values: ArrayRef, given: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let constant = given.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
    match constant && values.len() == 1 {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
        false => Ok(ColumnarValue::Array(values)),
    }
}

/// A column of text, of one text for each row.
pub(super) fn texts<'t, F: Display>(
    rows: usize,
    mut of: impl FnMut(usize) -> Result<Option<Cow<'t, str>>, F>,
) -> Result<ArrayRef> {
    let mut out = StringBuilder::with_capacity(rows, 0);
    for row in 0..rows {
        let text = of(row).map_err(failed)?;
        let room = i32::MAX as usize - out.values_slice().len();
        if text.as_ref().is_some_and(|text| text.len() > room) {
            return exec_err!("more than 2 GiB of text");
        }
        out.append_option(text);
    }
    Ok(Arc::new(out.finish()))
}

/// What a row cannot be done with.
pub(super) fn failed(fault: impl Display) -> DataFusionError {
    DataFusionError::Execution(fault.to_string())
}
