//! Arrays as PostgreSQL writes and reads them.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn elements_are_had_by_their_places() {
    for (array, place, wanted) in [
        ("{1,2,3}", &[2][..], Some("2")),
        ("{1,2,3}", &[4], None),
        ("{1,2,3}", &[0], None),
        ("{1,2,3}", &[-1], None),
        ("{1,NULL,null,\"NULL\"}", &[2], None),
        ("{1,NULL,null,\"NULL\"}", &[3], None),
        ("{1,NULL,null,\"NULL\"}", &[4], Some("NULL")),
        (r#"{"a b","","c\"d\\e","{,}"}"#, &[1], Some("a b")),
        (r#"{"a b","","c\"d\\e","{,}"}"#, &[2], Some("")),
        (r#"{"a b","","c\"d\\e","{,}"}"#, &[3], Some("c\"d\\e")),
        (r#"{"a b","","c\"d\\e","{,}"}"#, &[4], Some("{,}")),
        (" { a b , c\\,d\\  } ", &[1], Some("a b")),
        (" { a b , c\\,d\\  } ", &[2], Some("c,d ")),
        ("{{1,2},{3,4}}", &[2, 1], Some("3")),
        ("{{1,2},{3,4}}", &[2], None),
        ("{{1,2},{3,4}}", &[2, 3], None),
        ("{{1,2},{3,4}}", &[2, 1, 1], None),
        ("{1}", &[1, 1], None),
        ("[2:4]={a,b,c}", &[2], Some("a")),
        ("[2:4]={a,b,c}", &[4], Some("c")),
        ("[2:4]={a,b,c}", &[1], None),
        ("[0:1][-1:0]={{a,b},{c,d}}", &[1, -1], Some("c")),
        ("[2] = {a,b}", &[1], Some("a")),
        ("{}", &[1], None),
        ("{1}", &[i64::MIN], None),
        ("{é,😀}", &[2], Some("😀")),
    ] {
        assert_eq!(element(array, place).unwrap().as_deref(), wanted, "{array} {place:?}");
    }
}

#[test]
fn lengths_are_those_of_the_dimensions() {
    for (array, wanted) in [
        ("{}", &[][..]),
        (" { } ", &[]),
        ("{{},{}}", &[]),
        ("{1}", &[1]),
        ("{NULL,NULL}", &[2]),
        ("[5:6]={1,2}", &[2]),
        ("{{1,2,3},{4,5,6}}", &[2, 3]),
        ("{{{{{{1}}}}}}", &[1, 1, 1, 1, 1, 1]),
    ] {
        assert_eq!(lengths(array).unwrap(), wanted, "{array}");
    }
    assert_eq!(elements("{a,0,NULL}").unwrap(), [Some("a".to_owned()), Some("0".to_owned()), None]);
    assert!(elements("{{a}}").is_err());
}

#[test]
fn what_is_no_array_is_told_and_not_shown() {
    for array in [
        "",
        "secret",
        "{secret",
        "secret}",
        "{secret,}",
        "{,secret}",
        "{secret,,1}",
        "{secret}{",
        "{secret} 1",
        "{\"secret}",
        "{secret\"1\"}",
        "{\"secret\"1}",
        "{{secret},1}",
        "{1,{secret}}",
        "{{1,2},{secret}}",
        "{{1},{}}",
        "{{},1}",
        "{{},{{}}}",
        "{{{{{{{secret}}}}}}}",
        "[1:2]={secret}",
        "[1:2]{secret,1}",
        "[2:1]={}",
        "[1:1][1:1]={secret}",
        "[x:1]={secret}",
        "[1:1={secret}",
        "[1:9999999999]={1}",
        "(1,2)",
        "[1,2]",
        "{1}}",
    ] {
        let error = element(array, &[1]).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        assert!(lengths(array).is_err() && elements(array).is_err(), "{array}");
    }
    assert!(lengths(&"{".repeat(1_000_000)).is_err());
    assert!(lengths(&"[1:1]".repeat(1_000_000)).is_err());
}

/// As PostgreSQL writes an element.
fn written(element: &Option<String>) -> String {
    let Some(text) = element else { return "NULL".to_owned() };
    let odd = |c: char| "{},\"\\".contains(c) || SPACES.contains(&c);
    match text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(odd) {
        true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => text.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// What is written can be read.
    #[test]
    fn every_element_comes_back(
        all in prop::collection::vec(prop::option::of("[a{},\"\\\\ nulé\t]{0,5}"), 1..6),
        first in -3..3i64,
        rows in 1..3usize,
    ) {
        let row = format!("{{{}}}", all.iter().map(written).collect::<Vec<_>>().join(","));
        prop_assert_eq!(&elements(&row).unwrap(), &all);
        let table = format!("{{{}}}", vec![row.clone(); rows].join(","));
        let last = first + all.len() as i64 - 1;
        let moved = format!("[0:{}][{first}:{last}]={table}", rows - 1);
        for (i, wanted) in all.iter().enumerate() {
            let i = i as i64;
            prop_assert_eq!(&element(&row, &[i + 1]).unwrap(), wanted);
            prop_assert_eq!(&element(&table, &[rows as i64, i + 1]).unwrap(), wanted);
            prop_assert_eq!(&element(&moved, &[rows as i64 - 1, first + i]).unwrap(), wanted);
        }
        prop_assert_eq!(lengths(&moved).unwrap(), vec![rows as i64, all.len() as i64]);
    }

    /// Anything is read or refused.
    #[test]
    fn anything_may_be_in_a_column(
        text in "[{},\"\\\\ \\[\\]:=0-9aNULé]{0,24}",
        place in prop::collection::vec(-2..3i64, 1..3),
    ) {
        let lengths = lengths(&text);
        prop_assert_eq!(element(&text, &place).is_ok(), lengths.is_ok());
        prop_assert_eq!(elements(&text).is_ok(), lengths.is_ok_and(|lengths| lengths.len() < 2));
    }
}
