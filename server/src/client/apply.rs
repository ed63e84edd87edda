//! A configuration file against what a daemon has: what differs, and the requests that bring it there.

use std::path::Path;

use serde_json::{Map, Value};

use super::connection::{Client, segment};
use crate::config::{Problem, Problems};
use crate::daemon::{Change, difference};
use crate::exit::Failure;

/// The kinds of thing that both have, in the order in which they may be put: key of the file, path, word.
const KINDS: [(&str, &str, &str); 3] =
    [("endpoints", "endpoints", "endpoint"), ("rule-sets", "rule-sets", "rule set"), ("tasks", "tasks", "task")];

/// What a file says.
pub struct Wanted(Map<String, Value>);

/// What is to be done.
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
}

/// A request, and what it changes.
pub struct Step {
    /// What it is about, such as `task shop`.
    pub subject: String,
    /// What it changes; empty for what can only be told by the daemon, as a password is not shown.
    pub changes: Vec<Change>,
    /// Whether there is none yet.
    pub new: bool,
    /// The revision that is there.
    revision: Value,
    path: String,
    /// What is put there; `None` for what is deleted.
    spec: Option<Value>,
}

impl Wanted {
    /// Reads a file. Values stay as they are written: variables are the daemon's.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let wrong = |message: String| Failure::Config(Problems(vec![Problem::of_file(file, message)]));
        let text = std::fs::read_to_string(file).map_err(|e| wrong(format!("cannot read the file: {e}")))?;
        // Its own message quotes the line, which may hold a password.
        let table: toml::Table = toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()))?;
        match serde_json::to_value(table) {
            Ok(Value::Object(all)) => Ok(Self(all)),
            _ => Err(wrong("it has values that JSON has no form for".to_owned())),
        }
    }

    /// What is in it, without what a daemon has no place for.
    pub fn ignored(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).filter(|key| !KINDS.iter().any(|(known, ..)| known == key)).collect()
    }

    /// What it has of a section, by name.
    pub fn of(&self, kind: &str) -> Map<String, Value> {
        self.0.get(kind).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// What brings the daemon there. `prune`: what the file does not have goes.
    pub fn plan(&self, client: &Client, prune: bool) -> Result<Plan, Failure> {
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for (key, path, word) in KINDS {
            let wanted = self.of(key);
            let there = client.get(&format!("/{path}"))?;
            let there = there[path.replace('-', "_")].as_array().cloned().unwrap_or_default();
            let found = |name: &str| there.iter().find(|one| one["name"] == name);
            let known = |name: &str| found(name).map(|one| &one["spec"]);
            let revision = |name: &str| found(name).map_or(Value::Null, |one| one["revision"].clone());
            for (name, spec) in wanted.iter() {
                let (subject, path) = (format!("{word} {name}"), format!("/{path}/{}", segment(name)));
                let new = known(name).is_none();
                let changes = difference(known(name).unwrap_or(&Value::Null), &shown(spec));
                // What is hidden may be another one: the daemon knows.
                if new || !changes.is_empty() || shown(spec) != *spec {
                    let revision = revision(name);
                    puts.push(Step { subject, changes, new, revision, path, spec: Some(spec.clone()) });
                }
            }
            for name in there.iter().filter_map(|one| one["name"].as_str()).filter(|name| !wanted.contains_key(*name)) {
                let (subject, path) = (format!("{word} {name}"), format!("/{path}/{}", segment(name)));
                let changes = difference(known(name).unwrap_or(&Value::Null), &Value::Null);
                deletes.push(Step { subject, changes, new: false, revision: Value::Null, path, spec: None });
            }
        }
        // What is used goes after what uses it.
        deletes.reverse();
        if prune {
            puts.extend(deletes);
        }
        Ok(Plan { steps: puts })
    }
}

impl Step {
    /// Whether only the daemon knows whether something changes.
    pub fn is_hidden(&self) -> bool {
        !self.deletes() && !self.new && self.changes.is_empty()
    }

    /// Whether something has changed, by what the daemon has answered.
    pub fn has_changed(&self, answer: &Value) -> bool {
        answer["revision"] != self.revision
    }

    /// Whether something goes.
    pub fn deletes(&self) -> bool {
        self.spec.is_none()
    }

    /// Does it; what the daemon says.
    pub fn run(&self, client: &Client) -> Result<Value, Failure> {
        let method = if self.deletes() { "DELETE" } else { "PUT" };
        client.ask(method, &self.path, self.spec.as_ref()).map_err(|e| e.about(&self.subject))
    }
}

/// As the daemon would show it.
pub fn shown(spec: &Value) -> Value {
    match spec {
        Value::Object(all) => all.iter().map(|(key, value)| (key.clone(), shown(value))).collect(),
        Value::String(text) => Value::from(crate::config::masked(text)),
        other => other.clone(),
    }
}
