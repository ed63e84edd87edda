//! Specifications: what was sent, what is stored, what is shown, and the task that can be run.

use serde_json::{Map, Value};
use trem_engine::budget::Budget;

use super::refusal::{Code, Refusal};
use crate::config::{self, Config, Item, Problem, Problems, Section, TaskConfig};
use crate::store::{By, Store, StoredEndpoint, StoredRuleSet, StoredTask};

/// Characters of a name.
const LONGEST_NAME: usize = 100;

/// What has come of putting something.
#[derive(Debug)]
pub struct Put<T> {
    /// As it is now.
    pub now: T,
    /// Whether there was none before.
    pub created: bool,
}

/// Reads and writes specifications.
#[derive(Clone)]
pub struct Specs {
    pub(super) store: Store,
    /// What all tasks share.
    pub(super) memory: Budget,
}

impl Specs {
    fn config(&self, endpoints: Vec<Item>, rule_sets: Vec<Item>, tasks: Vec<Item>) -> Result<Config, Problems> {
        let sections = [
            Section { key: "endpoints", items: endpoints },
            Section { key: "rule-sets", items: rule_sets },
            Section { key: "tasks", items: tasks },
        ];
        config::of_json(&sections, &|name| std::env::var(name).ok(), &self.memory)
    }

    /// All endpoints, under their own names in messages.
    fn endpoint_items(&self) -> Result<Vec<Item>, Refusal> {
        let mut items = Vec::new();
        for StoredEndpoint { name, .. } in self.store.endpoints()? {
            if let Some(spec) = self.store.endpoint_spec(&name)? {
                items.push(Item { label: format!("endpoint {name}: "), name, spec });
            }
        }
        Ok(items)
    }

    /// Those that a task uses; one that is not there is told of where the task is read.
    fn rule_sets_of(&self, task: &Map<String, Value>) -> Result<Vec<Item>, Refusal> {
        let names = task.get("rule-sets").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<&str> = names.collect();
        let sets = self.store.rule_sets()?.into_iter().filter(|set| names.contains(&set.name.as_str()));
        let item = |StoredRuleSet { name, spec, .. }| Item { label: format!("rule set {name}: "), name, spec };
        Ok(sets.map(item).collect())
    }

    /// Checks a set of rules, and the tasks that use it, then stores it.
    pub fn put_rule_set(
        &self,
        name: &str,
        spec: &Map<String, Value>,
        expected: Option<i64>,
        who: &str,
    ) -> Result<Put<StoredRuleSet>, Refusal> {
        check_name(name)?;
        let item = Item { name: name.to_owned(), spec: spec.clone(), label: String::new() };
        self.config(Vec::new(), vec![item], Vec::new())?;
        let created = self.store.rule_set(name)?.is_none();
        let by = by(who, "put", ("rule set", name));
        Ok(Put { now: self.store.put_rule_set(name, spec, expected, by)?, created })
    }

    /// A task that can be run, or what is wrong with it or with its endpoints.
    pub fn task(&self, name: &str, spec: &Map<String, Value>) -> Result<TaskConfig, Refusal> {
        let task = Item { name: name.to_owned(), spec: spec.clone(), label: String::new() };
        let mut endpoints = self.endpoint_items()?;
        let uses =
            |item: &Item| ["source", "target"].iter().any(|end| spec.get(*end) == Some(&Value::from(&*item.name)));
        // Those of others are not its matter, but their names are.
        for item in endpoints.iter_mut().filter(|item| !uses(item)) {
            item.spec = Map::from_iter([("kind".to_owned(), Value::from("null"))]);
        }
        let mut config = self.config(endpoints, self.rule_sets_of(spec)?, vec![task])?;
        config.tasks.pop().ok_or_else(|| Refusal::new(Code::Invalid, "the task is none"))
    }

    /// One that is stored.
    pub fn stored_task(&self, name: &str) -> Result<(StoredTask, TaskConfig), Refusal> {
        let stored = self.store.task(name)?.ok_or_else(|| Refusal::not_found("task", name))?;
        let config = self.task(name, &stored.spec)?;
        Ok((stored, config))
    }

