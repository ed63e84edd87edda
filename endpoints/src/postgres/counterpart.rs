//! Canonical types as types of PostgreSQL, for tables whose source is another kind of database.

use std::borrow::Cow;

use trem_engine::schema::{Column, Length, Type};
use trem_engine::types::{Counterpart, Verdict};

use super::types::DIALECT;

/// The longest text with a length.
const MOST_CHARACTERS: u32 = 10_485_760;
/// The longest bit string with a length.
const MOST_BITS: u32 = 83_886_080;
/// Digits of a `numeric` with a precision.
const MOST_DIGITS: u16 = 1000;

/// What a column is on a target of this dialect: its own type where it comes from one. `None`: nothing there holds it.
pub(crate) fn of(column: &Column) -> Option<Counterpart> {
    if column.native.dialect == DIALECT {
        return Some(Counterpart { name: column.native.name.clone(), verdict: Verdict::Exact });
    }
    counterpart(&column.ty)
}

/// The type of a column as it stands in DDL and casts; where nothing holds it, a name that the server refuses.
pub(crate) fn name(column: &Column) -> Cow<'_, str> {
    if column.native.dialect == DIALECT {
        return Cow::Borrowed(&column.native.name);
    }
    Cow::Owned(counterpart(&column.ty).map_or_else(|| format!("\"no form of {}\"", column.ty), |c| c.name))
}

/// What stands for a canonical type; `None` if nothing does.
pub(crate) fn counterpart(ty: &Type) -> Option<Counterpart> {
    use Verdict::{Exact, Widened};
    let of = |name: &str, verdict| Some(Counterpart { name: name.to_owned(), verdict });
    match ty {
        Type::Bool => of("boolean", Exact),
        Type::Int8 | Type::UInt8 | Type::Year => of("smallint", Widened),
        Type::Int16 => of("smallint", Exact),
        Type::UInt16 => of("integer", Widened),
        Type::Int32 => of("integer", Exact),
        Type::UInt32 => of("bigint", Widened),
        Type::Int64 => of("bigint", Exact),
        Type::UInt64 => of("numeric(20,0)", Widened),
        Type::Decimal(Some((precision @ 1..=MOST_DIGITS, scale @ 0..))) if *scale <= *precision as i16 => {
            of(&format!("numeric({precision},{scale})"), Exact)
        }
        Type::Decimal(Some(_)) => of("numeric", Widened),
        Type::Decimal(None) => of("numeric", Exact),
        Type::Float32 => of("real", Exact),
        Type::Float64 => of("double precision", Exact),
        Type::Text(length) => Some(sized(*length, MOST_CHARACTERS, "character varying", "character", "text")),
        Type::Binary(Length::Unlimited) => of("bytea", Exact),
        Type::Binary(_) => of("bytea", Widened),
        Type::Bit(length) => Some(sized(*length, MOST_BITS, "bit varying", "bit", "bit varying")),
        Type::Date => of("date", Exact),
        Type::Time(digits) => of(&format!("time({digits}) without time zone"), Exact),
        Type::Duration(digits) => of(&format!("interval({digits})"), Widened),
        Type::Timestamp(digits) => of(&format!("timestamp({digits}) without time zone"), Exact),
        Type::TimestampTz(digits) => of(&format!("timestamp({digits}) with time zone"), Exact),
        Type::Interval => of("interval", Exact),
        Type::Uuid => of("uuid", Exact),
        Type::Json => of("json", Exact),
        Type::Xml => of("xml", Exact),
        Type::Enum(_) | Type::Set(_) => of("text", Widened),
        Type::Array(element) => {
            counterpart(element).map(|e| Counterpart { name: format!("{}[]", e.name), verdict: e.verdict })
        }
        Type::Geometry(None) => of("bytea", Widened),
        Type::Geometry(Some(system)) => {
            of("bytea", Verdict::Lossy(format!("that it is of spatial reference system {system} is not kept")))
        }
        Type::Named(_) => None,
    }
}

