//! Canonical types as types of MySQL and MariaDB, for tables whose source is another kind of database.

use std::collections::HashSet;
use std::sync::Arc;

use trem_engine::schema::{Column, Length, Type};
use trem_engine::types::{Counterpart, Verdict};

use super::connect::Flavor;
use super::types::DIALECT;

/// Bytes of an index entry of InnoDB. (MySQL manual, "InnoDB Limits".)
const KEY_BYTES: u32 = 3072;
/// The longest text with a length that is held in its row: more would leave no room for other columns.
const MOST_CHARACTERS: u32 = 4096;
/// The same for bytes.
const MOST_BYTES: u32 = 16_384;
/// Digits of a DECIMAL, and those after its point. (MySQL manual, "Precision Math".)
const MOST_DIGITS: u16 = 65;
const MOST_DECIMALS: i16 = 30;

/// What is to be known of a target beside a column.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) flavor: Flavor,
    /// The collation under which no two texts are equal that PostgreSQL tells apart.
    pub(super) collation: &'static str,
    /// It has the type UUID (MariaDB 10.7).
    pub(super) uuid: bool,
    /// The collations that it has.
    pub(super) collations: Arc<HashSet<String>>,
}

impl Target {
    /// That of this version, as the server says it.
    pub(super) fn of(flavor: Flavor, version: &str, collations: HashSet<String>) -> Self {
        let collations = Arc::new(collations);
        // Of `5.5.5-10.11.6-MariaDB`, what is said for the sake of old replicas is not the version.
        let version = version.strip_prefix("5.5.5-").unwrap_or(version);
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        match flavor {
            Flavor::MariaDb => {
                Self { flavor, collation: "utf8mb4_nopad_bin", uuid: (major, minor) >= (10, 7), collations }
            }
            Flavor::MySql => Self { flavor, collation: "utf8mb4_0900_bin", uuid: false, collations },
        }
    }

    /// What a column is here: its own type where it comes from a server of this kind. `keys`: of how many columns the
    /// key is that it belongs to; 0 if it belongs to none.
    pub(super) fn counterpart(&self, column: &Column, keys: usize) -> Option<Counterpart> {
        if column.native.dialect != DIALECT || (column.ty == Type::Uuid && !self.uuid) {
            return self.of_type(&column.ty, keys);
        }
        // Its own word brings the constraint along that makes it JSON.
        if column.ty == Type::Json && self.flavor == Flavor::MariaDb {
            return Some(Counterpart { name: "json".to_owned(), verdict: Verdict::Exact });
        }
        Some(self.collated(&column.native.name))
    }

    /// A type of a server of this kind, under a collation that this one has. Under one that takes fewer texts for equal
    /// than the source's no two rows become one.
    fn collated(&self, name: &str) -> Counterpart {
        let exact = |name: &str| Counterpart { name: name.to_owned(), verdict: Verdict::Exact };
        let Some((ty, collation)) = name.split_once(" COLLATE ") else { return exact(name) };
        if self.collations.contains(collation) {
            return exact(name);
        }
        let charset = ty.split_once(" CHARACTER SET ").map_or("utf8mb4", |(_, charset)| charset);
        let collation = if charset == "utf8mb4" { self.collation.to_owned() } else { format!("{charset}_bin") };
        Counterpart { name: format!("{ty} COLLATE {collation}"), verdict: Verdict::Widened }
    }

