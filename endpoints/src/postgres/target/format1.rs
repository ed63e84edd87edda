//! Shapes of tables and chunks as version 0.1.0 stored them, in bookkeeping of format 1: read, never written.

use serde::Deserialize;
use trem_engine::chunk::Chunk;
use trem_engine::schema::{Column, GeneratedColumn, Identity, Length, Native, TableId, TableSchema, Type};
use trem_engine::template::Template;
use trem_engine::{Error, Result};

use super::fit::split_modifier;
use crate::postgres::types;

#[derive(Deserialize)]
struct OldTable {
    id: TableId,
    native_id: u32,
    columns: Vec<OldColumn>,
    key: Vec<usize>,
    primary_key: Vec<usize>,
    identity: Identity,
    generated: Vec<OldGenerated>,
}

#[derive(Deserialize)]
struct OldColumn {
    name: String,
    logical: Logical,
    native: OldNative,
    nullable: bool,
}

#[derive(Deserialize)]
struct OldNative {
    name: String,
    id: u32,
    modifier: i32,
}

#[derive(Deserialize)]
struct OldGenerated {
    name: String,
    native: OldNative,
    expression: String,
}

/// What values meant, domains taken for their base types.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Logical {
    Bool,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Numeric,
    Text,
    Json,
    Binary,
    Uuid,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Other,
}

/// Types whose values are never stored beside their row, of those without a canonical type.
const IN_THE_ROW: &[&str] = &[
    "\"char\"",
    "name",
    "oid",
    "oidvector",
    "int2vector",
    "pg_lsn",
    "money",
    "macaddr",
    "macaddr8",
    "point",
    "line",
    "lseg",
    "box",
    "circle",
    "time with time zone",
];

/// A shape as format 1 has it. Two things it does not say: the labels of an enum, which becomes a type known by name
/// only, and whether values of a type of the user's own may be left out, which is assumed.
///
/// # Errors
/// Text that is no such shape.
pub(super) fn table_schema(json: &str) -> Result<TableSchema> {
    let old: OldTable = serde_json::from_str(json)
        .map_err(|e| Error::fatal("a table's shape in the record of format 1 cannot be read").cause(e))?;
    let whole_old_rows = matches!(old.identity, Identity::Full | Identity::KeyWithFullImage);
    let column = |c: OldColumn| {
        let ty = meaning(c.logical, &c.native);
        let omissible = !whole_old_rows && may_be_stored_beside(&ty, &c.native.name);
        Column { name: c.name, ty, native: native(c.native), nullable: c.nullable, omissible }
    };
    let generated = |g: OldGenerated| {
        let expression = Template::verbatim(types::DIALECT, g.expression);
        GeneratedColumn { name: g.name, native: native(g.native), expression }
    };
    Ok(TableSchema {
        id: old.id,
        native_id: Some(old.native_id.into()).filter(|n| *n != 0),
        columns: old.columns.into_iter().map(column).collect(),
        key: old.key,
        primary_key: old.primary_key,
        identity: old.identity,
        generated: old.generated.into_iter().map(generated).collect(),
        history: Default::default(),
    })
}

#[derive(Deserialize)]
struct OldChunk {
    id: u32,
    range: serde_json::Value,
    rows: u64,
}

/// A chunk as format 1 has it. Its range was known to everybody; as a text it is what the source writes now.
///
/// # Errors
/// Text that is no such chunk.
pub(super) fn chunk(json: &str) -> Result<Chunk> {
    let old: OldChunk = serde_json::from_str(json)
        .map_err(|e| Error::fatal("a chunk in the record of the table's load cannot be read").cause(e))?;
    // Only ranges of keys meant the same under every snapshot.
    let survives = old.range.get("key").is_some();
    Ok(Chunk { id: old.id, range: old.range.to_string(), survives, rows: old.rows })
}

fn native(old: OldNative) -> Native {
    types::native(old.name, old.id, old.modifier)
}

fn meaning(logical: Logical, native: &OldNative) -> Type {
    if let Some(element) = native.name.strip_suffix("[]") {
        let (base, _) = split_modifier(element);
        let element = types::built_in(&base, native.modifier).unwrap_or(Type::Named(base));
        return Type::Array(Box::new(element));
    }
    let (base, _) = split_modifier(&native.name);
    if let Some(ty) = types::built_in(&base, native.modifier) {
        return ty;
    }
    // A domain, whose own modifier was not stored, or a type of an extension.
    match logical {
        Logical::Bool => Type::Bool,
        Logical::Int16 => Type::Int16,
        Logical::Int32 => Type::Int32,
        Logical::Int64 => Type::Int64,
        Logical::Float32 => Type::Float32,
        Logical::Float64 => Type::Float64,
        Logical::Numeric => Type::Decimal(None),
        Logical::Text => Type::Text(Length::Unlimited),
        Logical::Json => Type::Json,
        Logical::Binary => Type::Binary(Length::Unlimited),
        Logical::Uuid => Type::Uuid,
        Logical::Date => Type::Date,
        Logical::Time => Type::Time(6),
        Logical::Timestamp => Type::Timestamp(6),
        Logical::TimestampTz => Type::TimestampTz(6),
        Logical::Other => Type::Named(base),
    }
}