fn sized(length: Length, limit: u32, varying: &str, fixed: &str, unlimited: &str) -> Counterpart {
    let (name, verdict) = match length {
        Length::AtMost(n) if (1..=limit).contains(&n) => (format!("{varying}({n})"), Verdict::Exact),
        Length::Exactly(n) if (1..=limit).contains(&n) => (format!("{fixed}({n})"), Verdict::Exact),
        Length::Unlimited => (unlimited.to_owned(), Verdict::Exact),
        Length::AtMost(_) | Length::Exactly(_) => (unlimited.to_owned(), Verdict::Widened),
    };
    Counterpart { name, verdict }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::postgres::types::native;
    use trem_engine::schema::{Dialect, Native};
    use trem_engine::testkit::dialects::every_type;

    fn column(native: Native) -> Column {
        Column { name: "c".to_owned(), ty: Type::UInt8, native, nullable: true, omissible: false }
    }

    #[test]
    fn the_own_name_is_used_in_the_own_dialect_only() {
        assert_eq!(name(&column(native("public.tiny", 9, -1))), "public.tiny");
        let other = Native { dialect: Dialect::new("other"), name: "tinyint unsigned".into(), detail: String::new() };
        assert_eq!(name(&column(other.clone())), "smallint");
        assert_eq!(of(&column(other)).unwrap().verdict, Verdict::Widened);
    }

    #[test]
    fn parameters_are_kept_as_far_as_they_go() {
        let shown = |ty: Type| counterpart(&ty).map(|c| (c.name, c.verdict == Verdict::Exact));
        let some = |name: &str, exact| Some((name.to_owned(), exact));
        assert_eq!(shown(Type::Decimal(Some((10, 2)))), some("numeric(10,2)", true));
        assert_eq!(shown(Type::Decimal(Some((2000, 2)))), some("numeric", false));
        assert_eq!(shown(Type::Decimal(Some((2, 5)))), some("numeric", false));
        assert_eq!(shown(Type::Decimal(Some((2, -5)))), some("numeric", false));
        assert_eq!(shown(Type::Text(Length::AtMost(20))), some("character varying(20)", true));
        assert_eq!(shown(Type::Text(Length::AtMost(u32::MAX))), some("text", false));
        assert_eq!(shown(Type::Text(Length::Exactly(0))), some("text", false));
        assert_eq!(shown(Type::Bit(Length::Exactly(64))), some("bit(64)", true));
        assert_eq!(shown(Type::Timestamp(3)), some("timestamp(3) without time zone", true));
        assert_eq!(shown(Type::Array(Box::new(Type::UInt64))), some("numeric(20,0)[]", false));
        assert_eq!(shown(Type::Array(Box::new(Type::Named("x".into())))), None);
    }

    #[test]
    fn the_documented_table_is_the_one_used() {
        let doc = include_str!("../../../docs/TYPES.md");
        let mut rows = 0;
        // What is said of three digits goes for all.
        let told = |ty: &Type| match ty {
            Type::Time(n) | Type::Duration(n) | Type::Timestamp(n) | Type::TimestampTz(n) => *n == 3,
            Type::Decimal(Some((precision, _))) => *precision == 10,
            _ => !matches!(ty, Type::Named(_) | Type::Enum(_) | Type::Set(_)),
        };
        for ty in every_type().into_iter().filter(told) {
            let there = counterpart(&ty).unwrap();
            let verdict = match there.verdict {
                Verdict::Exact => "exact",
                Verdict::Widened => "widened",
                Verdict::Lossy(_) => "lossy",
            };
            let arrow = ty.arrow().to_string().replace("µs", "us").replace('"', "");
            let line = format!("| `{ty}` | `{arrow}` | {} | {verdict} |", there.name);
            assert!(doc.contains(&line), "docs/TYPES.md lacks: {line}");
            rows += 1;
        }
        let documented = doc.lines().filter(|l| ["exact |", "widened |", "lossy |"].iter().any(|v| l.ends_with(v)));
        // And those with labels.
        assert_eq!(documented.count(), rows + 2);
        for labelled in [Type::Enum(Vec::new()), Type::Set(Vec::new())] {
            assert_eq!(counterpart(&labelled).unwrap().name, "text");
        }
        assert_eq!(counterpart(&Type::Named("own".to_owned())), None);
    }

    #[test]
    fn what_would_lose_says_what() {
        let lossy = counterpart(&Type::Geometry(Some(4326))).unwrap().verdict;
        assert!(matches!(lossy, Verdict::Lossy(why) if why.contains("4326")));
    }
}
