//! Against `serde_json`'s values, and against what PostgreSQL says.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn found<'j>(json: &'j str, steps: &[Step<'_>]) -> Option<&'j str> {
    find(json, steps).unwrap()
}

#[test]
fn parts_are_given_as_they_are_written() {
    let json = r#" {"a": {"b" : [ 1.10, 12345678901234567890 , 1e999,-0.0] }, "c":"x\ty", "a":{"b":[1.10, 2]}} "#;
    assert_eq!(found(json, &[Step::key("a")]), Some(r#"{"b":[1.10, 2]}"#), "the last one counts");
    assert_eq!(found(json, &[Step::key("a"), Step::key("b"), Step::at(0)]), Some("1.10"));
    assert_eq!(found(json, &[Step::key("c")]), Some(r#""x\ty""#));
    assert_eq!(found(json, &[]), Some(json.trim()));
    let numbers = "[1.10, 12345678901234567890 , 1e999,-0.0]";
    for (at, number) in
        [(0, "1.10"), (1, "12345678901234567890"), (2, "1e999"), (3, "-0.0"), (-1, "-0.0"), (-4, "1.10")]
    {
        assert_eq!(found(numbers, &[Step::at(at)]), Some(number));
    }
    for at in [4, -5, i64::MIN, i64::MAX] {
        assert_eq!(found(numbers, &[Step::at(at)]), None);
    }
}

#[test]
fn what_is_not_there_is_nothing() {
    for (json, step) in [
        (r#"{"a":1}"#, Step::key("b")),
        (r#"{"0":1}"#, Step::at(0)),
        (r#"["a"]"#, Step::key("0")),
        (r#""a""#, Step::key("a")),
        ("1", Step::at(0)),
        ("null", Step::key("a")),
        ("[]", Step::at(-1)),
        ("[[1]]", Step::either("x")),
    ] {
        assert_eq!(found(json, &[step]), None, "{json}");
    }
    assert_eq!(found(r#"{"a":null}"#, &[Step::key("a")]), Some("null"));
    assert_eq!(found(r#"{"a":null}"#, &[Step::key("a"), Step::key("b")]), None);
    assert_eq!(found(r#"{"a":[5,{"1":6}]}"#, &[Step::key("a"), Step::either("-1"), Step::either("1")]), Some("6"));
}

#[test]
fn text_has_no_quotes() {
    let pair = r#""\ud83d\ude00 \"\u00e9\"\n""#;
    assert_eq!(text(pair).unwrap().as_deref(), Some("😀 \"é\"\n"));
    assert_eq!(text("null").unwrap(), None);
    assert_eq!(text("1.10").unwrap().as_deref(), Some("1.10"));
    assert_eq!(text("[\"a\"]").unwrap().as_deref(), Some("[\"a\"]"));
    assert_eq!(text(r#""""#).unwrap().as_deref(), Some(""));
    assert_eq!(text(r#""\\""#).unwrap().as_deref(), Some("\\"));
    for broken in [r#""\u0000""#, r#""\ud800""#, r#""\ud800x""#] {
        assert_eq!(text(broken), Err(Fault::Unprintable));
    }
    let halves = r#"{"\ud800":1,"\u0061":2}"#;
    assert_eq!(found(halves, &[Step::key("a")]), Some("2"), "a key that nobody asks for may be anything");
}

#[test]
fn what_is_no_json_is_told_and_not_shown() {
    for text in [
        "",
        " ",
        "secret",
        "{'secret':1}",
        "{\"secret\":1",
        "[1,]",
        "[secret]",
        "01",
        "1 2",
        "+1",
        "\"secret",
        "tru",
        "{\"a\":1}secret",
        "NaN",
        "\"\t\"",
        "{\"a\" 1}",
        "[1}",
        "\u{a0}1",
    ] {
        for step in [Step::key("a"), Step::at(0), Step::at(-1)] {
            let error = find(text, &[step]).unwrap_err().to_string();
            assert!(error.contains("line") && !error.contains("secret"), "{text}: {error}");
        }
        assert!(find(text, &[]).is_err() && kind(text).is_err() && length(text).is_err() && !is_json(text), "{text}");
    }
    assert_eq!(find("{\n \"a\": nope}", &[Step::key("a")]), Err(Fault::Malformed(2, 8)));
    assert_eq!(length("{}"), Err(Fault::Other(Kind::Object)));
    assert_eq!(length(" [1, [2, 3], {}]"), Ok(3));
}

#[test]
fn text_that_nests_deep_takes_no_stack() {
    let deep = 200_000;
    let arrays = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
    let objects = format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep));
    let half = &arrays[..deep];
    assert_eq!(found(&arrays, &[Step::at(0)]).map(str::len), Some(2 * deep - 2));
    assert_eq!(found(&arrays, &[Step::at(-1), Step::at(0)]).map(str::len), Some(2 * deep - 4));
    assert_eq!(found(&objects, &[Step::key("a")]).map(str::len), Some(6 * deep - 5));
    assert_eq!(kind(&objects), Ok(Kind::Object));
    assert!(find(half, &[Step::at(0)]).is_err() && !is_json(half));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        "[a\\\\\"\u{0}é😀\n]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab0\"\\\\]{0,2}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn step<'v>(value: &'v Value, step: &Step<'_>) -> Option<&'v Value> {
    match value {
        Value::Object(members) => members.get(step.key.as_deref()?),
        Value::Array(elements) => {
            let at = step.at?;
            let at = if at < 0 { at + elements.len() as i64 } else { at };
            elements.get(usize::try_from(at).ok()?)
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Steps into text lead where they lead in values.
    #[test]
    fn a_part_of_text_is_the_part_of_the_value(
        value in values(),
        steps in prop::collection::vec(("[ab0\"\\\\]{0,2}", any::<bool>(), -3..3i64), 0..4),
        pretty in any::<bool>(),
    ) {
        let steps: Vec<Step<'_>> = steps.iter().map(|(key, keyed, at)| {
            if *keyed { Step::key(key) } else { Step { key: Some(at.to_string().into()), at: Some(*at) } }
        }).collect();
        let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let expected = steps.iter().try_fold(&value, step);
        let found = find(&json, &steps).unwrap();
        let parsed = found.map(|part| serde_json::from_str::<Value>(part).unwrap());
        prop_assert_eq!(parsed.as_ref(), expected);
        prop_assert!(found.is_none_or(|part| json.contains(part)));
        let text = found.map(text);
        match (expected, text) {
            (Some(Value::String(wanted)), Some(got)) if wanted.contains('\0') => {
                prop_assert_eq!(got, Err(Fault::Unprintable));
            }
            (Some(Value::String(wanted)), Some(got)) => prop_assert_eq!(got, Ok(Some(Cow::Borrowed(wanted.as_str())))),
            (None | Some(Value::Null), got) => prop_assert!(got.is_none_or(|got| got == Ok(None))),
            (Some(_), got) => prop_assert_eq!(got, found.map(|part| Ok(Some(Cow::Borrowed(part))))),
        }
    }

    /// Anything is read to its end or refused, as `serde_json` does.
    #[test]
    fn anything_may_be_in_a_column(text in "[\\[\\]{}\",:0-9eE.+\\-\\\\u a-fnrtls\u{0}é]{0,24}", at in -3..3i64) {
        let valid = is_json(&text);
        for step in [Step::key("a"), Step::at(at), Step::either(at.to_string())] {
            prop_assert_eq!(find(&text, &[step]).is_ok(), valid);
        }
        prop_assert_eq!(kind(&text).is_ok(), valid);
        prop_assert_eq!(find(&text, &[]).is_ok(), valid);
    }
}
