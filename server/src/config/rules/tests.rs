//! Rules as they are written, and every message of one that is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use trem_engine::task::NameGlob;

use super::*;
use crate::config::{Problems, parse};

const TASK: &str = r#"
[endpoints.shop]
kind = "postgres"
url = "postgres://trem@127.0.0.1:5432/shop"
[endpoints.nothing]
kind = "null"
[tasks.copy]
source = "shop"
target = "nothing"
tables = [{ include = "public.*" }]
"#;

fn read(rules: &str) -> Result<RuleList, Problems> {
    let env = |name: &str| match name {
        "SCHEMA" => Some("dw".to_owned()),
        "URL" => Some("postgres://u:hush-hush@h/d".to_owned()),
        "NOTHING" => Some(String::new()),
        _ => None,
    };
    Ok(parse(Path::new("tasks.toml"), &format!("{TASK}{rules}"), &env)?.tasks.remove(0).rules)
}

fn rule(number: usize, glob: &str, action: Action) -> Rule {
    Rule { label: format!("rule {number}"), matches: vec![Pattern::glob(glob).unwrap()], action, merge: false }
}

fn rules(rules: Vec<Rule>) -> RuleList {
    RuleList::new("copy", rules, Vec::new(), OnRowError::Stop)
}

fn column(name: &str) -> Columns {
    Columns(vec![ColumnPattern::Glob(NameGlob::parse(name).unwrap())])
}

/// One rule of these keys is refused, with this message.
#[track_caller]
fn refused(keys: &str, message: &str) {
    let found = read(&format!("[[tasks.copy.rules]]\n{keys}\n")).expect_err("a rule that is refused").to_string();
    assert!(found.contains(message), "`{message}` is not in: {found}");
    assert!(!found.contains("hush-hush"), "{found}");
}

#[test]
fn the_documented_rules_are_read_in_order() {
    let manual = include_str!("../../../../docs/CONFIGURATION.md");
    let example = manual.split("```toml\n").find(|block| block.contains(".rules]]")).unwrap();
    let example = example.split("```").next().unwrap().replace("shop-to-reports", "copy");
    let to = |name: &str| Naming::To(name.to_owned());
    let expected = vec![
        rule(1, "public.*", Action::RenameSchema(to("dw"))),
        rule(2, "dw.orders", Action::RenameTable(to("sales"))),
        rule(3, "dw.*", Action::RenameColumn { columns: column("id"), naming: to("number") }),
    ];
    assert_eq!(read(&example).unwrap(), rules(expected));
    assert_eq!(read("").unwrap(), rules(Vec::new()));
}

#[test]
fn variables_are_replaced() {
    let text = "rules = [{ match = '${SCHEMA}.*', action = 'rename-table', to = 'x$${${SCHEMA}' }]";
    let expected = rule(1, "dw.*", Action::RenameTable(Naming::To("x${dw".to_owned())));
    assert_eq!(read(text).unwrap(), rules(vec![expected]));
}

#[test]
fn actions_and_their_keys() {
    refused(
        "match = 'a.*'\naction = 'merge'\ncolumn = 'c'",
        "tasks.toml:13:10: tasks.copy.rules[0].action: action \"merge\" is not supported by this version: \
         expected \"rename-schema\", \"rename-table\", \"rename-column\", \"create-column\", \"set-value\", \
         \"change-type\", \"drop-column\", \"set-key\", \"soft-delete\" or \"history\"",
    );
    let create = "match = 'a.*'\naction = 'create-column'\ncolumn = 'c'\nvalue = '1'";
    refused(create, "the key `type` is missing, which create-column needs");
    refused(&format!("{create}\ntype = 'int'"), "rules[0].type: no type is called \"int\": expected one of bool, int8");
    refused("match = 'a.*'\naction = 'set-value'\ncolumn = 'c'\nvalue = ' '", "found an empty one");
    refused(
        "match = 'a.*'\naction = 'set-value'\ncolumn = 'c'\nvalue = 'a > AND b'",
        "rules[0].value: expression `a > AND b`: nothing is expected after the expression, found b",
    );
    refused("match = 'a.*'\naction = 'set-key'\ncolumns = 'id'", "rules[0].columns: expected a list of names");
    refused("match = 'a.*'\naction = 'set-key'\ncolumns = []", "rules[0].columns: expected a list of names");
    refused("match = 'a.*'\naction = 'set-key'\ncolumns = [1]", "expected a name, such as");
    refused("match = 'a.*'\naction = 5", "rules[0].action: expected \"rename-schema\", ");
    refused("action = 'rename-table'\nto = 'b'", "tasks.toml:11:1: tasks.copy.rules: missing key `match`");
    refused("match = 'a.*'\nto = 'b'", "missing key `action`");
    refused("match = 'a.*'\naction = 'rename-table'", "expected one of the keys \"to\", \"add-prefix\"");
    refused(
        "match = 'a.*'\naction = 'drop-column'",
        "tasks.toml:11:1: tasks.copy.rules: the key `column` is missing, which drop-column needs",
    );
    refused(
        "match = 'a.*'\naction = 'rename-table'\nto = 'b'\ncolumn = 'c'",
        "tasks.toml:15:10: tasks.copy.rules[0].column: rename-table has no use for `column`: leave the key out",
    );
    refused("match = 'a.*'\naction = 'rename-schema'\nto = 'b'\nvalue = '1'", "rename-schema has no use for `value`");
    refused("match = 'a.*'\naction = 'rename-schema'\nto = 'b'\nfrom = '1'", "unknown key `from`");
}

#[test]
fn patterns_and_names() {
    let rename = |glob: &str, to: &str| format!("match = {glob}\naction = 'rename-table'\nto = {to}");
    refused(&rename("'a'", "'b'"), "tasks.copy.rules[0].match: bad pattern: `a` is not of the form schema.table");
    refused(&rename("[['a.b']]", "'b'"), "expected a pattern such as \"public.*\"");
    refused(&rename("'${URL}.x'", "'b'"), "bad pattern, which is not shown");
    refused(&rename("'a.*'", "''"), "rules[0].to: expected a name, such as \"orders\", found an empty one");
    refused(&rename("'a.*'", "'${NOTHING}'"), "found an empty one");
    refused(&rename("'a.*'", "'${URL}'"), "found a URL");
    refused(&rename("'a.*'", "'${NOT_SET}'"), "the environment variable NOT_SET is not set");
    refused(&rename("'a.*'", "7"), "expected a name, such as \"orders\", found the integer 7");
    let message = read("rules = 'postgres://u:hush-hush@h/d'\n").expect_err("no list").to_string();
    assert!(message.contains("tasks.copy.rules: expected a list of tables"), "{message}");
}