    /// What stands for a canonical type; `None` if nothing does.
    pub(super) fn of_type(&self, ty: &Type, keys: usize) -> Option<Counterpart> {
        use Verdict::{Exact, Widened};
        let of = |name: &str, verdict| Some(Counterpart { name: name.to_owned(), verdict });
        match ty {
            Type::Bool => of("tinyint(1)", Widened),
            Type::Int8 => of("tinyint", Exact),
            Type::UInt8 => of("tinyint unsigned", Exact),
            Type::Int16 => of("smallint", Exact),
            Type::UInt16 => of("smallint unsigned", Exact),
            Type::Int32 => of("int", Exact),
            Type::UInt32 => of("int unsigned", Exact),
            Type::Int64 => of("bigint", Exact),
            Type::UInt64 => of("bigint unsigned", Exact),
            Type::Decimal(Some((precision @ 1..=MOST_DIGITS, scale @ 0..=MOST_DECIMALS)))
                if *scale <= *precision as i16 =>
            {
                of(&format!("decimal({precision},{scale})"), Exact)
            }
            Type::Decimal(_) => of(&self.text(Length::Unlimited, keys), Widened),
            Type::Float32 => of("float", Exact),
            Type::Float64 => of("double", Exact),
            Type::Text(length) => Some(self.sized_text(*length, keys)),
            Type::Binary(length) => Some(binary(*length, keys)),
            Type::Bit(Length::Exactly(bits @ 1..=64)) => of(&format!("bit({bits})"), Exact),
            Type::Bit(length) => of(&self.text(*length, keys), Widened),
            Type::Date => of("date", Exact),
            Type::Time(digits) => of(&format!("time({digits})"), Widened),
            Type::Duration(digits) => of(&format!("time({digits})"), Exact),
            Type::Timestamp(digits) | Type::TimestampTz(digits) => of(&format!("datetime({digits})"), Exact),
            Type::Year => of("smallint", Widened),
            Type::Uuid if self.uuid => of("uuid", Exact),
            Type::Uuid => of("char(36) CHARACTER SET ascii COLLATE ascii_bin", Widened),
            Type::Interval
            | Type::Json
            | Type::Xml
            | Type::Enum(_)
            | Type::Set(_)
            | Type::Array(_)
            | Type::Named(_) => of(&self.text(Length::Unlimited, keys), Widened),
            Type::Geometry(None) => of(&binary(Length::Unlimited, keys).name, Widened),
            Type::Geometry(Some(system)) => Some(Counterpart {
                name: binary(Length::Unlimited, keys).name,
                verdict: Verdict::Lossy(format!("that it is of spatial reference system {system} is not kept")),
            }),
        }
    }

    fn sized_text(&self, length: Length, keys: usize) -> Counterpart {
        let fits = |n: u32| (1..=most_in_key(keys, 4).min(MOST_CHARACTERS)).contains(&n);
        let exact = match length {
            Length::AtMost(n) => fits(n),
            Length::Unlimited => keys == 0,
            // Nothing here fills values up as that does, and keeps what they are filled up with.
            Length::Exactly(_) => false,
        };
        let verdict = if exact { Verdict::Exact } else { Verdict::Widened };
        Counterpart { name: self.text(length, keys), verdict }
    }

    /// Text that keeps its trailing blanks.
    fn text(&self, length: Length, keys: usize) -> String {
        let most = most_in_key(keys, 4);
        let ty = match length {
            Length::AtMost(n) | Length::Exactly(n) if (1..=most.min(MOST_CHARACTERS)).contains(&n) => {
                format!("varchar({n})")
            }
            _ if keys > 0 => format!("varchar({most})"),
            _ => "longtext".to_owned(),
        };
        format!("{ty} CHARACTER SET utf8mb4 COLLATE {}", self.collation)
    }
}

fn binary(length: Length, keys: usize) -> Counterpart {
    let most = most_in_key(keys, 1);
    let of = |name: String, verdict| Counterpart { name, verdict };
    match length {
        Length::Exactly(n @ 1..=255) => of(format!("binary({n})"), Verdict::Exact),
        Length::AtMost(n) if (1..=most.min(MOST_BYTES)).contains(&n) => of(format!("varbinary({n})"), Verdict::Exact),
        _ if keys > 0 => of(format!("varbinary({most})"), Verdict::Widened),
        Length::Unlimited => of("longblob".to_owned(), Verdict::Exact),
        _ => of("longblob".to_owned(), Verdict::Widened),
    }
}

