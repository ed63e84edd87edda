//! PostgreSQL types: what their values mean and in which form they travel. `docs/TYPES.md` is the table of it.
//!
//! A type is judged by its output and send functions, not by its name: domains have those of their base type,
//! enums share theirs, and an extension such as `citext` reuses those of `text`.

use std::collections::HashMap;

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::schema::{Dialect, Length, Native, TableSchema, Type};

use super::row::get;
use super::sqlstate;

/// The dialect of this folder's endpoints.
pub const DIALECT: Dialect = Dialect::new("postgres");

/// A type of this dialect: its name in DDL, its number and its modifier (-1 without one).
pub(crate) fn native(name: impl Into<String>, number: u32, modifier: i32) -> Native {
    Native { dialect: DIALECT, name: name.into(), detail: format!("{number}:{modifier}") }
}

/// The number and the modifier of a type; number 0, which no type has, where it is none of this dialect.
pub(crate) fn number(native: &Native) -> (u32, i32) {
    let detail = Some(&native.detail).filter(|_| native.dialect == DIALECT);
    let numbers = detail.and_then(|d| d.split_once(':')).and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
    numbers.unwrap_or((0, -1))
}

/// The number of a table, `pg_class.oid`; 0, which no table has, where it is not known.
pub(crate) fn table_number(table: &TableSchema) -> u32 {
    table.native_id.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// The form in which values of a type travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    /// `boolsend`
    Bool,
    /// `int2send`
    Int2,
    /// `int4send`
    Int4,
    /// `int8send`
    Int8,
    /// `float4send`
    Float4,
    /// `float8send`
    Float8,
    /// `numeric_send`
    Numeric,
    /// Binary is the text itself.
    Text,
    /// A version byte before the text: `jsonb_send`.
    Jsonb,
    /// `byteasend`
    Bytea,
    /// `uuid_send`
    Uuid,
    /// `date_send`
    Date,
    /// `time_send`
    Time,
    /// `timestamp_send`, `timestamptz_send`
    Timestamp,
    /// No binary decoder: the output function's text.
    TextOnly,
}

impl Wire {
    /// Whether the binary form can be decoded.
    pub(crate) fn binary(self) -> bool {
        self != Self::TextOnly
    }
}

/// What values of a type with this modifier mean.
type Meaning = fn(i32) -> Type;

/// Output function, send function, meaning, form; and the types that have them, for the documentation.
pub(crate) const NATIVE: &[(&str, &str, Meaning, Wire, &str)] = &[
    ("boolout", "boolsend", |_| Type::Bool, Wire::Bool, "boolean"),
    ("int2out", "int2send", |_| Type::Int16, Wire::Int2, "smallint"),
    ("int4out", "int4send", |_| Type::Int32, Wire::Int4, "integer"),
    ("int8out", "int8send", |_| Type::Int64, Wire::Int8, "bigint"),
    ("float4out", "float4send", |_| Type::Float32, Wire::Float4, "real"),
    ("float8out", "float8send", |_| Type::Float64, Wire::Float8, "double precision"),
    ("numeric_out", "numeric_send", decimal, Wire::Numeric, "numeric"),
    ("textout", "textsend", |_| Type::Text(Length::Unlimited), Wire::Text, "text, citext"),
    ("varcharout", "varcharsend", |m| Type::Text(most(m - HEADER)), Wire::Text, "character varying"),
    ("bpcharout", "bpcharsend", |m| Type::Text(exactly(m - HEADER)), Wire::Text, "character"),
    ("nameout", "namesend", |_| Type::Text(Length::Unlimited), Wire::Text, "name"),
    ("json_out", "json_send", |_| Type::Json, Wire::Text, "json"),
    ("jsonb_out", "jsonb_send", |_| Type::Json, Wire::Jsonb, "jsonb"),
    ("xml_out", "xml_send", |_| Type::Xml, Wire::Text, "xml"),
    ("enum_out", "enum_send", |_| Type::Enum(Vec::new()), Wire::Text, "every enum"),
    ("byteaout", "byteasend", |_| Type::Binary(Length::Unlimited), Wire::Bytea, "bytea"),
    ("uuid_out", "uuid_send", |_| Type::Uuid, Wire::Uuid, "uuid"),
    ("date_out", "date_send", |_| Type::Date, Wire::Date, "date"),
    ("time_out", "time_send", |m| Type::Time(digits(m)), Wire::Time, "time"),
    ("timestamp_out", "timestamp_send", |m| Type::Timestamp(digits(m)), Wire::Timestamp, "timestamp"),
    (
        "timestamptz_out",
        "timestamptz_send",
        |m| Type::TimestampTz(digits(m)),
        Wire::Timestamp,
        "timestamp with time zone",
    ),
    ("bit_out", "bit_send", |m| Type::Bit(exactly(m)), Wire::TextOnly, "bit"),
    ("varbit_out", "varbit_send", |m| Type::Bit(most(m)), Wire::TextOnly, "bit varying"),
    ("interval_out", "interval_send", |_| Type::Interval, Wire::TextOnly, "interval"),
];

