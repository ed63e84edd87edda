//! Whether values of a source's column can stand in a target's.

use trem_engine::ports::Finding;
use trem_engine::schema::{Column, TableSchema, Type};
use trem_engine::types::Verdict;

use super::shape::TargetColumn;
use crate::postgres::counterpart;
use crate::target::findings;

/// Whether every value of the source's column can stand in the target's.
pub(super) fn fits(column: &Column, have: &TargetColumn) -> bool {
    let Some(wanted) = counterpart::of(column).filter(|c| !matches!(c.verdict, Verdict::Lossy(_))) else {
        return false;
    };
    if wanted.name == have.ty {
        return true;
    }
    let (base, modifier) = split_modifier(&wanted.name);
    let (have_base, have_modifier) = split_modifier(&have.ty);
    if base == have_base {
        return match (modifier, have_modifier) {
            (_, None) => true,
            (Some(from), Some(to)) => widens(&base, &from, &to),
            (None, Some(_)) => false,
        };
    }
    let bare = have_modifier.is_none();
    bare && (base == have.base || widenings(&column.ty).contains(&have.base.as_str()))
}

/// Types that hold every value of a canonical type: PostgreSQL itself casts to them implicitly.
fn widenings(ty: &Type) -> &'static [&'static str] {
    match ty {
        Type::Bool => &["boolean"],
        Type::Int8 | Type::UInt8 | Type::Year | Type::Int16 => &["smallint", "integer", "bigint", "numeric"],
        Type::UInt16 | Type::Int32 => &["integer", "bigint", "numeric"],
        Type::UInt32 | Type::Int64 => &["bigint", "numeric"],
        Type::UInt64 | Type::Decimal(_) => &["numeric"],
        Type::Float32 => &["real", "double precision"],
        Type::Float64 => &["double precision"],
        Type::Text(_) | Type::Set(_) => &["text", "character varying"],
        Type::Binary(_) => &["bytea"],
        Type::Uuid => &["uuid"],
        Type::Date => &["date"],
        Type::Time(_) => &["time without time zone"],
        Type::Timestamp(_) => &["timestamp without time zone"],
        Type::TimestampTz(_) => &["timestamp with time zone"],
        Type::Bit(_) | Type::Duration(_) | Type::Interval | Type::Json | Type::Xml | Type::Enum(_) => &[],
        Type::Array(_) | Type::Geometry(_) | Type::Named(_) => &[],
    }
}

/// Columns for which the target has no type that holds what they hold.
pub(super) fn without_form(table: &TableSchema) -> Vec<Finding> {
    findings::without_form(table, counterpart::of)
}

/// `numeric(10,2)` is `numeric` and `[10, 2]`; `timestamp(3) without time zone` likewise.
pub(super) fn split_modifier(name: &str) -> (String, Option<Vec<i64>>) {
    let Some((before, rest)) = name.split_once('(') else { return (name.to_owned(), None) };
    let Some((inner, after)) = rest.split_once(')') else { return (name.to_owned(), None) };
    let numbers = inner.split(',').map(|n| n.trim().parse().ok()).collect::<Option<Vec<i64>>>();
    match numbers {
        Some(numbers) => (format!("{before}{after}"), Some(numbers)),
        None => (name.to_owned(), None),
    }
}

fn widens(base: &str, from: &[i64], to: &[i64]) -> bool {
    let at = |m: &[i64], i: usize| m.get(i).copied().unwrap_or(0);
    match base {
        // Fixed width: another one pads or cuts.
        "character" | "bit" => from == to,
        "numeric" => at(to, 1) >= at(from, 1) && at(to, 0) - at(to, 1) >= at(from, 0) - at(from, 1),
        _ => at(to, 0) >= at(from, 0),
    }
}

