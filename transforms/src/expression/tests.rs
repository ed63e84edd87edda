//! Expressions over a few columns of three rows.

#![allow(clippy::unwrap_used)]

use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, Int32Array, StringArray};

use super::*;
use trem_engine::schema::Length;

const TEXT: Type = Type::Text(Length::Unlimited);

fn columns() -> Vec<(&'static str, Type, ArrayRef)> {
    vec![
        ("id", Type::Int32, Arc::new(Int32Array::from(vec![Some(1), Some(2), None]))),
        ("name", TEXT, Arc::new(StringArray::from(vec![Some("Ann"), None, Some("Zoë")]))),
        ("amount", Type::Decimal(Some((10, 2))), Arc::new(StringArray::from(vec![Some("1.50"), Some("-3.25"), None]))),
        ("any", Type::Decimal(None), Arc::new(StringArray::from(vec![Some("1.500"), Some("12345678901234.5"), None]))),
        ("ok", Type::Bool, Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
    ]
}

fn compile(text: &str) -> Result<Expression> {
    let columns = columns();
    let inputs: Vec<Input<'_>> = columns.iter().map(|(name, ty, _)| Input { name, ty, called: false }).collect();
    Expression::new(&Formula::new(text, false), &inputs)
}

fn value(text: &str, ty: &Type) -> Result<ArrayRef> {
    let arrays: Vec<ArrayRef> = columns().into_iter().map(|c| c.2).collect();
    compile(text)?.values(&arrays, 3, ty)
}

fn texts(text: &str, ty: &Type) -> Vec<Option<String>> {
    value(text, ty).unwrap().as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect()
}

fn some(all: [Option<&str>; 3]) -> Vec<Option<String>> {
    all.into_iter().map(|t| t.map(str::to_owned)).collect()
}

#[test]
fn values_are_computed_for_every_row() {
    assert_eq!(texts("upper(name) || '!'", &TEXT), some([Some("ANN!"), None, Some("ZOË!")]));
    assert_eq!(texts("coalesce(name, 'nobody')", &TEXT), some([Some("Ann"), Some("nobody"), Some("Zoë")]));
    let cased = "CASE WHEN id > 1 THEN 'many' WHEN id = 1 THEN 'one' END";
    assert_eq!(texts(cased, &TEXT), some([Some("one"), Some("many"), None]));
    assert_eq!(texts("md5(name)", &TEXT)[0].as_deref(), Some("82e335f7ac0e0e412b2ae15abe662110"));
    assert_eq!(texts("sha256(name)", &TEXT)[0].as_ref().map(String::len), Some(64));
    assert_eq!(texts("substring(name from 2 for 2)", &TEXT), some([Some("nn"), None, Some("oë")]));
}

/// A cast that leaves digits out is compared as what it gives.
#[test]
fn casts_of_decimals_are_not_looked_through() {
    for (text, expected) in [
        ("CAST(amount AS decimal(5, 0)) = 2", [Some("true"), Some("false"), None]),
        ("CAST(amount AS decimal(5, 0)) IN (2, -3)", [Some("true"), Some("true"), None]),
        ("CAST(amount AS decimal(5, 0)) > 1.5", [Some("true"), Some("false"), None]),
        ("CAST(amount AS decimal(12, 4)) = 1.5", [Some("true"), Some("false"), None]),
        ("CAST(amount AS int) = CAST(1.5 AS int)", [Some("true"), Some("false"), None]),
        ("CAST(amount AS int) < 0", [Some("false"), Some("true"), None]),
        ("CAST(CAST(id AS decimal(5, 2)) AS int) = 2", [Some("false"), Some("true"), None]),
    ] {
        let text_of = format!("CASE WHEN {text} THEN 'true' WHEN NOT ({text}) THEN 'false' END");
        assert_eq!(texts(&text_of, &TEXT), some(expected), "{text}");
    }
}

#[test]
fn decimals_stay_decimals() {
    let to = Type::Decimal(None);
    assert_eq!(texts("amount * 1.1", &to), some([Some("1.650"), Some("-3.575"), None]));
    assert_eq!(texts("any + 0.1", &to), some([Some("1.6"), Some("12345678901234.6"), None]));
    assert_eq!(texts("amount", &Type::Decimal(Some((12, 4)))), some([Some("1.5000"), Some("-3.2500"), None]));
}

#[test]
fn logic_has_three_values() {
    let filter = compile("ok OR name IS NULL").unwrap();
    let arrays: Vec<ArrayRef> = columns().into_iter().map(|c| c.2).collect();
    let value = filter.evaluate(&arrays, 3).unwrap();
    let value = value.as_boolean();
    assert_eq!((value.value(0), value.value(1), value.is_null(2)), (true, true, true));
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (text, says) in [
        ("nope + 1", "nope"),
        ("id + ", "Expected: an expression, found its end"),
        ("id; DROP TABLE x", "nothing is expected after the expression"),
        ("id = 1 SELECT", "nothing is expected after"),
        ("sha257(name)", "did you mean sha25"),
        ("now()", "now() gives another value each time"),
        ("random() > 0.5", "random()"),
        ("current_date", "current_date"),
        ("(SELECT 1)", "subquery"),
        ("EXISTS (SELECT 1)", "subquery"),
        ("sum(id)", "sum"),
        ("row_number() OVER ()", "cannot be computed"),
        ("$1", "parameter"),
        ("name + 1 * true", ""),
    ] {
        let error = compile(text).unwrap_err();
        assert_eq!(error.class(), Class::Refused, "{text}");
        let said = error.to_string();
        assert!(said.contains(says) && said.contains("remedy"), "{text}: {said}");
    }
    let error = compile("id = 1 AND\n  nope = 2").unwrap_err().to_string();
    assert!(error.contains("line 2, column 3"), "{error}");
}

#[test]
fn what_does_not_fit_is_told_and_never_cut() {
    for (text, ty) in [
        ("id + 2147483647", Type::Int32),
        ("1 / (id - id)", Type::Int32),
        ("name", Type::Int32),
        ("'too long'", Type::Text(Length::AtMost(3))),
        ("id * 100000", Type::Int16),
        ("amount * 100000000.0", Type::Decimal(Some((4, 0)))),
        ("'no uuid'", Type::Uuid),
        ("name", Type::Enum(vec!["Ann".to_owned()])),
    ] {
        let error = value(text, &ty).unwrap_err();
        assert_eq!(error.class(), Class::Table, "{text}: {error}");
    }
}

#[test]
fn long_and_deep_ones_end() {
    let long = vec!["id = 1"; 100_000].join(" OR ");
    let deep = format!("{}id{}", "(".repeat(5_000), ")".repeat(5_000));
    let chain = |n: usize| vec!["id"; n].join(" + ");
    assert!(compile(&long).is_err());
    assert!(compile(&deep).is_err());
    assert!(value(&chain(100), &Type::Int64).is_ok());
    assert!(compile(&chain(900)).unwrap_err().to_string().contains("nests"));
}

#[test]
fn what_holds_a_variable_is_never_shown() {
    for (text, ty) in
        [("hush'", TEXT), ("hush + 1", TEXT), ("CAST('hush' AS int)", Type::Int32), ("'hush'", Type::Int32)]
    {
        let columns = columns();
        let inputs: Vec<Input<'_>> = columns.iter().map(|(name, ty, _)| Input { name, ty, called: false }).collect();
        let expression = Expression::new(&Formula::new(text, true), &inputs);
        let error = expression.and_then(|e| e.values(&[], 3, &ty)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}

const WORDS: &[&str] = &[
    "id",
    "name",
    "amount",
    "any",
    "ok",
    "\"id\"",
    "(",
    ")",
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "=",
    "<>",
    "<",
    ">=",
    "AND",
    "OR",
    "NOT",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "NULL",
    "'x'",
    "''",
    "1",
    "0",
    "-1",
    "1.5",
    "true",
    "::",
    "int",
    "text",
    "date",
    "IS",
    "IN",
    "LIKE",
    "~",
    "BETWEEN",
    "[",
    "]",
    ",",
    "interval '1 day'",
    "upper(",
    "coalesce(",
    "substr(",
    "md5(",
    "sha256(",
    "date_trunc('day',",
    "to_char(",
    "regexp_replace(",
    "power(",
    "left(",
    "lpad(",
    "round(",
    "abs(",
    "nullif(",
    "split_part(",
    "CAST(",
    "AS",
    "EXTRACT(year FROM",
    "SELECT",
    "FROM",
    ";",
    "--",
    "/*",
    "$1",
    "@x",
    "'",
    "\"",
    "\\",
    "é",
    "now()",
    "->",
    "->>",
    "#>",
    "'{a,0}'",
    "'{\"a\":[1]}'",
    "json_typeof(",
    "json_extract_path(",
    "json_array_length(",
    "array_element(",
    "array_length(",
    "uuid_v5(",
    "uuid",
    "json",
    "date '2024-01-31'",
    "E'\\n'",
    "x'00'",
    "ARRAY[",
    "POSITION(",
    "{",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    /// Whatever somebody writes is planned or refused; what is planned has a value for each row or an error.
    #[test]
    fn anything_may_be_written(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..14)) {
        let Ok(expression) = compile(&words.join(" ")) else { return Ok(()) };
        let arrays: Vec<ArrayRef> = columns().into_iter().map(|c| c.2).collect();
        for ty in [TEXT, Type::Int64, Type::Decimal(None), Type::Date] {
            if expression.becomes(&ty).is_ok()
                && let Ok(values) = expression.values(&arrays, 3, &ty)
            {
                proptest::prop_assert_eq!(values.len(), 3);
            }
        }
    }
}

/// Each example of the manual and what it gives, as text.
#[test]
fn the_examples_of_the_manual_come_true() {
    let arrays: Vec<ArrayRef> = columns().into_iter().map(|c| c.2).collect();
    let given = |example: &str| {
        let value = compile(example)?.evaluate(&arrays, 3)?;
        let text = arrow_cast::cast(&value, &DataType::Utf8).map_err(|e| Error::fatal(e.to_string()))?;
        let text = text.as_string::<i32>();
        Ok::<_, Error>(if text.is_null(0) { "NULL".to_owned() } else { text.value(0).to_owned() })
    };
    let mut seen = 0;
    for line in include_str!("../../../docs/FUNCTIONS.md").lines().filter(|line| line.starts_with("| `")) {
        let line = line.replace("\\|", "\u{1}");
        let cells: Vec<String> =
            line.split('|').map(|cell| cell.trim().trim_matches('`').replace('\u{1}', "|")).collect();
        let [_, usage, example, gives, _] = &cells[..] else { panic!("{line} has other columns") };
        let name: String = usage.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let called = usage.starts_with(&format!("{name}("));
        assert!(!called || example.contains(&name), "{usage} is not in {example}");
        assert_eq!(given(example).unwrap_or_else(|e| e.to_string()), *gives, "{example}");
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}