/// How long a column of a key of so many may be, all of them of one length.
fn most_in_key(keys: usize, bytes: u32) -> u32 {
    match u32::try_from(keys) {
        Ok(0) | Err(_) => u32::MAX,
        Ok(keys) => KEY_BYTES / keys / bytes,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use trem_engine::testkit::dialects::every_type;

    fn maria() -> Target {
        Target::of(Flavor::MariaDb, "10.11.6-MariaDB-0+deb12u1", ["latin1_swedish_ci".to_owned()].into())
    }

    #[test]
    fn a_version_says_what_there_is() {
        assert!(maria().uuid && Target::of(Flavor::MariaDb, "5.5.5-11.4.2-MariaDB", HashSet::new()).uuid);
        assert!(!Target::of(Flavor::MariaDb, "10.6.18-MariaDB", HashSet::new()).uuid);
        assert_eq!(Target::of(Flavor::MySql, "8.4.3", HashSet::new()).collation, "utf8mb4_0900_bin");
    }

    #[test]
    fn a_collation_that_is_not_there_is_replaced() {
        let name = |native: &str| maria().collated(native).name;
        let known = "varchar(9) CHARACTER SET latin1 COLLATE latin1_swedish_ci";
        assert_eq!((name(known).as_str(), name("int(11)").as_str()), (known, "int(11)"));
        let (others, ours) = ("text CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci", "utf8mb4_nopad_bin");
        assert_eq!(name(others), format!("text CHARACTER SET utf8mb4 COLLATE {ours}"));
        assert_eq!(
            name("char(2) CHARACTER SET cp1250 COLLATE cp1250_odd"),
            "char(2) CHARACTER SET cp1250 COLLATE cp1250_bin"
        );
    }

    #[test]
    fn keys_have_a_length() {
        let name = |ty: Type, keys| maria().of_type(&ty, keys).unwrap().name;
        let text = |n: u32| format!("varchar({n}) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin");
        assert_eq!(name(Type::Text(Length::Unlimited), 1), text(768));
        assert_eq!(name(Type::Text(Length::Unlimited), 2), text(384));
        assert_eq!(name(Type::Text(Length::AtMost(20)), 2), text(20));
        assert!(name(Type::Text(Length::Unlimited), 0).starts_with("longtext"));
        assert_eq!(name(Type::Binary(Length::Unlimited), 3), "varbinary(1024)");
        assert_eq!(name(Type::Binary(Length::Exactly(16)), 1), "binary(16)");
        assert!(name(Type::Decimal(Some((70, 2))), 0).starts_with("longtext"));
        assert_eq!(name(Type::Decimal(Some((65, 30))), 1), "decimal(65,30)");
    }

    #[test]
    fn the_documented_table_is_the_one_used() {
        let doc = include_str!("../../../docs/TYPES.md");
        let (_, doc) = doc.split_once("## To MySQL and MariaDB").expect("a part of the document");
        let doc = doc.split_once("\n## ").map_or(doc, |(part, _)| part);
        let told = |ty: &Type| match ty {
            Type::Time(n) | Type::Duration(n) | Type::Timestamp(n) | Type::TimestampTz(n) => *n == 3,
            Type::Decimal(Some((precision, _))) => *precision == 10,
            _ => !matches!(ty, Type::Named(_) | Type::Enum(_) | Type::Set(_)),
        };
        for ty in every_type().into_iter().filter(told) {
            let there = maria().of_type(&ty, 0).unwrap();
            let name = there.name.split(" CHARACTER").next().unwrap_or_default();
            let verdict = match there.verdict {
                Verdict::Exact => "exact",
                Verdict::Widened => "widened",
                Verdict::Lossy(_) => "lossy",
            };
            let line = format!("| `{ty}` | {name} | {verdict}");
            assert!(doc.contains(&line), "docs/TYPES.md lacks: {line}");
        }
    }
}