/// A column that takes what values of a type there are, and nothing else is known of.
pub(super) fn nullable(name: &str, ty: &str) -> TargetColumn {
    TargetColumn {
        name: name.to_owned(),
        base: split_modifier(ty).0,
        ty: ty.to_owned(),
        under_domain: None,
        receive: String::new(),
        equality: None,
        not_null: false,
        has_default: false,
        always_identity: false,
        generated: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trem_engine::schema::{Dialect, Length, Native};

    use crate::postgres::types::native;

    const TEXT: Type = Type::Text(Length::Unlimited);

    fn fit(ty: Type, name: &str, there: &str) -> bool {
        fit_from(ty, native(name, 0, -1), there)
    }

    fn fit_from(source: Type, native: Native, ty: &str) -> bool {
        let column = Column { name: "c".to_owned(), ty: source, native, nullable: true, omissible: false };
        fits(&column, &nullable("c", ty))
    }

    #[test]
    fn only_what_holds_every_value_fits() {
        use Type as L;
        assert!(fit(L::Int32, "integer", "bigint"));
        assert!(!fit(L::Int64, "bigint", "integer"));
        assert!(fit(TEXT, "character varying(10)", "character varying(20)"));
        assert!(fit(TEXT, "character varying(10)", "text"));
        assert!(!fit(TEXT, "text", "character varying(20)"));
        assert!(!fit(TEXT, "character(5)", "character(6)"));
        assert!(fit(L::Decimal(None), "numeric(10,2)", "numeric(12,3)"));
        assert!(!fit(L::Decimal(None), "numeric(10,2)", "numeric(10,3)"));
        assert!(fit(L::Timestamp(6), "timestamp(3) without time zone", "timestamp without time zone"));
        assert!(!fit(L::Timestamp(6), "timestamp without time zone", "timestamp with time zone"));
        assert!(!fit(L::Json, "json", "jsonb"));
        assert!(fit(L::Named("inet".to_owned()), "inet", "inet"));
        assert!(!fit(L::Named("inet".to_owned()), "inet", "text"));
    }

    #[test]
    fn types_of_another_dialect_fit_by_what_they_mean() {
        let fit = |ty: Type, there: &str| {
            let native = Native { dialect: Dialect::new("other"), name: there.to_owned(), detail: String::new() };
            fit_from(ty, native, there)
        };
        assert!(fit(Type::UInt8, "smallint") && fit(Type::UInt8, "bigint") && fit(Type::UInt32, "bigint"));
        assert!(!fit(Type::UInt32, "integer") && !fit(Type::UInt64, "bigint") && !fit(Type::UInt64, "numeric(19,0)"));
        assert!(
            fit(Type::UInt64, "numeric(20,0)") && fit(Type::UInt64, "numeric(30,5)") && fit(Type::UInt64, "numeric")
        );
        assert!(fit(Type::Text(Length::AtMost(20)), "character varying(20)"));
        assert!(!fit(Type::Text(Length::AtMost(20)), "character varying(10)"));
        assert!(fit(Type::Set(Vec::new()), "text") && fit(Type::Enum(Vec::new()), "text"));
        assert!(fit(Type::Duration(3), "interval(6)") && !fit(Type::Duration(6), "interval(3)"));
        assert!(fit(Type::Duration(6), "interval"));
        assert!(!fit(Type::Named("x".to_owned()), "x"), "the name says nothing here");
        assert!(!fit(Type::Geometry(Some(1)), "bytea") && fit(Type::Geometry(None), "bytea"));
    }

    #[test]
    fn what_nothing_holds_is_refused_with_its_name() {
        let native = Native { dialect: Dialect::new("other"), name: "blob of x".to_owned(), detail: String::new() };
        let column = |name: &str, ty| Column {
            name: name.to_owned(),
            ty,
            native: native.clone(),
            nullable: true,
            omissible: false,
        };
        let table = TableSchema {
            id: trem_engine::schema::TableId::new("s", "t"),
            native_id: None,
            columns: vec![
                column("a", Type::Named("x".into())),
                column("b", Type::Int32),
                column("c", Type::Geometry(Some(7))),
            ],
            key: Vec::new(),
            primary_key: Vec::new(),
            identity: trem_engine::schema::Identity::Full,
            generated: Vec::new(),
            history: Default::default(),
        };
        let found = without_form(&table);
        let subjects: Vec<&str> = found.iter().map(|f| f.subject.as_str()).collect();
        assert_eq!(subjects, ["s.t.a", "s.t.c"]);
        assert!(found[0].message.contains("blob of x (other)") && found[1].message.contains("system 7"));
    }
}
