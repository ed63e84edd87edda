//! Our own functions over a few columns of three rows.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Int32Array, StringArray};
use trem_engine::schema::{Length, Type};
use trem_engine::{Class, Result};

use super::super::{Expression, Input};
use crate::formula::Formula;

const TEXT: Type = Type::Text(Length::Unlimited);

fn strings(texts: [Option<&str>; 3]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn columns() -> Vec<(&'static str, Type, ArrayRef)> {
    let data = [Some(r#"{"a": {"b": [1.10, "x"]}, "n": null, "s": "h\u00e9"}"#), Some("[ 7, [8] ]"), None];
    let uuid = FixedSizeBinaryArray::try_from_iter([[0x6b; 16], [1; 16], [2; 16]].iter()).unwrap();
    vec![
        ("id", Type::Int32, Arc::new(Int32Array::from(vec![Some(1), Some(2), None]))),
        ("key", TEXT, strings([Some("a"), Some("0"), Some("c")])),
        ("data", Type::Json, strings(data)),
        ("note", TEXT, strings([Some("{\"a\":1}"), Some("secret"), None])),
        ("tags", Type::Array(Box::new(TEXT)), strings([Some("{a,\"b c\",NULL}"), Some("{}"), None])),
        ("grid", Type::Array(Box::new(Type::Int32)), strings([Some("{{1,2},{3,4}}"), Some("[2:3]={5,6}"), None])),
        ("boxes", Type::Array(Box::new(Type::Named("box".into()))), strings([None, None, None])),
        ("ip", Type::Named("inet".into()), strings([None, None, None])),
        ("uid", Type::Uuid, Arc::new(uuid)),
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

#[track_caller]
fn gives(text: &str, wanted: [Option<&str>; 3]) {
    let values = value(text, &TEXT).unwrap();
    assert_eq!(values.as_string::<i32>().iter().collect::<Vec<_>>(), wanted, "{text}");
}

#[test]
fn json_has_parts() {
    let b = r#"[1.10, "x"]"#;
    gives("data -> 'a' -> 'b'", [Some(b), None, None]);
    gives("data->'a'->'b'->0", [Some("1.10"), None, None]);
    gives("data->'a'->'b'->-1", [Some("\"x\""), None, None]);
    gives("data->'a'->'b'->>-1", [Some("x"), None, None]);
    gives("data->'n'", [Some("null"), None, None]);
    gives("data->>'n'", [None, None, None]);
    gives("data->>'s'", [Some("hé"), None, None]);
    gives("data->>'a'", [Some(r#"{"b": [1.10, "x"]}"#), None, None]);
    gives("data->1", [None, Some("[8]"), None]);
    gives("data->'1'", [None, None, None]);
    gives("data#>'{a,b,0}'", [Some("1.10"), None, None]);
    gives("data #>> '{a,b,-1}'", [Some("x"), None, None]);
    gives("data #>> '{1,0}'", [None, Some("8"), None]);
    gives("data #> '{a,NULL}'", [None, None, None]);
    gives("json_extract_path(data, 'a', 'b')", [Some(b), None, None]);
    gives("json_extract_path(data, 'a', 'b', 0)", [Some("1.10"), None, None]);
    gives("json_extract_path_text(data, 'a', 'b', '1')", [Some("x"), None, None]);
    gives("'[1,2]' -> 1", [Some("2"), Some("2"), Some("2")]);
    gives("data -> NULL", [None, None, None]);
    gives("NULL -> 'a'", [None, None, None]);
}

#[test]
fn keys_may_be_columns() {
    gives("data -> key", [Some(r#"{"b": [1.10, "x"]}"#), None, None]);
    gives("data -> (id - 1)", [None, Some("[8]"), None]);
    gives("'{\"a\":1,\"c\":2}' ->> key", [Some("1"), None, Some("2")]);
    gives("'[5,6,7]' ->> id", [Some("6"), Some("7"), None]);
    gives("data #>> ('{' || key || '}')", [Some(r#"{"b": [1.10, "x"]}"#), Some("7"), None]);
    gives("json_extract_path_text(data, key)", [Some(r#"{"b": [1.10, "x"]}"#), Some("7"), None]);
    gives("json_extract_path_text('{\"a\":[1,2,3]}', 'a', id::text)", [Some("2"), Some("3"), None]);
}

#[test]
fn operators_bind_as_in_postgresql() {
    gives("data->'a'->'b'->>1 = 'x'", [Some("true"), None, None]);
    gives("data->>'s' || '!'", [Some("hé!"), None, None]);
    gives("(data->'a'->'b'->>0)::decimal(6,2) * 2", [Some("2.20"), None, None]);
    gives("(data->>0)::int + 1", [None, Some("8"), None]);
    gives("data->>'s' IS NULL AND data->1 IS NOT NULL", [Some("false"), Some("true"), Some("false")]);
    gives("upper(data->>'s') LIKE 'H%'", [Some("true"), None, None]);
    gives("data->>'s' IN ('hé', 'x')", [Some("true"), None, None]);
    gives("id>-1 AND id<+3 AND id=-(-id) AND id*-1<=-1", [Some("true"), Some("true"), None]);
    gives("data->>('s')", [Some("hé"), None, None]);
}

#[test]
fn json_tells_what_it_is() {
    gives("json_typeof(data)", [Some("object"), Some("array"), None]);
    gives("json_typeof(data->'a'->'b'->0)", [Some("number"), None, None]);
    gives("json_array_length(data->'a'->'b')", [Some("2"), None, None]);
    gives("json_valid(note)", [Some("true"), Some("false"), None]);
    gives("CASE WHEN json_valid(note) THEN note->>'a' ELSE 'none' END", [Some("1"), Some("none"), Some("none")]);
    gives("'{\"a\" : 1}'::jsonb -> 'a'", [Some("1"); 3]);
    gives("CAST('[1]' AS json)", [Some("[1]"); 3]);
    gives("json '[1]' -> 0", [Some("1"); 3]);
}

#[test]
fn arrays_have_elements() {
    gives("tags[2]", [Some("b c"), None, None]);
    gives("tags[3]", [None, None, None]);
    gives("tags[0]", [None, None, None]);
    gives("tags[-1]", [None, None, None]);
    gives("tags[id]", [Some("a"), None, None]);
    gives("grid[2][1]", [Some("3"), None, None]);
    gives("grid[2]", [None, Some("5"), None]);
    gives("CAST(grid[1][2] AS int) + 1", [Some("3"), None, None]);
    gives("grid[1][2]::int + 1", [Some("3"), None, None]);
    gives("array_element(tags, 1)", [Some("a"), None, None]);
    gives("array_element(grid, 1, id)", [Some("1"), None, None]);
    gives("upper(tags[1]) || '!'", [Some("A!"), None, None]);
    gives("array_length(tags)", [Some("3"), None, None]);
    gives("array_length(grid, 1)", [Some("2"), Some("2"), None]);
    gives("array_length(grid, 2)", [Some("2"), None, None]);
    gives("array_length(grid, 3)", [None, None, None]);
    gives("array_length(grid, 0)", [None, None, None]);
    gives("('{' || key || ',z}')[2]", [Some("z"); 3]);
}

#[test]
fn uuids_are_made_of_names() {
    // The DNS namespace, and what RFC 9562 has for www.example.com.
    let dns = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let made = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
    gives(&format!("uuid_v5('{dns}', 'www.example.com')"), [Some(made); 3]);
    gives(&format!("uuid_v5('{{{}}}', 'www.example.com')", dns.to_uppercase()), [Some(made); 3]);
    gives(&format!("uuid_v5(uid, key) = uuid_v5(uid::text, key) AND uid <> '{dns}'"), [Some("true"); 3]);
    gives("uuid_v5(NULL, key)", [None; 3]);
    gives(&format!("uuid_v5('{dns}', NULL)"), [None; 3]);
    let text = |digits: &str| [4, 2, 2, 2, 6].map(|count| digits.repeat(count)).join("-");
    gives("uid::text", [Some(&text("6b")), Some(&text("01")), Some(&text("02"))]);
    gives(&format!("'{}'::uuid", dns.to_uppercase()), [Some(dns); 3]);
    gives(&format!("uid = uuid '{dns}'"), [Some("false"); 3]);
    let bytes = value(&format!("uuid_v5('{dns}', key)"), &Type::Uuid).unwrap();
    assert_eq!(bytes.as_fixed_size_binary().value(0)[6] >> 4, 5);
}

#[test]
fn a_row_that_cannot_be_done_is_told_without_its_value() {
    for (text, says) in [
        ("note -> 'a'", "a text that is no JSON, from its line 1, column 1 on"),
        ("note #>> '{a}'", "no JSON"),
        ("note::json", "no JSON"),
        ("json_typeof(note)", "no JSON"),
        ("json_array_length(data)", "it has to be a JSON array, and a value is of type object"),
        ("note[1]", "a text that is no array"),
        ("array_length(note)", "no array"),
        ("data #> note", "no array"),
        ("note::uuid", "no UUID"),
        ("uuid_v5(note, 'x')", "no UUID"),
        ("'\"\\u0000\"' #>> '{}'", "a character that text cannot have"),
    ] {
        let error = value(text, &TEXT).unwrap_err();
        let said = error.to_string();
        assert_eq!(error.class(), Class::Table, "{text}: {said}");
        assert!(said.contains(says) && !said.contains("secret"), "{text}: {said}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (text, says) in [
        ("1 + (id -> 'a')", "-> takes JSON, or text with it, and column id is of type int32 (line 1, column 6)"),
        ("upper(uid ->> 'a')", "->> takes JSON, or text with it, and column uid is of type uuid (line 1, column 7)"),
        ("ip -> 'a'", "column ip is of type inet"),
        ("tags -> 0", "column tags is of type text[]"),
        ("data -> 1.5", "-> takes a text or a whole number as a key, and this is of type decimal"),
        ("data -> true", "this is of type boolean"),
        ("data #> '{a'", "#> takes a path such as '{a,0,b}', and this is none"),
        ("data #> 1", "a path such as"),
        ("json_extract_path(data)", "json_extract_path takes 2 or more arguments, and here are 1"),
        ("json_typeof(data, 'a')", "json_typeof takes 1 argument, and here are 2"),
        ("json_typeof(id + 1)", "this is of type int64 (line 1, column 13)"),
        ("json_valid(id)", "json_valid takes text, and column id is of type int32"),
        ("data[1]", "[] takes an array, or text with one, such as {1,2}, and column data is of type json"),
        ("(data->'a')[1]", "and this is JSON"),
        ("id[1]", "column id is of type int32 (line 1, column 1)"),
        ("boxes[1]", "the elements of column boxes, of type box[], have semicolons"),
        ("tags['a']", "a subscript has to be a whole number"),
        ("tags[key]", "[] takes a whole number there, and column key is of type text"),
        ("tags[1:2]", "there are no parts of arrays"),
        ("data #> ARRAY['a']", "there are no arrays of values in an expression: write one as text, '{a,b}'"),
        ("tags[1.5]", "a whole number there"),
        ("uuid_v5(id, key)", "uuid_v5 takes text, and column id"),
        ("data @> '{}'", "expressions have no operator @>"),
        ("data ? 'a'", "expressions have no operator ?"),
        ("id::uuid", "column id is of type int32"),
    ] {
        let error = compile(text).unwrap_err();
        let said = error.to_string();
        assert_eq!(error.class(), Class::Refused, "{text}: {said}");
        assert!(said.contains(says) && said.contains("remedy"), "{text}: {said}");
    }
    let long = vec!["'a'"; 101].join(", ");
    let error = compile(&format!("json_extract_path(data, {long})")).unwrap_err().to_string();
    assert!(error.contains("a path has 101 steps, and 100 are the most"), "{error}");
    let long = vec!["a"; 101].join(",");
    assert!(compile(&format!("data #> '{{{long}}}'")).unwrap_err().to_string().contains("101 steps"));
}

#[test]
fn names_that_may_not_stand_there_are_told_with_what_may() {
    for (text, says, remedy) in [
        ("now()", "now() gives another value each time it is asked (line 1, column 1)", "use commit_time()"),
        ("key || current_timestamp", "current_timestamp() gives another value", "use commit_time()"),
        ("CURRENT_DATE", "(line 1, column 1)", "when the transaction committed at the source"),
        ("localtimestamp", "localtimestamp()", "use commit_time()"),
        ("random() > 0.5", "random()", "sha256(id::text)"),
        ("uuid()", "uuid()", "uuid_v5("),
        ("gen_random_uuid()", "gen_random_uuid()", "uuid_v5("),
        (
            "id > 1 AND\n jsn_typeof(data) = 'x'",
            "no function jsn_typeof() (line 2, column 2)",
            "you mean json_typeof()?",
        ),
        ("json_extrct_path(data, 'a')", "no function json_extrct_path()", "did you mean json_extract_path()?"),
        ("regexp_replac(key, 'a')", "no function", "did you mean regexp_replace()?"),
        ("LEFFT(key, 1)", "no function lefft()", "did you mean left()?"),
        ("xyzzy(key)", "no function xyzzy()", "docs/RULES.md"),
        ("nope()", "no function nope()", "docs/RULES.md"),
        ("public.f(key)", "no function public.f()", "docs/RULES.md"),
        ("sum(id)", "sum() is of many rows", "leave it out"),
    ] {
        let error = compile(text).unwrap_err();
        let said = error.to_string();
        assert_eq!(error.class(), Class::Refused, "{text}: {said}");
        assert!(said.contains(says) && said.contains(remedy), "{text}: {said}");
    }
}
