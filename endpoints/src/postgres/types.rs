//! PostgreSQL types: what their values mean and in which form they travel. `docs/TYPES.md` is the table of it.
//!
//! A type is judged by its output and send functions, not by its name: domains have those of their base type,
//! enums share theirs, and an extension such as `citext` reuses those of `text`.

use std::collections::HashMap;

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::schema::{LogicalType, TableSchema};

use super::sqlstate;

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

/// Output function, send function, meaning, form; and the types that have them, for the documentation.
pub(crate) const NATIVE: &[(&str, &str, LogicalType, Wire, &str)] = &[
    ("boolout", "boolsend", LogicalType::Bool, Wire::Bool, "boolean"),
    ("int2out", "int2send", LogicalType::Int16, Wire::Int2, "smallint"),
    ("int4out", "int4send", LogicalType::Int32, Wire::Int4, "integer"),
    ("int8out", "int8send", LogicalType::Int64, Wire::Int8, "bigint"),
    ("float4out", "float4send", LogicalType::Float32, Wire::Float4, "real"),
    ("float8out", "float8send", LogicalType::Float64, Wire::Float8, "double precision"),
    ("numeric_out", "numeric_send", LogicalType::Numeric, Wire::Numeric, "numeric"),
    ("textout", "textsend", LogicalType::Text, Wire::Text, "text, citext"),
    ("varcharout", "varcharsend", LogicalType::Text, Wire::Text, "character varying"),
    ("bpcharout", "bpcharsend", LogicalType::Text, Wire::Text, "character"),
    ("nameout", "namesend", LogicalType::Text, Wire::Text, "name"),
    ("json_out", "json_send", LogicalType::Json, Wire::Text, "json"),
    ("jsonb_out", "jsonb_send", LogicalType::Json, Wire::Jsonb, "jsonb"),
    ("xml_out", "xml_send", LogicalType::Other, Wire::Text, "xml"),
    ("enum_out", "enum_send", LogicalType::Other, Wire::Text, "every enum"),
    ("byteaout", "byteasend", LogicalType::Binary, Wire::Bytea, "bytea"),
    ("uuid_out", "uuid_send", LogicalType::Uuid, Wire::Uuid, "uuid"),
    ("date_out", "date_send", LogicalType::Date, Wire::Date, "date"),
    ("time_out", "time_send", LogicalType::Time, Wire::Time, "time"),
    ("timestamp_out", "timestamp_send", LogicalType::Timestamp, Wire::Timestamp, "timestamp"),
    ("timestamptz_out", "timestamptz_send", LogicalType::TimestampTz, Wire::Timestamp, "timestamp with time zone"),
];

/// What a type with these output and send functions means, and how it travels.
pub(crate) fn classify(output: &str, send: &str) -> (LogicalType, Wire) {
    let found = NATIVE.iter().find(|(o, s, ..)| *o == output && *s == send);
    found.map_or((LogicalType::Other, Wire::TextOnly), |(_, _, logical, wire, _)| (*logical, *wire))
}

/// The forms of the types that some tables use.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeBook(HashMap<u32, Wire>);

impl TypeBook {
    /// Looks the types of these tables' columns up.
    pub(crate) async fn of<'a>(
        client: &Client,
        tables: impl IntoIterator<Item = &'a TableSchema> + Send,
    ) -> Result<Self> {
        let mut ids: Vec<u32> = tables.into_iter().flat_map(|t| t.columns.iter().map(|c| c.native.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        Self::load(client, &ids).await
    }

    /// Looks types up by their numbers.
    pub(crate) async fn load(client: &Client, ids: &[u32]) -> Result<Self> {
        let sql = "SELECT t.oid, o.prosrc, s.prosrc FROM pg_type t JOIN pg_proc o ON o.oid = t.typoutput \
                   LEFT JOIN pg_proc s ON s.oid = t.typsend WHERE t.oid = ANY ($1)";
        let rows = client.query(sql, &[&ids]).await.map_err(sqlstate::error)?;
        let mut book = HashMap::with_capacity(rows.len());
        for row in rows {
            let send: Option<&str> = row.try_get(2).map_err(sqlstate::error)?;
            let output: &str = row.try_get(1).map_err(sqlstate::error)?;
            let id: u32 = row.try_get(0).map_err(sqlstate::error)?;
            book.insert(id, classify(output, send.unwrap_or_default()).1);
        }
        Ok(Self(book))
    }

    /// A book of these types.
    #[cfg(test)]
    pub(crate) fn with(types: &[(u32, Wire)]) -> Self {
        Self(types.iter().copied().collect())
    }

    /// How values of this type travel; a type that is gone is never sent in binary form.
    pub(crate) fn wire(&self, type_id: u32) -> Wire {
        self.0.get(&type_id).copied().unwrap_or(Wire::TextOnly)
    }

    /// Whether every column of these tables has a binary decoder.
    pub(crate) fn all_binary<'a>(&self, tables: impl IntoIterator<Item = &'a TableSchema>) -> bool {
        tables.into_iter().flat_map(|t| &t.columns).all(|c| self.wire(c.native.id).binary())
    }

    /// The forms of a table's columns.
    pub(crate) fn wires(&self, table: &TableSchema) -> Vec<Wire> {
        table.columns.iter().map(|c| self.wire(c.native.id)).collect()
    }

    /// A book of what is known anyway.
    #[cfg(feature = "bench")]
    pub(crate) fn known(wires: HashMap<u32, Wire>) -> Self {
        Self(wires)
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
        for (_, _, logical, wire, types) in NATIVE {
            let form = if wire.binary() { "binary" } else { "text" };
            let line = format!("| {types} | {logical:?} | `{}` | {form} |", arrow(*logical));
            assert!(doc.contains(&line), "docs/TYPES.md lacks: {line}");
        }
        let rows = doc.lines().filter(|l| l.ends_with("| binary |")).count();
        assert_eq!(rows, NATIVE.len(), "docs/TYPES.md names types with a binary form that the code does not know");
    }

    fn arrow(logical: LogicalType) -> String {
        use arrow_schema::{DataType, TimeUnit};
        match logical.arrow() {
            DataType::Timestamp(TimeUnit::Microsecond, None) => "Timestamp(us)".to_owned(),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => format!("Timestamp(us, {zone})"),
            DataType::Time64(_) => "Time64(us)".to_owned(),
            other => format!("{other}"),
        }
    }

    #[test]
    fn a_type_that_only_borrows_one_function_is_text() {
        assert_eq!(classify("my_out", "int8send"), (LogicalType::Other, Wire::TextOnly));
        assert_eq!(classify("array_out", "array_send"), (LogicalType::Other, Wire::TextOnly));
    }
}
