//! Our own functions as the planner and the evaluation know them.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_schema::DataType;
use datafusion_common::{Result, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::arguments::{Arguments, shared};
use super::json::Part;
use super::{arrays, json, uuids};

/// A function, an operator or a cast of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Own {
    /// `->`, `->>`
    Get(Part),
    /// `#>`, `#>>`
    Follow(Part),
    /// `json_extract_path`, `json_extract_path_text`
    Extract(Part),
    JsonTypeof,
    JsonArrayLength,
    JsonValid,
    /// `CAST(... AS json)`
    CastJson,
    /// `a[2]`
    Subscript,
    ArrayElement,
    ArrayLength,
    UuidV5,
    /// `CAST(... AS uuid)`
    CastUuid,
}

/// What may stand in the place of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Json,
    Array,
    Text,
    Whole,
    /// A text or a whole number.
    Key,
    /// An array of keys, such as `'{a,0}'`.
    Path,
}

impl Own {
    pub(super) const ALL: [Self; 15] = [
        Self::Get(Part::Json),
        Self::Get(Part::Text),
        Self::Follow(Part::Json),
        Self::Follow(Part::Text),
        Self::Extract(Part::Json),
        Self::Extract(Part::Text),
        Self::JsonTypeof,
        Self::JsonArrayLength,
        Self::JsonValid,
        Self::CastJson,
        Self::Subscript,
        Self::ArrayElement,
        Self::ArrayLength,
        Self::UuidV5,
        Self::CastUuid,
    ];

    /// How it is written. What is no name of a function is not called as one.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get(Part::Json) => "->",
            Self::Get(Part::Text) => "->>",
            Self::Follow(Part::Json) => "#>",
            Self::Follow(Part::Text) => "#>>",
            Self::Extract(Part::Json) => "json_extract_path",
            Self::Extract(Part::Text) => "json_extract_path_text",
            Self::JsonTypeof => "json_typeof",
            Self::JsonArrayLength => "json_array_length",
            Self::JsonValid => "json_valid",
            Self::CastJson => "CAST AS json",
            Self::Subscript => "[]",
            Self::ArrayElement => "array_element",
            Self::ArrayLength => "array_length",
            Self::UuidV5 => "uuid_v5",
            Self::CastUuid => "CAST AS uuid",
        }
    }

    /// What comes out, and whether it is JSON.
    pub(super) fn gives(self) -> (DataType, bool) {
        match self {
            Self::Get(part) | Self::Follow(part) | Self::Extract(part) => (DataType::Utf8, part == Part::Json),
            Self::CastJson => (DataType::Utf8, true),
            Self::JsonTypeof | Self::Subscript | Self::ArrayElement | Self::UuidV5 | Self::CastUuid => {
                (DataType::Utf8, false)
            }
            Self::JsonArrayLength | Self::ArrayLength => (DataType::Int64, false),
            Self::JsonValid => (DataType::Boolean, false),
        }
    }

    /// What its arguments have to be, and how many of them there may be. The last kind goes on to the end.
    pub(super) fn takes(self) -> (&'static [Takes], std::ops::RangeInclusive<usize>) {
        match self {
            Self::Get(_) => (&[Takes::Json, Takes::Key], 2..=2),
            Self::Follow(_) => (&[Takes::Json, Takes::Path], 2..=2),
            Self::Extract(_) => (&[Takes::Json, Takes::Key], 2..=usize::MAX),
            Self::JsonTypeof | Self::JsonArrayLength => (&[Takes::Json], 1..=1),
            Self::JsonValid | Self::CastJson | Self::CastUuid => (&[Takes::Text], 1..=1),
            Self::Subscript | Self::ArrayElement => (&[Takes::Array, Takes::Whole], 2..=7),
            Self::ArrayLength => (&[Takes::Array, Takes::Whole], 1..=2),
            Self::UuidV5 => (&[Takes::Text, Takes::Text], 2..=2),
        }
    }

    /// The call of it.
    pub(super) fn call(self, arguments: Vec<Expr>) -> Expr {
        Expr::ScalarFunction(ScalarFunction::new_udf(self.function(), arguments))
    }

    /// As the planner knows it.
    pub(super) fn function(self) -> Arc<ScalarUDF> {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Function { own: self, signature }))
    }

    /// What a call is of, if it is of our own.
    pub(super) fn called(call: &ScalarFunction) -> Option<Self> {
        let implementation: &dyn std::any::Any = call.func.inner().as_ref();
        implementation.downcast_ref::<Function>().map(|function| function.own)
    }

    fn evaluate(self, given: &Arguments<'_>) -> Result<ArrayRef> {
        match self {
            Self::Get(part) => json::get(given, part),
            Self::Follow(part) => json::follow(given, part),
            Self::Extract(part) => json::extract(given, part),
            Self::JsonTypeof => json::kind(given),
            Self::JsonArrayLength => json::length(given),
            Self::JsonValid => json::valid(given),
            Self::CastJson => json::cast(given),
            Self::Subscript | Self::ArrayElement => arrays::element(given),
            Self::ArrayLength => arrays::length(given),
            Self::UuidV5 => uuids::of_name(given),
            Self::CastUuid => uuids::cast(given),
        }
    }
}

impl Takes {
    /// As what an argument of this type is given, if it may be.
    pub(super) fn from(self, ty: &DataType) -> Option<DataType> {
        let text = matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        match self {
            Self::Whole | Self::Key if ty.is_integer() => Some(DataType::Int64),
            Self::Whole if ty.is_null() => Some(DataType::Int64),
            Self::Whole => None,
            _ => (text || ty.is_null()).then_some(DataType::Utf8),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    own: Own,
    signature: Signature,
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.own.gives().0)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (kinds, count) = self.own.takes();
        let kinds = kinds.iter().chain(std::iter::repeat(kinds.last().unwrap_or(&Takes::Text)));
        let coerced: Option<Vec<DataType>> = kinds.zip(types).map(|(takes, ty)| takes.from(ty)).collect();
        match coerced {
            Some(coerced) if count.contains(&types.len()) => Ok(coerced),
            // The check of all calls has told more of it.
            _ => plan_err!("{} does not take these", self.own.name()),
        }
    }

    fn invoke_with_args(&self, given: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = self.own.evaluate(&Arguments::new(&given)?)?;
        shared(values, &given)
    }
}
