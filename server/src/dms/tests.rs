//! Mappings as the user guide has them, and what becomes of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use super::*;

fn imported(rules: &str) -> Imported {
    let imported = import(&format!("{{\"rules\": [{rules}]}}"), "copy").unwrap();
    let end = |name: &str| format!("[endpoints.{name}]\nkind = \"postgres\"\nurl = \"postgres://u@h/{name}\"\n");
    let ends = end("source") + &end("target");
    let text = format!("{ends}{}", imported.toml);
    let read = crate::config::parse(Path::new("tasks.toml"), &text, &|_| Some("salt".to_owned()));
    // Without a table there is no task.
    if imported.toml.contains(".tables]]") {
        read.unwrap_or_else(|e| panic!("{e}\n{text}"));
    }
    imported
}

const ALL: &str = r#"{"rule-type": "selection", "rule-id": "1", "rule-name": "1", "rule-action": "include",
    "object-locator": {"schema-name": "shop", "table-name": "%"}, "filters": []}"#;

/// What is written of one transformation, without `match`.
fn transformed(action: &str, rest: &str) -> String {
    let locator = r#""schema-name": "shop", "table-name": "order_items", "column-name": "price""#;
    let rule = format!(
        r#"{{"rule-type": "transformation", "rule-id": 7, "rule-name": "x", "rule-action": "{action}",
            "object-locator": {{{locator}}}, {rest}}}"#
    );
    let imported = imported(&format!("{ALL}, {rule}"));
    match imported.left.first() {
        Some(left) => format!("{}: {}", left.rule, left.reason),
        None => {
            let rules = imported.toml.split_once("[[tasks.copy.rules]]\n").expect("a rule").1;
            rules.lines().filter(|l| !l.starts_with("match")).collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn tables_and_rows_are_selected() {
    let rules = r#"
        {"rule-type": "selection", "rule-id": "1", "rule-name": "1", "rule-action": "include",
         "object-locator": {"schema-name": "shop", "table-name": "order%"},
         "filters": [{"filter-type": "source", "column-name": "id", "filter-conditions": [
            {"filter-operator": "ste", "value": "100"},
            {"filter-operator": "between", "start-value": "500", "end-value": "600"}]},
          {"filter-type": "source", "column-name": "Country", "filter-conditions": [
            {"filter-operator": "noteq", "value": "it's"}]}]},
        {"rule-type": "selection", "rule-id": "2", "rule-name": "2", "rule-action": "exclude",
         "object-locator": {"schema-name": "shop", "table-name": "[ab]%"}, "filters": []}"#;
    let imported = imported(rules);
    assert!(imported.left.is_empty() && imported.total == 2);
    for line in [
        r#"include = "shop.order*""#,
        r#"filter = '("id" <= 100 OR "id" BETWEEN 500 AND 600) AND "Country" <> '"#,
        r"exclude = [{ regex = 'shop\.[ab].*' }]",
    ] {
        let line = line.trim_end_matches('\'');
        let found = imported.toml.replace("\"\"\"", "'").replace("'''", "'").replace("\\\"", "\"");
        assert!(found.contains(line) || found.contains(&line.replace("filter = '", "filter = \"")), "{line}\n{found}");
    }
}

#[test]
fn each_action_has_its_counterpart() {
    let table = |action: &str, rest: &str| transformed(action, &format!(r#""rule-target": "table"{rest}"#));
    let column = |action: &str, rest: &str| transformed(action, &format!(r#""rule-target": "column"{rest}"#));
    assert_eq!(table("rename", r#", "value": "lines""#), r#"action = "rename-table"; to = "lines""#);
    assert_eq!(table("add-prefix", r#", "value": "x_""#), r#"action = "rename-table"; add-prefix = "x_""#);
    assert_eq!(table("convert-uppercase", ""), r#"action = "rename-table"; case = "upper""#);
    assert_eq!(
        transformed("convert-lowercase", r#""rule-target": "schema""#),
        r#"action = "rename-schema"; case = "lower""#
    );
    assert_eq!(
        column("replace-prefix", r#", "value": "b$", "old-value": "a.""#),
        r#"action = "rename-column"; column = { regex = 'a\.(.*)' }; to = "b$$$${1}""#
    );
    assert_eq!(column("remove-column", ""), r#"action = "drop-column"; column = "price""#);
    assert_eq!(
        column("change-data-type", r#", "data-type": {"type": "numeric", "precision": "12", "scale": 2}"#),
        r#"action = "change-type"; column = "price"; to = "decimal(12,2)""#
    );
    assert_eq!(
        transformed(
            "define-primary-key",
            r#""rule-target": "table", "primary-key-def": {"name": "k", "columns": ["a", "b"]}"#
        ),
        r#"action = "set-key"; columns = ["a", "b"]"#
    );
    assert_eq!(
        column("data-masking-hash-mask", ""),
        r#"action = "set-value"; column = "price"; mask = "hash"; salt = "${MASK_SALT}""#
    );
    assert!(column("data-masking-digits-mask", r##", "value": "#""##).contains("translate("));
    let add = r#", "value": "made", "expression": "upper($name) || ifnull($AR_M_SOURCE_SCHEMA, 'it''s $x')",
        "data-type": {"type": "string", "length": 50}"#;
    let added = column("add-column", add);
    assert!(added.contains(r#"type = "text(50)""#), "{added}");
    assert!(added.contains(r#"upper("name") || coalesce(source_schema(), 'it''s $x')"#), "{added}");
}

#[test]
fn what_is_not_carried_over_is_told() {
    let column = |action: &str, rest: &str| transformed(action, &format!(r#""rule-target": "column"{rest}"#));
    let add = |text: &str| column("add-column", &format!(r#", "value": "made", "expression": "{text}""#));
    assert_eq!(add("datetime('now')").split(':').next(), Some("rule 7 (x)"));
    assert!(add("datetime('now')").contains("commit_time()"));
    assert!(add("$AR_H_CHANGE_SEQ").contains("$AR_H_CHANGE_SEQ"));
    assert!(add("printf($x)").contains("printf()"));
    assert!(add("'open").contains("not closed"));
    assert!(column("add-before-image-columns", "").contains("history"));
    assert!(column("include-column", "").contains("`columns`"));
    assert!(column("dance", "").contains("\"dance\""));
    assert!(column("change-data-type", r#", "data-type": {"type": "geometry"}"#).contains("\"geometry\""));
    let settings = r#"{"rule-type": "table-settings", "rule-id": "3", "rule-name": "3",
        "object-locator": {"schema-name": "a", "table-name": "b"}, "parallel-load": {"type": "partitions-auto"}}"#;
    assert_eq!(imported(&format!("{ALL}, {settings}")).left[0].rule, "rule 3");
    assert_eq!(imported(&format!("{ALL}, 5, {{}}")).left.len(), 2);
    let filter = r#"{"rule-type": "selection", "rule-id": "1", "rule-name": "1", "rule-action": "include",
        "object-locator": {"schema-name": "s", "table-name": "t"}, "filters": [{"column-name": "a",
        "filter-conditions": [{"filter-operator": "near", "value": "1"}]}]}"#;
    let imported = imported(filter);
    assert!(imported.left[0].reason.contains("\"near\"") && !imported.toml.contains("include"), "{}", imported.toml);
    assert!(imported.toml.contains("# rule 1: "));
}

#[test]
fn names_are_made_after_values_and_from_the_inside_out() {
    let rule = |id: u8, target: &str, action: &str, rest: &str| {
        format!(
            r#"{{"rule-type": "transformation", "rule-id": "{id}", "rule-name": "{id}", "rule-target": "{target}",
                "rule-action": "{action}", "object-locator": {{"schema-name": "shop"{rest}}}"#
        )
    };
    let rules = [
        rule(2, "schema", "rename", "") + r#", "value": "dw"}"#,
        rule(3, "table", "rename", r#", "table-name": "a""#) + r#", "value": "b"}"#,
        rule(4, "column", "rename", r#", "table-name": "a", "column-name": "x""#) + r#", "value": "y"}"#,
        rule(5, "column", "remove-column", r#", "table-name": "a", "column-name": "z""#) + "}",
        rule(6, "table", "rename", r#", "table-name": "b""#) + r#", "value": "c"}"#,
    ];
    let imported = imported(&format!("{ALL}, {}", rules.join(", ")));
    let actions: Vec<&str> = imported.toml.lines().filter(|l| l.starts_with("action")).collect();
    let expected =
        ["drop-column", "rename-column", "rename-table", "rename-schema"].map(|a| format!("action = \"{a}\""));
    assert_eq!(actions, expected);
    assert_eq!(imported.left[0].rule, "rule 6");
}

#[test]
fn what_is_no_mapping_is_an_error() {
    for text in ["", "5", "{}", "[]", "{\"rules\": 5}", "{\"TableMappings\": \"x\"}"] {
        assert!(import(text, "copy").is_err(), "{text}");
    }
    let whole = format!(
        "{{\"ReplicationTasks\": [{{\"TableMappings\": {}}}]}}",
        Value::String(format!("{{\"rules\": [{ALL}]}}"))
    );
    assert_eq!(import(&whole, "my task").unwrap().total, 1);
    assert!(import(&whole, "my task").unwrap().toml.contains("[tasks.\"my task\"]"));
}
