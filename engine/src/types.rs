//! Canonical types: what a column's values mean, whatever database they come from, and how they stand in Arrow.

use std::borrow::Cow;
use std::fmt;

use arrow_schema::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

/// How long values of a type may be: characters of text, bytes, or bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// As long as they like.
    Unlimited,
    /// Up to so many.
    AtMost(u32),
    /// So many, no more and no fewer.
    Exactly(u32),
}

/// What a column's values mean, and thereby how they stand in Arrow. `docs/TYPES.md` is the table of it.
///
/// Fractions of seconds are counted in digits, 0 to 6.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    /// `Boolean`.
    Bool,
    /// `Int16`.
    Int8,
    /// `Int16`.
    Int16,
    /// `Int32`.
    Int32,
    /// `Int64`.
    Int64,
    /// `Int16`.
    #[serde(rename = "uint8")]
    UInt8,
    /// `Int32`.
    #[serde(rename = "uint16")]
    UInt16,
    /// `Int64`.
    #[serde(rename = "uint32")]
    UInt32,
    /// `UInt64`.
    #[serde(rename = "uint64")]
    UInt64,
    /// Exact decimal of this many digits, and how many of them stand after the point (negative: zeros before it); any
    /// number of both without. Canonical text (`Utf8`): `NaN`, `Infinity`, `-Infinity`, and the display scale kept
    /// (`1.50` is not `1.5`). ADR 0002 says why text.
    Decimal(Option<(u16, i16)>),
    /// `Float32`, with NaN and infinities.
    Float32,
    /// `Float64`, with NaN and infinities.
    Float64,
    /// `Utf8`; lengths are in characters.
    Text(Length),
    /// `Binary`; lengths are in bytes.
    Binary(Length),
    /// Bits as digits 0 and 1, the first one first (`Utf8`).
    Bit(Length),
    /// `Date32`: days since 1970-01-01. `i32::MAX` and `i32::MIN` are infinity and -infinity.
    Date,
    /// `Time64(Microsecond)` since midnight; 24:00:00 is 86,400,000,000.
    Time(u8),
    /// A span of time of any sign, more than a day too: `Duration(Microsecond)`.
    Duration(u8),
    /// `Timestamp(Microsecond)` without zone since 1970-01-01. See [`crate::time`] for the infinities and
    /// the years after 294246.
    Timestamp(u8),
    /// `Timestamp(Microsecond, "UTC")`; the range is that of [`Type::Timestamp`].
    TimestampTz(u8),
    /// `Int16`.
    Year,
    /// Months, days and time apart from each other: text such as `1 year 2 mons -3 days +04:05:06.7` (`Utf8`).
    Interval,
    /// `FixedSizeBinary(16)`, big-endian.
    Uuid,
    /// JSON text as the source prints it (`Utf8`).
    Json,
    /// `Utf8`.
    Xml,
    /// One of these labels (`Utf8`).
    Enum(Vec<String>),
    /// Any of these labels, in this order, separated by commas (`Utf8`).
    Set(Vec<String>),
    /// Text such as `{1,NULL,"a b"}` (`Utf8`): elements are quoted where they must be, dimensions are not counted.
    Array(Box<Type>),
    /// Well-known binary (`Binary`), of the spatial reference system with this number.
    Geometry(Option<u32>),
    /// Any other type, of which only the name is known: the source's canonical text (`Utf8`), which a target of the
    /// same dialect reads back without loss.
    Named(String),
}

impl Type {
    /// The Arrow type that carries this type's values.
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int8 | Self::UInt8 | Self::Int16 | Self::Year => DataType::Int16,
            Self::Int32 | Self::UInt16 => DataType::Int32,
            Self::Int64 | Self::UInt32 => DataType::Int64,
            Self::UInt64 => DataType::UInt64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Binary(_) | Self::Geometry(_) => DataType::Binary,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Date => DataType::Date32,
            Self::Time(_) => DataType::Time64(TimeUnit::Microsecond),
            Self::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
            Self::Timestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Decimal(_)
            | Self::Text(_)
            | Self::Bit(_)
            | Self::Interval
            | Self::Json
            | Self::Xml
            | Self::Enum(_)
            | Self::Set(_)
            | Self::Array(_)
            | Self::Named(_) => DataType::Utf8,
        }
    }
}

