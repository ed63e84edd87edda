//! From the user's words to validated plans. All problems are gathered, so that one run tells them all.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::{Spanned, Value};
use trem_engine::budget::Budget;
use trem_engine::task::{AfterLoad, BatchLimits, LoadOptions, Mode, OnExisting, RetryPolicy, TaskPlan};

use super::interpolate::interpolate;
use super::locate::{Locator, Problem, Problems};
use super::raw::{self, Leaf};
use super::secret::{self, shown};
use super::units;
use super::validated::{Config, Endpoint, TaskConfig};

const MODES: [(&str, Mode); 3] =
    [("full-load", Mode::FullLoad), ("cdc", Mode::Cdc), ("full-load-and-cdc", Mode::FullLoadAndCdc)];
const ON_EXISTING: [(&str, OnExisting); 4] = [
    ("refuse", OnExisting::Refuse),
    ("keep", OnExisting::Keep),
    ("truncate", OnExisting::Truncate),
    ("recreate", OnExisting::Recreate),
];
const AFTER_LOAD: [(&str, AfterLoad); 3] = [
    ("keys", AfterLoad::Keys),
    ("indexes", AfterLoad::Indexes),
    ("indexes-and-constraints", AfterLoad::IndexesAndConstraints),
];
const DEFAULT_MEMORY: u64 = 128 << 20;
const DEFAULT_PROCESS_MEMORY: u64 = 256 << 20;
const LEAST_MEMORY: u64 = 8 << 20;
const DEFAULT_REDISCOVER: Duration = Duration::from_secs(60);
const MOST_WORKERS: u64 = 64;

/// Validates the whole file.
pub fn resolve(
    file: &raw::File,
    locator: &Locator<'_>,
    env: &dyn Fn(&str) -> Option<String>,
    memory: Option<&Budget>,
) -> Result<Config, Problems> {
    let declared = file.endpoints.keys().cloned().collect();
    let rule_sets = file.rule_sets.iter().map(|(name, set)| (name.clone(), set.get_ref())).collect();
    let mut r = Resolver { locator, env, rule_sets, problems: Vec::new(), declared, memory: Budget::new(0) };
    r.memory = memory.cloned().unwrap_or_else(|| r.process_memory(file));
    let mut endpoints = BTreeMap::new();
    for (name, raw) in &file.endpoints {
        r.no_url(name, raw.span());
        if let Some(known) = r.endpoint(name, raw) {
            endpoints.insert(name.clone(), known);
        }
    }
    if file.tasks.is_empty() && locator.is_file() {
        r.problems.push(locator.of_file("no task is configured: expected at least one [tasks.NAME]"));
    }
    let mut tasks = Vec::new();
    for (name, raw) in &file.tasks {
        r.no_url(name, raw.span());
        if name.is_empty() {
            r.problem(raw.span(), "a task must have a name: expected [tasks.NAME]");
        }
        if let Some(task) = r.task(name, raw, &endpoints) {
            r.task_name(&task, &tasks, raw.span());
            tasks.push(task);
        }
    }
    r.unused_rule_sets(file);
    if r.problems.is_empty() {
        Ok(Config { endpoints, tasks })
    } else {
        r.problems.sort_by(|a, b| (a.place, &a.message).cmp(&(b.place, &b.message)));
        // A set of rules is looked at for each task that uses it.
        r.problems.dedup();
        Err(Problems(r.problems))
    }
}

/// Why a task cannot be there beside others: they would take each other's objects at the source for their own.
pub fn shared_objects(task: &TaskConfig, others: &[TaskConfig]) -> Option<String> {
    let name = &task.plan.name;
    let own = task.source.configured.objects(name)?;
    let same = |other: &&TaskConfig| other.source.configured.objects(&other.plan.name).as_ref() == Some(&own);
    let other = others.iter().find(same).map(|t| &t.plan.name).filter(|other| !secret::is_url(other))?;
    let rule = own.rule;
    Some(format!("the tasks `{other}` and `{name}` would share the {own} at the source ({rule}): rename one of them"))
}

/// Validates one file, and gathers what is wrong with it.
pub struct Resolver<'a> {
    locator: &'a Locator<'a>,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) rule_sets: BTreeMap<String, &'a raw::RuleSet>,
    pub problems: Vec<Problem>,
    declared: Vec<String>,
    /// Of the whole process.
    memory: Budget,
}