/// What the modifiers of numbers and texts count beside what they say.
const HEADER: i32 = 4;

fn most(length: i32) -> Length {
    u32::try_from(length).map_or(Length::Unlimited, Length::AtMost)
}

fn exactly(length: i32) -> Length {
    u32::try_from(length).map_or(Length::Unlimited, Length::Exactly)
}

/// Fraction digits of seconds, all of them without a modifier.
fn digits(modifier: i32) -> u8 {
    u8::try_from(modifier).unwrap_or(6).min(6)
}

fn decimal(modifier: i32) -> Type {
    let Ok(packed) = u32::try_from(modifier - HEADER) else { return Type::Decimal(None) };
    // The scale is a number of 11 bits with a sign.
    let scale = ((packed & 0x7ff) as i16 ^ 1024) - 1024;
    Type::Decimal(Some(((packed >> 16) as u16, scale)))
}

fn known(output: &str, send: &str) -> Option<(Meaning, Wire)> {
    let found = NATIVE.iter().find(|(o, s, ..)| *o == output && *s == send);
    found.map(|(_, _, meaning, wire, _)| (*meaning, *wire))
}

/// What values of a built-in type mean, by the name that `format_type` gives it without its modifier.
pub(crate) fn built_in(name: &str, modifier: i32) -> Option<Type> {
    let wanted = match name {
        "bpchar" => "character",
        "time without time zone" => "time",
        "timestamp without time zone" => "timestamp",
        // With fields: `interval day to second`.
        name if name.starts_with("interval ") => "interval",
        name => name,
    };
    let found = NATIVE.iter().find(|(.., names)| names.split(", ").any(|n| n == wanted));
    found.map(|(_, _, meaning, ..)| meaning(modifier))
}

/// How values of a type with these output and send functions travel.
pub(crate) fn wire(output: &str, send: &str) -> Wire {
    known(output, send).map_or(Wire::TextOnly, |(_, wire)| wire)
}

/// A type as the catalogue has it.
#[derive(Clone, Debug)]
struct Known {
    wire: Wire,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    /// The type of this number with this modifier.
    Domain(u32, i32),
    ArrayOf(u32),
    Enum(Vec<String>),
    Plain(Meaning),
    Named(String),
}

/// The types that some tables use.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeBook(HashMap<u32, Known>);

/// Types, and those that they are domains over or arrays of.
const TYPES: &str = "\
WITH RECURSIVE need(oid) AS (
    SELECT unnest($1::oid[])
  UNION
    SELECT d.dep FROM need n JOIN pg_type t ON t.oid = n.oid
    CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) d(dep) WHERE d.dep <> 0
)
SELECT t.oid, o.prosrc, coalesce(s.prosrc, ''), t.typbasetype, t.typtypmod, t.typelem, format_type(t.oid, NULL),
    ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder)