/// The name that people see: `int64`, `decimal(10,2)`, `text(20)`, `timestamp(3)`, `int32[]`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int8 => f.write_str("int8"),
            Self::Int16 => f.write_str("int16"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::UInt8 => f.write_str("uint8"),
            Self::UInt16 => f.write_str("uint16"),
            Self::UInt32 => f.write_str("uint32"),
            Self::UInt64 => f.write_str("uint64"),
            Self::Decimal(None) => f.write_str("decimal"),
            Self::Decimal(Some((precision, scale))) => write!(f, "decimal({precision},{scale})"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::Text(length) => sized(f, "text", "char", *length),
            Self::Binary(length) => sized(f, "varbinary", "binary", *length),
            Self::Bit(length) => sized(f, "varbit", "bit", *length),
            Self::Date => f.write_str("date"),
            Self::Time(digits) => write!(f, "time({digits})"),
            Self::Duration(digits) => write!(f, "duration({digits})"),
            Self::Timestamp(digits) => write!(f, "timestamp({digits})"),
            Self::TimestampTz(digits) => write!(f, "timestamptz({digits})"),
            Self::Year => f.write_str("year"),
            Self::Interval => f.write_str("interval"),
            Self::Uuid => f.write_str("uuid"),
            Self::Json => f.write_str("json"),
            Self::Xml => f.write_str("xml"),
            Self::Enum(labels) => labelled(f, "enum", labels),
            Self::Set(labels) => labelled(f, "set", labels),
            Self::Array(element) => write!(f, "{element}[]"),
            Self::Geometry(None) => f.write_str("geometry"),
            Self::Geometry(Some(system)) => write!(f, "geometry({system})"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

fn sized(f: &mut fmt::Formatter<'_>, varying: &str, fixed: &str, length: Length) -> fmt::Result {
    match length {
        Length::Unlimited => f.write_str(varying),
        Length::AtMost(most) => write!(f, "{varying}({most})"),
        Length::Exactly(count) => write!(f, "{fixed}({count})"),
    }
}

fn labelled(f: &mut fmt::Formatter<'_>, name: &str, labels: &[String]) -> fmt::Result {
    let labels: Vec<String> = labels.iter().map(|l| format!("'{}'", l.replace('\'', "''"))).collect();
    write!(f, "{name}({})", labels.join(","))
}

/// Whose names and statements something is written in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dialect(Cow<'static, str>);

impl Dialect {
    /// The dialect of this name. Each endpoint has a constant for its own.
    pub const fn new(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A column's type as its own database has it. Only endpoints of the same dialect use it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Native {
    /// Whose type it is.
    pub dialect: Dialect,
    /// As it stands in DDL, qualified where it must be.
    pub name: String,
    /// What else the endpoints of the dialect have to know of it, in a form of their own.
    pub detail: String,
}

/// How well a type of one dialect holds the values of a canonical one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds these and no others.
    Exact,
    /// It holds all of these, and others.
    Widened,
    /// Something is lost: what.
    Lossy(String),
}

/// What stands for a canonical type in a dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterpart {
    /// As it stands in DDL.
    pub name: String,
    /// How well it does.
    pub verdict: Verdict,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn lengths() -> impl Strategy<Value = Length> {
        prop_oneof![
            Just(Length::Unlimited),
            any::<u32>().prop_map(Length::AtMost),
            any::<u32>().prop_map(Length::Exactly)
        ]
    }

    fn types() -> impl Strategy<Value = Type> {
        use Type as T;
        let plain = prop::sample::select(vec![
            T::Bool,
            T::Int8,
            T::Int16,
            T::Int32,
            T::Int64,
            T::UInt8,
            T::UInt16,
            T::UInt32,
            T::UInt64,
            T::Float32,
            T::Float64,
            T::Date,
            T::Year,
            T::Interval,
            T::Uuid,
            T::Json,
            T::Xml,
        ]);
        let labels = || prop::collection::vec("[a-c',]{0,3}", 0..3);
        let leaf = prop_oneof![
            4 => plain,
            1 => any::<Option<(u16, i16)>>().prop_map(T::Decimal),
            1 => lengths().prop_map(T::Text),
            1 => lengths().prop_map(T::Binary),
            1 => lengths().prop_map(T::Bit),
            1 => (0..=6u8).prop_map(T::Time),
            1 => (0..=6u8).prop_map(T::Duration),
            1 => (0..=6u8).prop_map(T::Timestamp),
            1 => (0..=6u8).prop_map(T::TimestampTz),
            1 => labels().prop_map(T::Enum),
            1 => labels().prop_map(T::Set),
            1 => any::<Option<u32>>().prop_map(T::Geometry),
            1 => "n_[a-z.]{1,8}".prop_map(T::Named),
        ];
        leaf.prop_recursive(2, 4, 1, |inner| inner.prop_map(|t| T::Array(Box::new(t))))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_type_survives_being_stored(ty in types()) {
            let text = serde_json::to_string(&ty).unwrap();
            prop_assert_eq!(serde_json::from_str::<Type>(&text).unwrap(), ty, "{}", text);
        }

        #[test]
        fn two_types_have_two_names(types in prop::collection::vec(types(), 60)) {
            let types: HashSet<Type> = types.into_iter().collect();
            let names: HashSet<String> = types.iter().map(Type::to_string).collect();
            prop_assert_eq!(names.len(), types.len());
        }
    }

    #[test]
    fn names_and_carriers() {
        use DataType as D;
        use Type as T;
        for (ty, name, arrow) in [
            (T::UInt8, "uint8", D::Int16),
            (T::UInt16, "uint16", D::Int32),
            (T::UInt32, "uint32", D::Int64),
            (T::UInt64, "uint64", D::UInt64),
            (T::Int8, "int8", D::Int16),
            (T::Year, "year", D::Int16),
            (T::Decimal(Some((10, 2))), "decimal(10,2)", D::Utf8),
            (T::Text(Length::AtMost(20)), "text(20)", D::Utf8),
            (T::Text(Length::Exactly(2)), "char(2)", D::Utf8),
            (T::Binary(Length::Unlimited), "varbinary", D::Binary),
            (T::Bit(Length::Exactly(3)), "bit(3)", D::Utf8),
            (T::Duration(6), "duration(6)", D::Duration(TimeUnit::Microsecond)),
            (T::Enum(vec!["a".into(), "it's".into()]), "enum('a','it''s')", D::Utf8),
            (T::Array(Box::new(T::Timestamp(3))), "timestamp(3)[]", D::Utf8),
            (T::Geometry(Some(4326)), "geometry(4326)", D::Binary),
            (T::Named("inet".into()), "inet", D::Utf8),
        ] {
            assert_eq!((ty.to_string().as_str(), ty.arrow()), (name, arrow));
        }
    }

    #[test]
    fn a_native_type_is_stored_with_its_dialect() {
        let native = Native { dialect: Dialect::new("d"), name: "n".into(), detail: "7".into() };
        let text = serde_json::to_string(&native).unwrap();
        assert_eq!(text, r#"{"dialect":"d","name":"n","detail":"7"}"#);
        assert_eq!(serde_json::from_str::<Native>(&text).unwrap(), native);
    }
}