impl Resolver<'_> {
    /// Something is wrong at a place.
    pub fn problem(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push(self.locator.at(span, message));
    }

    /// Names stand in every message.
    fn no_url(&mut self, name: &str, span: Range<usize>) {
        if secret::is_url(name) {
            self.problem(span, "a name must not be a URL: expected a word, such as [endpoints.shop]");
        }
    }

    /// Refuses names that the kind of the source does not take, and two tasks that would take each other's objects
    /// there for their own.
    fn task_name(&mut self, task: &TaskConfig, others: &[TaskConfig], span: Range<usize>) {
        let (name, source) = (&task.plan.name, &task.source.configured);
        if let Err(message) = source.check_task_name(name) {
            self.problem(span, message);
            return;
        }
        if let Some(message) = shared_objects(task, others).filter(|_| !secret::is_url(name)) {
            self.problem(span, message);
        }
    }

    /// What is wrong with them is told, too.
    fn unused_rule_sets(&mut self, file: &raw::File) {
        for (name, set) in &file.rule_sets {
            self.no_url(name, set.span());
            let uses = |task: &Spanned<raw::Task>| {
                let sets = task.get_ref().rule_sets.as_ref().and_then(|leaf| leaf.get_ref().as_array());
                sets.is_some_and(|sets| sets.iter().any(|set| set.as_str() == Some(name)))
            };
            if !file.tasks.values().any(uses) {
                self.rule_list(&set.get_ref().rules, "", None);
            }
        }
    }

    fn task(
        &mut self,
        name: &str,
        raw: &Spanned<raw::Task>,
        endpoints: &BTreeMap<String, Endpoint>,
    ) -> Option<TaskConfig> {
        let task = raw.get_ref();
        let source = self.end(&task.source, "source", endpoints);
        let target = self.end(&task.target, "target", endpoints);
        if let (Some(source), Some(target)) = (source, target) {
            self.two_ends(task, source, target);
        }
        let mode = self.word(task.mode.as_ref(), &MODES);
        let on_existing = self.word(task.on_existing.as_ref(), &ON_EXISTING);
        let after_load = self.word(task.after_load.as_ref(), &AFTER_LOAD);
        let (selection, entries) = self.selection(raw);
        let memory = self.task_memory(task);
        let budget = self.memory.share(as_usize(memory));
        let batch = self.batch(task, budget.bytes() as u64);
        let plan = TaskPlan {
            name: name.to_owned(),
            mode,
            on_existing,
            selection,
            after_load,
            batch,
            load: self.load(&task.load),
            retry: self.retry(&task.retry),
            rediscover: self.pause(task.rediscover.as_ref(), DEFAULT_REDISCOVER),
        };
        let dialect = target.and_then(|target| target.configured.dialect());
        let rules = self.rules(name, task, entries, dialect.as_ref());
        Some(TaskConfig { plan, budget, source: source?.clone(), target: target?.clone(), rules })
    }

    fn end<'e>(&mut self, leaf: &Leaf, role: &str, endpoints: &'e BTreeMap<String, Endpoint>) -> Option<&'e Endpoint> {
        let name = self.text(leaf, "the name of an endpoint")?;
        if let Some(known) = endpoints.get(&name) {
            return Some(known);
        }
        // One that is declared and wrong has its own message.
        if !self.declared.contains(&name) {
            let known = list(self.declared.iter().map(String::as_str).filter(|name| !secret::is_url(name)));
            let written = shown(leaf.get_ref());
            self.problem(leaf.span(), format!("no endpoint is called {written}: expected the {role} to be {known}"));
        }
        None
    }

    fn two_ends(&mut self, task: &raw::Task, source: &Endpoint, target: &Endpoint) {
        if source.configured.source("").is_none() {
            let kind = source.configured.kind();
            let message = format!("an endpoint of kind {kind} has no rows to give: it can only be a target");
            self.problem(task.source.span(), message);
        } else if target.configured.target("").is_none() {
            let kind = target.configured.kind();
            let message = format!("an endpoint of kind {kind} takes no rows: it can only be a source");
            self.problem(task.target.span(), message);
        } else if source.name == target.name {
            self.problem(task.target.span(), "source and target are the same endpoint: expected two databases");
        } else if source.same_database(target) {
            let (a, b) = (&source.name, &target.name);
            let message = format!("source `{a}` and target `{b}` are the same database: expected two databases");
            self.problem(task.target.span(), message);
        }
    }

    /// What all tasks may hold together: enough for the one that may hold most, where nothing is said.
    fn process_memory(&mut self, file: &raw::File) -> Budget {
        let most = match &file.memory {
            Some(leaf) => self.size(Some(leaf), DEFAULT_PROCESS_MEMORY, LEAST_MEMORY),
            // A size that is wrong is told where its task is resolved.
            None => {
                let told = self.problems.len();
                let tasks = file.tasks.values().map(|t| self.task_memory(t.get_ref())).max();
                self.problems.truncate(told);
                DEFAULT_PROCESS_MEMORY.max(tasks.unwrap_or(0))
            }
        };
        Budget::new(as_usize(most))
    }

    fn task_memory(&mut self, task: &raw::Task) -> u64 {
        let all = self.memory.bytes() as u64;
        let memory = self.size(task.memory.as_ref(), DEFAULT_MEMORY, LEAST_MEMORY);
        if memory > all
            && let Some(leaf) = &task.memory
        {
            let message = format!("{memory} bytes are more than the {all} bytes of all tasks together");
            self.problem(leaf.span(), format!("{message}: lower it, or raise the `memory` at the top of the file"));
        }
        memory
    }

    fn batch(&mut self, task: &raw::Task, memory: u64) -> BatchLimits {
        let default = BatchLimits::default();
        let max_rows = self.count(task.batch.max_rows.as_ref(), default.max_rows as u64, u32::MAX.into());
        // One set is applied, one may wait and a third one gathers, each up to twice as large inside a transaction.
        let usual = (default.max_bytes as u64).min(memory / 8);
        let max_bytes = self.size(task.batch.max_bytes.as_ref(), usual, 1);
        if max_bytes > memory
            && let Some(leaf) = &task.batch.max_bytes
        {
            let message = format!("a batch of {max_bytes} bytes does not fit in the task's memory of {memory} bytes");
            self.problem(leaf.span(), format!("{message}: lower batch.max-bytes or raise memory"));
        }
        let linger = self.duration(task.batch.linger.as_ref(), default.linger);
        BatchLimits { max_rows: as_usize(max_rows), max_bytes: as_usize(max_bytes), linger }
    }

    fn load(&mut self, raw: &raw::Load) -> LoadOptions {
        let default = LoadOptions::default();
        LoadOptions {
            workers: as_usize(self.count(raw.workers.as_ref(), default.workers as u64, MOST_WORKERS)),
            chunk_bytes: self.size(raw.chunk_bytes.as_ref(), default.chunk_bytes, 1),
            resume_above_bytes: self.size(raw.resume_above_bytes.as_ref(), default.resume_above_bytes, 0),
        }
    }

    fn retry(&mut self, raw: &raw::Retry) -> RetryPolicy {
        let default = RetryPolicy::default();
        let initial = self.pause(raw.initial.as_ref(), default.initial);
        let max = self.pause(raw.max.as_ref(), default.max);
        if initial > max
            && let Some(leaf) = raw.initial.as_ref().or(raw.max.as_ref())
        {
            self.problem(leaf.span(), "the first pause is longer than the longest: expected initial <= max");
        }
        let give_up_after = raw.give_up_after.as_ref().map(|leaf| self.pause(Some(leaf), Duration::ZERO));
        let tell_after = self.pause(raw.tell_after.as_ref(), default.tell_after);
        RetryPolicy { initial, max, give_up_after, tell_after }
    }

    /// A string, variables replaced.
    pub fn text(&mut self, leaf: &Leaf, expected: &str) -> Option<String> {
        let Value::String(text) = leaf.get_ref() else {
            self.problem(leaf.span(), format!("expected {expected}, found {}", shown(leaf.get_ref())));
            return None;
        };
        match interpolate(text, self.env) {
            Ok(text) => Some(text),
            Err(e) => {
                self.problem(leaf.span(), e);
                None
            }
        }
    }

    pub(super) fn word<T: Copy + Default>(&mut self, leaf: Option<&Leaf>, words: &[(&str, T)]) -> T {
        let Some(leaf) = leaf else { return T::default() };
        let expected = list(words.iter().map(|(word, _)| *word));
        let Some(text) = self.text(leaf, &expected) else { return T::default() };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => *value,
            None => {
                let written = shown(leaf.get_ref());
                self.problem(leaf.span(), format!("expected {expected}, found {written}"));
                T::default()
            }
        }
    }

    pub(super) fn count(&mut self, leaf: Option<&Leaf>, default: u64, most: u64) -> u64 {
        let Some(leaf) = leaf else { return default };
        match leaf.get_ref() {
            Value::Integer(n) if u64::try_from(*n).is_ok_and(|n| (1..=most).contains(&n)) => n.unsigned_abs(),
            other => {
                let message = format!("expected a whole number from 1 to {most}, found {}", shown(other));
                self.problem(leaf.span(), message);
                default
            }
        }
    }

    fn size(&mut self, leaf: Option<&Leaf>, default: u64, least: u64) -> u64 {
        let Some(leaf) = leaf else { return default };
        let Some(text) = self.text(leaf, units::SIZE) else { return default };
        let written = shown(leaf.get_ref());
        match units::size(&text) {
            Some(bytes) if bytes >= least => bytes,
            Some(_) => {
                self.problem(leaf.span(), format!("expected at least {least} bytes, found {written}"));
                default
            }
            None => {
                self.problem(leaf.span(), format!("expected {}, found {written}", units::SIZE));
                default
            }
        }
    }

    fn duration(&mut self, leaf: Option<&Leaf>, default: Duration) -> Duration {
        let Some(leaf) = leaf else { return default };
        let Some(text) = self.text(leaf, units::DURATION) else { return default };
        units::duration(&text).unwrap_or_else(|| {
            let written = shown(leaf.get_ref());
            self.problem(leaf.span(), format!("expected {}, found {written}", units::DURATION));
            default
        })
    }

    /// A duration that must not be zero.
    fn pause(&mut self, leaf: Option<&Leaf>, default: Duration) -> Duration {
        let before = self.problems.len();
        let pause = self.duration(leaf, default);
        if let Some(leaf) = leaf
            && pause.is_zero()
            && self.problems.len() == before
        {
            self.problem(leaf.span(), "expected a duration longer than zero");
        }
        pause
    }
}

/// Words as an alternative.
pub fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|w| format!("\"{w}\"")).collect();
    match words.split_last() {
        None => "one of none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
