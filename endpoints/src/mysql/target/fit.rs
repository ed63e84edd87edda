//! Whether one type of the server's holds every value of another.

use crate::mysql::types::{Described, labels};

/// Bytes of the types whose length is their name's.
const BY_NAME: [(&str, u64); 4] = [("tiny", 255), ("", 65_535), ("medium", 16_777_215), ("long", 4_294_967_295)];

/// Whether every value of a column of type `wanted` can stand in one of type `have`, and means the same there.
pub(super) fn holds(have: &Described, wanted: &Described) -> bool {
    if let (Some(from), Some(to)) = (integers(wanted), integers(have)) {
        return to.0 <= from.0 && to.1 >= from.1;
    }
    let (w, h) = (wanted.word.as_str(), have.word.as_str());
    match (w, h) {
        (_, "decimal") => digits(wanted).is_some_and(|(whole, after)| {
            let room = digits(have).unwrap_or_default();
            room.0 >= whole && room.1 >= after
        }),
        ("float", "float" | "double") | ("double", "double") => true,
        ("json", "longtext") => have.checked_as_json || have.charset.as_deref() == Some("utf8mb4"),
        ("longtext", "longtext") if wanted.checked_as_json != have.checked_as_json => wanted.checked_as_json,
        ("time" | "datetime" | "timestamp", _) if w == h => have.first().unwrap_or(0) >= wanted.first().unwrap_or(0),
        ("binary", "binary") => have.first() == wanted.first(),
        ("enum", "enum") => labels(&wanted.whole).iter().all(|label| labels(&have.whole).contains(label)),
        // The value is a number that says by their places which they are.
        ("set", "set") => labels(&have.whole).starts_with(&labels(&wanted.whole)),
        // It is filled up differently.
        ("char", "char") => same_characters(have, wanted) && have.first().unwrap_or(1) >= wanted.first().unwrap_or(1),
        _ if is_text(w) && is_text(h) && h != "char" => same_characters(have, wanted) && has_room(have, wanted),
        _ if is_bytes(w) && is_bytes(h) && h != "binary" => bytes(have, 1) >= bytes(wanted, 1),
        _ => wanted.whole == have.whole,
    }
}

/// The smallest and the largest number of an integer type.
fn integers(ty: &Described) -> Option<(i128, i128)> {
    let bits = match ty.word.as_str() {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" => 32,
        "bigint" => 64,
        "year" => return Some((0, 2155)),
        _ => return None,
    };
    let unsigned = ty.whole.contains(" unsigned") || ty.whole.contains(" zerofill");
    Some(if unsigned { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) })
}

/// Digits before and after the point.
fn digits(ty: &Described) -> Option<(u32, u32)> {
    if let Some((least, most)) = integers(ty) {
        let longest = most.max(-least).to_string().len();
        return Some((u32::try_from(longest).ok()?, 0));
    }
    let (all, after) = ty.numbers();
    let after = after.unwrap_or(0);
    (ty.word == "decimal").then(|| (all.unwrap_or(10).saturating_sub(after), after))
}

fn is_text(word: &str) -> bool {
    word.ends_with("char") || word.ends_with("text") || word == "enum" || word == "set"
}

fn is_bytes(word: &str) -> bool {
    word.ends_with("binary") || word.ends_with("blob")
}

/// Whether every character of the one is one of the other.
fn same_characters(have: &Described, wanted: &Described) -> bool {
    let known = |charset: &Option<String>| charset.clone().unwrap_or_default();
    let (have, wanted) = (known(&have.charset), known(&wanted.charset));
    have == wanted || have == "utf8mb4" || wanted == "ascii"
}