fn may_be_stored_beside(ty: &Type, name: &str) -> bool {
    match ty {
        Type::Bool | Type::Int16 | Type::Int32 | Type::Int64 | Type::Float32 | Type::Float64 => false,
        Type::Uuid | Type::Date | Type::Time(_) | Type::Timestamp(_) | Type::TimestampTz(_) | Type::Interval => false,
        _ => !IN_THE_ROW.contains(&split_modifier(name).0.as_str()) && !name.starts_with("reg"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const OLD: &str = r#"{
        "id": {"schema": "shop", "table": "orders"}, "native_id": 16390,
        "columns": [
            {"name": "id", "logical": "int64", "native": {"name": "bigint", "id": 20, "modifier": -1},
             "nullable": false},
            {"name": "price", "logical": "numeric", "native": {"name": "numeric(10,2)", "id": 1700, "modifier": 655366},
             "nullable": true},
            {"name": "code", "logical": "text",
             "native": {"name": "character varying(20)", "id": 1043, "modifier": 24}, "nullable": true},
            {"name": "mood", "logical": "other", "native": {"name": "shop.mood", "id": 16385, "modifier": -1},
             "nullable": true},
            {"name": "parts", "logical": "other", "native": {"name": "integer[]", "id": 1007, "modifier": -1},
             "nullable": true},
            {"name": "at", "logical": "timestamp",
             "native": {"name": "timestamp(3) without time zone", "id": 1114, "modifier": 3}, "nullable": true},
            {"name": "zoned", "logical": "other",
             "native": {"name": "time(0) with time zone", "id": 1266, "modifier": 0}, "nullable": true},
            {"name": "amount", "logical": "int32", "native": {"name": "shop.positive", "id": 16388, "modifier": -1},
             "nullable": true},
            {"name": "codes", "logical": "other",
             "native": {"name": "character varying(5)[]", "id": 1015, "modifier": 9}, "nullable": true}],
        "key": [0], "primary_key": [0], "identity": "key",
        "generated": [{"name": "twice", "native": {"name": "integer", "id": 23, "modifier": -1},
                       "expression": "(amount * 2)"}]}"#;

    #[test]
    fn the_shape_is_what_the_catalogue_says_now() {
        let column = |name: &str, ty, native_name: &str, id, modifier, omissible| Column {
            name: name.to_owned(),
            ty,
            native: types::native(native_name, id, modifier),
            nullable: name != "id",
            omissible,
        };
        let varying = |n| Type::Text(Length::AtMost(n));
        let named = |n: &str| Type::Named(n.to_owned());
        let want = TableSchema {
            id: TableId::new("shop", "orders"),
            native_id: Some(16390),
            columns: vec![
                column("id", Type::Int64, "bigint", 20, -1, false),
                column("price", Type::Decimal(Some((10, 2))), "numeric(10,2)", 1700, 655_366, true),
                column("code", varying(20), "character varying(20)", 1043, 24, true),
                column("mood", named("shop.mood"), "shop.mood", 16385, -1, true),
                column("parts", Type::Array(Box::new(Type::Int32)), "integer[]", 1007, -1, true),
                column("at", Type::Timestamp(3), "timestamp(3) without time zone", 1114, 3, false),
                column("zoned", named("time with time zone"), "time(0) with time zone", 1266, 0, false),
                column("amount", Type::Int32, "shop.positive", 16388, -1, false),
                column("codes", Type::Array(Box::new(varying(5))), "character varying(5)[]", 1015, 9, true),
            ],
            key: vec![0],
            primary_key: vec![0],
            identity: Identity::Key,
            generated: vec![GeneratedColumn {
                name: "twice".to_owned(),
                native: types::native("integer", 23, -1),
                expression: Template::verbatim(types::DIALECT, "(amount * 2)"),
            }],
            history: Default::default(),
        };
        assert_eq!(table_schema(OLD).unwrap(), want);
        // What it cannot say does not make it another shape.
        let mut now = want;
        now.columns[3].ty = Type::Enum(vec!["sad".to_owned()]);
        now.columns[3].omissible = false;
        assert!(table_schema(OLD).unwrap().same_shape(&now));
    }

    #[test]
    fn whole_old_rows_leave_nothing_out_and_damage_is_told() {
        let full =
            table_schema(&OLD.replace("\"identity\": \"key\"", "\"identity\": \"key-with-full-image\"")).unwrap();
        assert!(full.columns.iter().all(|c| !c.omissible));
        assert!(table_schema("{}").is_err());
    }

    #[test]
    fn a_range_becomes_the_sources_text() {
        for (range, survives) in [
            (r#"{"key":{"column":0,"lower":null,"upper":{"int":-9223372036854775808}}}"#, true),
            (r#"{"key":{"column":1,"lower":{"bytes":[0,255]},"upper":null}}"#, true),
            (r#"{"physical":"{\"schema\":\"s\",\"from\":8}"}"#, false),
            (r#""whole""#, false),
        ] {
            let old = format!(r#"{{"id":3,"range":{range},"rows":40}}"#);
            assert_eq!(chunk(&old).unwrap(), Chunk { id: 3, range: range.to_owned(), survives, rows: 40 });
        }
        assert!(chunk("{}").is_err());
    }
}
