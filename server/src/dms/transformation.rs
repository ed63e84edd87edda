//! Transformation rules. Those of DMS all see the source's names, and of ours each sees what those before have made: so
//! values come before the names of columns, those before the names of tables, and those before the names of schemas.

use super::expression;
use super::locator::{regex, regex_value};
use super::mapping::{Left, Rule};
use super::text::{quoted, string};
use super::types::type_of;

/// In the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Create,
    Mask,
    Type,
    Key,
    Drop,
    Column,
    Table,
    Schema,
}

/// A rule of ours.
#[derive(Debug)]
struct Change {
    turn: Turn,
    toml: String,
    /// What it is called in the mappings.
    label: String,
    /// What it covers, and the name that it gives, where that is one name: of tables and columns.
    renames: Option<(String, String)>,
}

/// The rules so far.
#[derive(Debug, Default)]
pub struct Changes(Vec<Change>);

impl Changes {
    /// Takes a rule in; the error says why it is not.
    pub fn take(&mut self, rule: &Rule) -> Result<(), String> {
        let target = rule.rule_target.as_str();
        let change = match rule.rule_action.as_str() {
            "rename" | "convert-uppercase" | "convert-lowercase" | "add-prefix" | "add-suffix" | "remove-prefix"
            | "remove-suffix" | "replace-prefix" | "replace-suffix" => naming(rule)?,
            "remove-column" => of_columns(rule, Turn::Drop, "drop-column", "")?,
            "add-column" => added(rule)?,
            "change-data-type" => {
                let ty = rule.data_type.as_ref().ok_or("it has no `data-type`")?;
                of_columns(rule, Turn::Type, "change-type", &format!("to = {}\n", string(&type_of(ty)?)))?
            }
            "define-primary-key" => {
                let key = rule.primary_key_def.as_ref().filter(|key| !key.columns.is_empty());
                let columns: Vec<String> =
                    key.ok_or("it has no columns in `primary-key-def`")?.columns.iter().map(|c| string(c)).collect();
                let keys = format!("columns = [{}]\n", columns.join(", "));
                Change { turn: Turn::Key, toml: of_tables(rule, "set-key", &keys), label: rule.label(), renames: None }
            }
            "data-masking-hash-mask" => {
                of_columns(rule, Turn::Mask, "set-value", "mask = \"hash\"\nsalt = \"${MASK_SALT}\"\n")?
            }
            "data-masking-digits-mask" => masked_digits(rule)?,
            "data-masking-digits-randomize" => {
                return Err(
                    "mask = \"format\" puts other digits, and other letters too: write it if that will do".to_owned()
                );
            }
            "include-column" => return Err("name the columns in `columns` of [[tasks.NAME.tables]]".to_owned()),
            "add-before-image-columns" => {
                return Err("there are no columns for old images: the rule `history` keeps every change".to_owned());
            }
            other => return Err(format!("the action {other:?} on a {target:?} is not known")),
        };
        self.0.push(change);
        Ok(())
    }

    /// The rules in order, without their headers. One that would see what another one has made is told.
    pub fn ordered(mut self, left: &mut Vec<Left>) -> Vec<String> {
        self.0.sort_by_key(|change| change.turn);
        let mut out: Vec<Change> = Vec::new();
        for change in self.0 {
            let covers = |before: &Change| match (&before.renames, &change.renames) {
                (Some((of, to)), Some((pattern, _))) => before.turn == change.turn && of != pattern && to == pattern,
                _ => false,
            };
            if let Some(before) = out.iter().find(|before| covers(before)) {
                let reason = format!(
                    "it would be applied to what {} has made: write the two in the order you want",
                    before.label
                );
                left.push(Left { rule: change.label.clone(), reason });
                continue;
            }
            out.push(change);
        }
        out.into_iter().map(|change| change.toml).collect()
    }
}

fn of_tables(rule: &Rule, action: &str, keys: &str) -> String {
    format!("match = {}\naction = \"{action}\"\n{keys}", rule.object_locator.tables())
}