/// Whether the longest text fits.
fn has_room(have: &Described, wanted: &Described) -> bool {
    let listed = |ty: &Described| labels(&ty.whole).iter().map(|l| l.chars().count() as u64 + 1).collect::<Vec<_>>();
    let characters = match wanted.word.as_str() {
        "enum" => Some(listed(wanted).into_iter().max().unwrap_or(0)),
        "set" => Some(listed(wanted).into_iter().sum()),
        "char" | "varchar" => Some(u64::from(wanted.first().unwrap_or(1))),
        _ => None,
    };
    match (characters, have.word.as_str()) {
        (Some(characters), "varchar") => u64::from(have.first().unwrap_or(1)) >= characters,
        (Some(characters), _) => bytes(have, 4) >= characters * 4,
        // Of one character set, what fits into so many bytes does so here too; another may need more for each.
        (None, _) if have.charset == wanted.charset => bytes(have, 1) >= bytes(wanted, 1),
        (None, _) => bytes(have, 1) >= (bytes(wanted, 1) * 4).min(BY_NAME[3].1),
    }
}

/// Bytes that a value may have; `each`: of a character.
fn bytes(ty: &Described, each: u64) -> u64 {
    let named = |suffix: &str| {
        let name = ty.word.strip_suffix(suffix)?;
        BY_NAME.iter().find(|(prefix, _)| *prefix == name).map(|(_, bytes)| *bytes)
    };
    named("text").or_else(|| named("blob")).unwrap_or_else(|| u64::from(ty.first().unwrap_or(1)) * each)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(wanted: &str, have: &str) -> bool {
        let of = |name: &str| {
            let name = if is_text(name.split(['(', ' ']).next().unwrap_or_default()) && !name.contains("CHARACTER") {
                format!("{name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
            } else {
                name.to_owned()
            };
            Described::of_ddl(&name)
        };
        holds(&of(have), &of(wanted))
    }

    #[test]
    fn only_what_holds_every_value_fits() {
        for (wanted, have) in [
            ("int(11)", "bigint"),
            ("int unsigned", "bigint(20)"),
            ("year(4)", "smallint"),
            ("bigint unsigned", "decimal(20,0)"),
            ("decimal(10,2)", "decimal(12,3)"),
            ("float", "double"),
            ("varchar(10)", "varchar(20)"),
            ("varchar(60)", "tinytext"),
            ("varchar(10) CHARACTER SET latin1 COLLATE latin1_bin", "varchar(10)"),
            ("text CHARACTER SET latin1 COLLATE latin1_bin", "mediumtext"),
            ("char(5)", "varchar(5)"),
            ("varbinary(10)", "blob"),
            ("binary(4)", "varbinary(4)"),
            ("datetime(3)", "datetime(6)"),
            ("enum('a','b')", "enum('b','a','c')"),
            ("enum('a','bcd')", "varchar(4)"),
            ("set('a','b')", "set('a','b','c')"),
            ("bit(7)", "bit(7)"),
            ("inet6", "inet6"),
        ] {
            assert!(fits(wanted, have), "{wanted} in {have}");
        }
        for (wanted, have) in [
            ("int unsigned", "int"),
            ("tinyint", "smallint unsigned"),
            ("bigint unsigned", "decimal(19,0)"),
            ("decimal(10,2)", "decimal(10,3)"),
            ("decimal(10,2)", "double"),
            ("double", "float"),
            ("varchar(10)", "varchar(9)"),
            ("varchar(64)", "tinytext"),
            ("varchar(10)", "varchar(10) CHARACTER SET latin1 COLLATE latin1_bin"),
            ("text CHARACTER SET latin1 COLLATE latin1_bin", "text"),
            ("varchar(5)", "char(5)"),
            ("varbinary(4)", "binary(4)"),
            ("datetime(6)", "datetime(3)"),
            ("datetime(6)", "timestamp(6)"),
            ("enum('a','b')", "enum('a')"),
            ("set('a','b')", "set('b','a')"),
            ("bit(7)", "bit(8)"),
            ("longtext", "json"),
            ("inet6", "inet4"),
        ] {
            assert!(!fits(wanted, have), "{wanted} in {have}");
        }
    }
}