    /// An endpoint that can be asked.
    pub fn endpoint(&self, name: &str) -> Result<config::Endpoint, Refusal> {
        let spec = self.store.endpoint_spec(name)?.ok_or_else(|| Refusal::not_found("endpoint", name))?;
        self.checked_endpoint(name, &spec)
    }

    fn checked_endpoint(&self, name: &str, spec: &Map<String, Value>) -> Result<config::Endpoint, Refusal> {
        let item = Item { name: name.to_owned(), spec: spec.clone(), label: String::new() };
        let mut config = self.config(vec![item], Vec::new(), Vec::new())?;
        config.endpoints.remove(name).ok_or_else(|| Refusal::new(Code::Invalid, "the endpoint is none"))
    }

    /// Checks an endpoint as a whole, then stores it. A password that was shown as hidden is the one that is stored.
    pub fn put_endpoint(
        &self,
        name: &str,
        mut spec: Map<String, Value>,
        expected: Option<i64>,
        who: &str,
    ) -> Result<Put<StoredEndpoint>, Refusal> {
        check_name(name)?;
        let before = self.store.endpoint_spec(name)?;
        for (key, value) in &mut spec {
            let known = before.as_ref().and_then(|before| before.get(key));
            if let (Value::String(text), Some(Value::String(known))) = (&*value, known)
                && *text == config::masked(known)
            {
                *value = Value::from(known.clone());
            }
        }
        refuse_hidden(&spec)?;
        self.checked_endpoint(name, &spec)?;
        let shown = Value::Object(spec.iter().map(|(key, value)| (key.clone(), shown(value))).collect());
        let now = self.store.put_endpoint(name, &spec, &shown, expected, by(who, "put", ("endpoint", name)))?;
        Ok(Put { now, created: before.is_none() })
    }

    /// Checks a task as a whole, then stores it.
    pub fn put_task(
        &self,
        name: &str,
        spec: &Map<String, Value>,
        expected: Option<i64>,
        who: &str,
    ) -> Result<Put<StoredTask>, Refusal> {
        check_name(name)?;
        let config = self.task(name, spec)?;
        // Names come from a task's alone: the others need not be read.
        let source = &config.source.configured;
        let named = |task: &str| source.objects(task).map(|objects| objects.name);
        let alike = |other: &StoredTask| other.name != name && named(&other.name) == named(name);
        let others = self.store.tasks()?.into_iter().filter(alike);
        let others: Vec<TaskConfig> = others.filter_map(|other| self.task(&other.name, &other.spec).ok()).collect();
        if let Some(message) = config::shared_objects(&config, &others) {
            let key = String::new();
            return Err(Problems(vec![Problem { file: String::new(), place: None, key, message }]).into());
        }
        let created = self.store.task(name)?.is_none();
        let by = by(who, "put", ("task", name));
        Ok(Put { now: self.store.put_task(name, spec, expected, by)?, created })
    }
}

/// A password that is not shown stays where it was: nobody can have it sent to another server.
fn refuse_hidden(spec: &Map<String, Value>) -> Result<(), Refusal> {
    let hidden = |value: &Value| value.as_str().is_some_and(|text| text.contains(&format!(":{}@", config::HIDDEN)));
    let Some((key, _)) = spec.iter().find(|(_, value)| hidden(value)) else { return Ok(()) };
    let message =
        "the password is hidden, and the rest is not what it was: write the password, or ${NAME} for a variable";
    let problem = Problem { file: String::new(), place: None, key: format!("/{key}"), message: message.to_owned() };
    Err(Problems(vec![problem]).into())
}

/// Who does what.
pub(super) fn by<'a>(who: &'a str, action: &'a str, object: (&'a str, &'a str)) -> By<'a> {
    By { who, action, object }
}

/// A name stands in paths, in messages and in files.
fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    let what = "a name has 1 to 100 letters, digits, hyphens, underscores and dots, and does not begin with a dot";
    Err(Refusal::new(Code::Invalid, what).remedy("choose another name"))
}

/// What may be seen of a value of an endpoint.
fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::from(config::masked(text)),
        other => other.clone(),
    }
}