fn of_columns(rule: &Rule, turn: Turn, action: &str, keys: &str) -> Result<Change, String> {
    let column = rule.object_locator.columns()?;
    let toml = of_tables(rule, action, &format!("column = {column}\n{keys}"));
    Ok(Change { turn, toml, label: rule.label(), renames: None })
}

/// New names of schemas, tables and columns.
fn naming(rule: &Rule) -> Result<Change, String> {
    let (turn, action) = match rule.rule_target.as_str() {
        "schema" => (Turn::Schema, "rename-schema"),
        "table" => (Turn::Table, "rename-table"),
        "column" => (Turn::Column, "rename-column"),
        other => return Err(format!("names of a {other:?} have no counterpart")),
    };
    let value = || rule.value.clone().filter(|v| !v.is_empty()).ok_or_else(|| "it has no `value`".to_owned());
    let locator = &rule.object_locator;
    let keys = match rule.rule_action.as_str() {
        "rename" => format!("to = {}\n", string(&value()?)),
        "convert-uppercase" => "case = \"upper\"\n".to_owned(),
        "convert-lowercase" => "case = \"lower\"\n".to_owned(),
        "replace-prefix" | "replace-suffix" => return replaced(rule, turn, action, &value()?),
        plain => format!("{plain} = {}\n", string(&value()?)),
    };
    let renames =
        |of: &Option<String>| Some((of.clone()?, rule.value.clone()?)).filter(|_| rule.rule_action == "rename");
    match turn {
        Turn::Column => {
            let change = of_columns(rule, turn, action, &keys)?;
            Ok(Change { renames: renames(&locator.column_name), ..change })
        }
        _ => {
            let renames = if turn == Turn::Table { renames(&locator.table_name) } else { None };
            Ok(Change { turn, toml: of_tables(rule, action, &keys), label: rule.label(), renames })
        }
    }
}

/// Another beginning or end of a name.
fn replaced(rule: &Rule, turn: Turn, action: &str, value: &str) -> Result<Change, String> {
    let old = rule.old_value.as_deref().filter(|old| !old.is_empty()).ok_or("it has no `old-value`")?;
    let value = value.replace('$', "$$");
    let (pattern, to) = match rule.rule_action.as_str() {
        // Braces, or what follows would be part of the group's name.
        "replace-prefix" => (format!("{}(.*)", regex(old)), format!("{value}${{1}}")),
        _ => (format!("(.*){}", regex(old)), format!("${{1}}{value}")),
    };
    let to = format!("to = {}\n", string(&to));
    let tables = match turn {
        Turn::Schema => rule.object_locator.tables_by(Some(&pattern), None),
        Turn::Table => rule.object_locator.tables_by(None, Some(&pattern)),
        _ => rule.object_locator.tables(),
    };
    let column = if turn == Turn::Column { format!("column = {}\n", regex_value(&pattern)) } else { String::new() };
    let toml = format!("match = {tables}\naction = \"{action}\"\n{column}{to}");
    Ok(Change { turn, toml, label: rule.label(), renames: None })
}

fn added(rule: &Rule) -> Result<Change, String> {
    let name =
        rule.value.as_deref().filter(|name| !name.is_empty()).ok_or("it has no name for the column in `value`")?;
    let text = rule.expression.as_deref().ok_or("it has no `expression`")?;
    let value = expression::carried(text)?;
    let ty = rule.data_type.as_ref().map_or(Ok("text".to_owned()), type_of)?;
    let keys = format!("column = {}\ntype = {}\nvalue = {}\n", string(name), string(&ty), string(&value));
    Ok(Change { turn: Turn::Create, toml: of_tables(rule, "create-column", &keys), label: rule.label(), renames: None })
}

fn masked_digits(rule: &Rule) -> Result<Change, String> {
    let column =
        rule.object_locator.column().ok_or("digits are masked by an expression, which takes one column by name")?;
    let with = rule.value.as_deref().and_then(|v| v.chars().next()).unwrap_or('#');
    let with = if with == '\'' { "''".repeat(10) } else { with.to_string().repeat(10) };
    let value = format!("translate({}, '0123456789', '{with}')", quoted(&column));
    of_columns(rule, Turn::Mask, "set-value", &format!("value = {}\n", string(&value)))
}
