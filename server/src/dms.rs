//! Table mappings of AWS DMS as a task of `tasks.toml`: each of their rules becomes one of ours, or is told as not
//! carried over. The format: AWS DMS user guide, "Using table mapping to specify task settings".

mod expression;
mod locator;
mod mapping;
mod selection;
mod text;
mod transformation;
mod types;

use serde::Deserialize;
use serde_json::Value;

pub use mapping::Left;
use mapping::Rule;
use text::key;

/// What has come of table mappings.
#[derive(Debug)]
pub struct Imported {
    /// The configuration.
    pub toml: String,
    /// Rules that are not carried over, or not in full.
    pub left: Vec<Left>,
    /// Rules of the file.
    pub total: usize,
}

#[derive(Deserialize)]
struct Mappings {
    rules: Vec<Value>,
}

/// The mappings of this text as a task of this name.
///
/// # Errors
/// What is wrong with a text that has no table mappings.
pub fn import(text: &str, task: &str) -> Result<Imported, String> {
    let rules = mappings(text)?;
    let total = rules.len();
    let (mut selection, mut changes) = (selection::Selection::default(), transformation::Changes::default());
    let mut left = Vec::new();
    for (at, value) in rules.into_iter().enumerate() {
        let rule: Rule = match serde_json::from_value(value) {
            Ok(rule) => rule,
            Err(e) => {
                left.push(Left {
                    rule: format!("rule at place {}", at + 1),
                    reason: format!("it is not understood: {e}"),
                });
                continue;
            }
        };
        let done = match rule.rule_type.as_str() {
            "selection" => selection.take(&rule),
            "transformation" => changes.take(&rule),
            "table-settings" => {
                Err("what it sets has no counterpart: see [tasks.NAME.load] for parallel loads".to_owned())
            }
            other => Err(format!("rules of type {other:?} are not known")),
        };
        if let Err(reason) = done {
            left.push(Left { rule: rule.label(), reason });
        }
    }
    let toml = written(task, &selection, &changes.ordered(&mut left), &left, total);
    Ok(Imported { toml, left, total })
}

/// The rules, alone or inside of what describes a whole task.
fn mappings(text: &str) -> Result<Vec<Value>, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
    let inner = value.pointer("/ReplicationTasks/0/TableMappings").or_else(|| value.get("TableMappings"));
    let value = match inner {
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|e| format!("TableMappings is no JSON: {e}"))?
        }
        Some(inner) => inner.clone(),
        None => value,
    };
    let mappings: Result<Mappings, _> = serde_json::from_value(value);
    mappings.map(|m| m.rules).map_err(|_| {
        "it has no `rules`: expected table mappings of AWS DMS, {\"rules\": [...]}, or what describes the task"
            .to_owned()
    })
}

fn written(task: &str, selection: &selection::Selection, rules: &[String], left: &[Left], total: usize) -> String {
    let mut out = format!(
        "# From table mappings of AWS DMS with {total} rules; {} of them not carried over, or not in full.\n\
         # `_` in their patterns is read as itself. Set `source` and `target`, then run `trem plan`.\n",
        left.len()
    );
    for Left { rule, reason } in left {
        out.push_str(&format!("# {rule}: {}\n", reason.replace(['\n', '\r'], " ")));
    }
    out.push_str(&format!("[tasks.{}]\nsource = \"source\"\ntarget = \"target\"\n", key(task)));
    let tables = selection.entries().into_iter().map(|entry| format!("\n[[tasks.{}.tables]]\n{entry}", key(task)));
    let rules = rules.iter().map(|rule| format!("\n[[tasks.{}.rules]]\n{rule}", key(task)));
    out.extend(tables.chain(rules));
    out
}

#[cfg(test)]
#[path = "dms/tests.rs"]
mod tests;