FROM need JOIN pg_type t ON t.oid = need.oid JOIN pg_proc o ON o.oid = t.typoutput
LEFT JOIN pg_proc s ON s.oid = t.typsend";

impl TypeBook {
    /// Looks the types of these tables' columns up.
    pub(crate) async fn of<'a>(
        client: &Client,
        tables: impl IntoIterator<Item = &'a TableSchema> + Send,
    ) -> Result<Self> {
        let ids = tables.into_iter().flat_map(|t| t.columns.iter().map(|c| number(&c.native).0)).collect();
        Self::load(client, ids).await
    }

    /// Looks types up by their numbers.
    pub(crate) async fn load(client: &Client, mut ids: Vec<u32>) -> Result<Self> {
        ids.sort_unstable();
        ids.dedup();
        let rows = client.query(TYPES, &[&ids]).await.map_err(sqlstate::error)?;
        let mut book = HashMap::with_capacity(rows.len());
        for row in rows {
            let (output, send): (&str, &str) = (get(&row, 1)?, get(&row, 2)?);
            let base: u32 = get(&row, 3)?;
            let shape = match (output, known(output, send)) {
                _ if base != 0 => Shape::Domain(base, get(&row, 4)?),
                ("array_out", _) => Shape::ArrayOf(get(&row, 5)?),
                ("enum_out", _) => Shape::Enum(get(&row, 7)?),
                (_, Some((meaning, _))) => Shape::Plain(meaning),
                _ => Shape::Named(get(&row, 6)?),
            };
            book.insert(get(&row, 0)?, Known { wire: wire(output, send), shape });
        }
        Ok(Self(book))
    }

    /// A book of types that are known to travel so.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn with(types: impl IntoIterator<Item = (u32, Wire)>) -> Self {
        let known = |wire| Known { wire, shape: Shape::Named("any".to_owned()) };
        Self(types.into_iter().map(|(id, wire)| (id, known(wire))).collect())
    }

    /// What values of a type mean; of one that is gone nothing but the name is known.
    pub(crate) fn meaning(&self, native: &Native) -> Type {
        let (type_id, modifier) = number(native);
        self.meaning_of(type_id, modifier).unwrap_or_else(|| Type::Named(native.name.clone()))
    }

    fn meaning_of(&self, type_id: u32, modifier: i32) -> Option<Type> {
        Some(match &self.0.get(&type_id)?.shape {
            Shape::Domain(base, modifier) => self.meaning_of(*base, *modifier)?,
            Shape::ArrayOf(element) => Type::Array(Box::new(self.meaning_of(*element, modifier)?)),
            Shape::Enum(labels) => Type::Enum(labels.clone()),
            Shape::Plain(meaning) => meaning(modifier),
            Shape::Named(name) => Type::Named(name.clone()),
        })
    }

    /// How values of this type travel; a type that is gone is never sent in binary form.
    pub(crate) fn wire(&self, type_id: u32) -> Wire {
        self.0.get(&type_id).map_or(Wire::TextOnly, |k| k.wire)
    }

    /// Whether every column of these tables has a binary decoder.
    pub(crate) fn all_binary<'a>(&self, tables: impl IntoIterator<Item = &'a TableSchema>) -> bool {
        tables.into_iter().flat_map(|t| &t.columns).all(|c| self.wire(number(&c.native).0).binary())
    }

    /// The forms of a table's columns.
    pub(crate) fn wires(&self, table: &TableSchema) -> Vec<Wire> {
        table.columns.iter().map(|c| self.wire(number(&c.native).0)).collect()
    }

    /// Adds what another book knows.
    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_documented_table_is_the_one_used() {
        let doc = include_str!("../../../docs/TYPES.md");
        for (_, _, meaning, wire, types) in NATIVE {
            let form = if wire.binary() { "binary" } else { "text" };
            let ty = meaning(-1);
            let line = format!("| {types} | `{ty}` | `{}` | {form} |", arrow(&ty));
            assert!(doc.contains(&line), "docs/TYPES.md lacks: {line}");
        }
        let rows = doc.lines().filter(|l| l.ends_with("| binary |")).count();
        let binary = NATIVE.iter().filter(|(_, _, _, wire, _)| wire.binary()).count();
        assert_eq!(rows, binary, "docs/TYPES.md names types with a binary form that the code does not know");
    }

    fn arrow(ty: &Type) -> String {
        use arrow_schema::{DataType, TimeUnit};
        match ty.arrow() {
            DataType::Timestamp(TimeUnit::Microsecond, None) => "Timestamp(us)".to_owned(),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => format!("Timestamp(us, {zone})"),
            DataType::Time64(_) => "Time64(us)".to_owned(),
            other => format!("{other}"),
        }
    }

    #[test]
    fn a_type_that_only_borrows_one_function_is_text() {
        assert_eq!(wire("my_out", "int8send"), Wire::TextOnly);
        assert_eq!(wire("array_out", "array_send"), Wire::TextOnly);
    }

    #[test]
    fn modifiers_are_parameters() {
        let meaning = |output: &str, send: &str, modifier| known(output, send).unwrap().0(modifier);
        // As `atttypmod` has them.
        assert_eq!(meaning("numeric_out", "numeric_send", 655_366), Type::Decimal(Some((10, 2))));
        assert_eq!(meaning("numeric_out", "numeric_send", 198_657), Type::Decimal(Some((3, -3))));
        assert_eq!(meaning("numeric_out", "numeric_send", -1), Type::Decimal(None));
        assert_eq!(meaning("varcharout", "varcharsend", 24), Type::Text(Length::AtMost(20)));
        assert_eq!(meaning("bpcharout", "bpcharsend", 9), Type::Text(Length::Exactly(5)));
        assert_eq!(meaning("bpcharout", "bpcharsend", -1), Type::Text(Length::Unlimited));
        assert_eq!(meaning("bit_out", "bit_send", 3), Type::Bit(Length::Exactly(3)));
        assert_eq!(meaning("time_out", "time_send", -1), Type::Time(6));
        assert_eq!(meaning("timestamptz_out", "timestamptz_send", 0), Type::TimestampTz(0));
    }

    #[test]
    fn domains_and_arrays_are_what_they_are_made_of() {
        let book = |shapes: Vec<(u32, Shape)>| {
            TypeBook(shapes.into_iter().map(|(id, shape)| (id, Known { wire: Wire::TextOnly, shape })).collect())
        };
        let book = book(vec![
            (1, Shape::Plain(known("varcharout", "varcharsend").unwrap().0)),
            (2, Shape::ArrayOf(1)),
            (3, Shape::Domain(2, 14)),
            (4, Shape::Enum(vec!["a".to_owned()])),
            (5, Shape::Named("inet".to_owned())),
        ]);
        let ten = || Box::new(Type::Text(Length::AtMost(10)));
        let meaning = |type_id, modifier| book.meaning(&native("called", type_id, modifier));
        assert_eq!(meaning(2, 14), Type::Array(ten()));
        assert_eq!(meaning(3, -1), Type::Array(ten()));
        assert_eq!(meaning(4, -1), Type::Enum(vec!["a".to_owned()]));
        assert_eq!(meaning(5, -1), Type::Named("inet".to_owned()));
        assert_eq!(meaning(6, -1), Type::Named("called".to_owned()));
    }

    #[test]
    fn numbers_are_those_of_this_dialect_only() {
        let mut ty = native("integer", 23, -1);
        assert_eq!(number(&ty), (23, -1));
        ty.dialect = Dialect::new("other");
        assert_eq!(number(&ty), (0, -1));
    }
}
