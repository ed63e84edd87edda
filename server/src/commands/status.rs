//! `trem status`: the state of each table, the positions and how far the target is behind.

use std::time::SystemTime;

use serde::Serialize;
use trem_engine::record::{Failing, TableRecord, TableState};
use trem_engine::runner::Task;
use trem_engine::schema::TableId;
use trem_engine::{Class, Error};

use super::plan::both;
use crate::cli::Shown;
use crate::config::TaskConfig;
use crate::exit::{Exit, Failure};
use crate::layout::{Table, width};
use crate::remedy::Commands;
use crate::{output, task};

/// All tasks. The names of the fields are documented in docs/OPERATIONS.md: scripts depend on them.
#[derive(Serialize)]
struct Document {
    tasks: Vec<TaskView>,
}

#[derive(Serialize)]
struct TaskView {
    task: String,
    source: String,
    target: String,
    /// Whether the target remembers the task.
    started: bool,
    lineage: Option<String>,
    /// Up to where changes have taken effect.
    position: Option<String>,
    /// Where the source is now.
    source_position: Option<String>,
    lag_bytes: Option<u64>,
    /// Age of the last commit that has taken effect; 0 when nothing is missing.
    lag_seconds: Option<f64>,
    /// Log that the source keeps for this task.
    retained_bytes: Option<u64>,
    /// The transactions at the source that a load waits for.
    waits_for: Option<String>,
    /// What has been failing for long and is tried again.
    failing: Vec<FailingView>,
    tables: Vec<TableView>,
    /// What could not be asked, and why.
    errors: Vec<String>,
}

#[derive(Serialize)]
struct FailingView {
    /// The tables that are held up; none where it is the task as a whole.
    tables: Vec<String>,
    /// RFC 3339, UTC.
    since: String,
    seconds: u64,
    times: u64,
    class: Class,
    reason: String,
    remedy: Option<String>,
}

#[derive(Serialize)]
struct TableView {
    /// `schema.table`, as the source has it.
    name: String,
    schema: String,
    table: String,
    /// `schema.table`, as the target has it.
    target: String,
    state: TableState,
    /// `trem reload` has asked for it, and the task has not taken that up yet.
    reload_requested: bool,
    rows_loaded: u64,
    chunks: usize,
    chunks_done: usize,
    /// Changes that met another row on the target than the source had, and were put right.
    conflicts: u64,
    /// Changes that are set aside because a rule could not be applied to them.
    quarantined: u64,
    reason: Option<String>,
    remedy: Option<String>,
}

/// Prints the state; fails when an end cannot be asked.
pub async fn status(args: Shown) -> Result<Exit, Failure> {
    let mut tasks = Vec::new();
    for config in task::pick(&args.pick)? {
        let commands = Commands::of_file(&args.pick.file, &config.plan.name);
        tasks.push(view(&config, &task::build(&config)?, &commands).await);
    }
    let failed = tasks.iter().any(|t| !t.errors.is_empty());
    let document = Document { tasks };
    if args.json {
        output::json(&document)?;
    } else {
        document.tasks.iter().for_each(print);
    }
    Ok(Exit::of(failed))
}

async fn view(config: &TaskConfig, task: &Task, commands: &Commands<'_>) -> TaskView {
    let mut errors = Vec::new();
    let mut fault = |end: &str, e: Error| errors.push(format!("{end}: {}", commands.error(&e)));
    let record = task.target.record().await.map_err(|e| fault("target", e)).unwrap_or_default();
    let started = record.is_some();
    let record = record.unwrap_or_default();
    let position = record.checkpoint.map(|c| c.position);
    let lag = match config.plan.mode.follows() {
        true => task.source.lag(position.as_ref()).await.map_err(|e| fault("source", e)).ok(),
        false => None,
    };
    let lag_bytes = lag.as_ref().and_then(|l| l.bytes);
    let lag_seconds = lag.as_ref().and_then(|l| l.seconds(record.committed_at, SystemTime::now()));
    TaskView {
        task: config.plan.name.clone(),
        source: config.source.to_string(),
        target: config.target.to_string(),
        started,
        lineage: record.lineage.map(|l| l.to_string()),
        position: position.map(|p| p.to_string()),
        source_position: lag.as_ref().map(|l| l.current.to_string()),
        lag_bytes,
        lag_seconds,
        retained_bytes: lag.as_ref().and_then(|l| l.retained_bytes),
        waits_for: lag.and_then(|l| l.waits_for),
        failing: record.failing.iter().map(|f| failing_view(f, commands)).collect(),
        tables: record.tables.iter().map(|t| table_view(t, &record.requests, commands)).collect(),
        errors,
    }
}

fn failing_view(failing: &Failing, commands: &Commands<'_>) -> FailingView {
    FailingView {
        tables: failing.tables.iter().map(ToString::to_string).collect(),
        since: humantime::format_rfc3339_seconds(failing.since).to_string(),
        seconds: failing.since.elapsed().unwrap_or_default().as_secs(),
        times: failing.times,
        class: failing.class,
        reason: failing.reason.clone(),
        remedy: failing.remedy.as_ref().map(|r| commands.remedy(r)),
    }
}

fn table_view(record: &TableRecord, requests: &[TableId], commands: &Commands<'_>) -> TableView {
    let id = record.id();
    TableView {
        name: id.to_string(),
        schema: id.schema.clone(),
        table: id.table.clone(),
        target: record.target.id.to_string(),
        state: record.state,
        reload_requested: requests.contains(id),
        rows_loaded: record.rows_loaded(),
        chunks: record.chunks.len(),
        chunks_done: record.chunks.iter().filter(|c| c.done.is_some()).count(),
        conflicts: record.conflicts,
        quarantined: record.quarantined,
        reason: record.reason.clone(),
        remedy: record.remedy.as_ref().map(|r| commands.remedy(r)),
    }
}

fn print(task: &TaskView) {
    output::tell("", format_args!("task {}: {} -> {}", task.task, task.source, task.target));
    for error in &task.errors {
        output::tell("  ", error);
    }
    if let Some(others) = &task.waits_for {
        output::tell("  ", format_args!("a load waits for transactions that are open at the source: {others}"));
    }
    for FailingView { tables, since, seconds, times, reason, remedy, .. } in &task.failing {
        let what = if tables.is_empty() { "the task".to_owned() } else { tables.join(", ") };
        output::tell("  ", format_args!("{what} failing since {since} ({seconds} s), {times} times: {reason}"));
        if let Some(remedy) = remedy {
            output::tell("    remedy: ", remedy);
        }
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let size = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), output::bytes);
    if !task.started {
        if task.errors.is_empty() {
            output::say("  not started yet");
        } else if task.retained_bytes.is_some() {
            // With the target down this is what becomes urgent.
            let (at, retained) = (text(&task.source_position), size(task.retained_bytes));
            output::say(format_args!("  source at {at}, log retained there {retained}"));
        }
        return;
    }
    if task.source_position.is_some() {
        let age = task.lag_seconds.map_or_else(String::new, |s| format!(" and {s:.1} s"));
        let (at, now) = (text(&task.position), text(&task.source_position));
        output::say(format_args!("  applied up to {at}, source at {now}"));
        let (behind, retained) = (size(task.lag_bytes), size(task.retained_bytes));
        output::say(format_args!("  behind by {behind}{age}, log retained at the source {retained}"));
    } else if let Some(at) = &task.position {
        output::say(format_args!("  applied up to {at}"));
    }
    print_tables(task);
}

fn print_tables(task: &TaskView) {
    let mut table = Table::new(&["table", "state", "rows loaded", "chunks"], width());
    for t in &task.tables {
        let chunks = format!("{}/{}", t.chunks_done, t.chunks);
        let state = if t.reload_requested { "reload requested" } else { state(t.state) };
        table.row([both(&t.name, &t.target), state.to_owned(), t.rows_loaded.to_string(), chunks]);
    }
    output::say(table);
    for t in task.tables.iter().filter(|t| t.quarantined > 0) {
        let (name, count) = (&t.name, t.quarantined);
        output::tell("  ", format_args!("{name}: {count} changes are set aside: see `trem quarantine ls`"));
    }
    for t in task.tables.iter().filter(|t| t.conflicts > 0) {
        let (name, conflicts) = (&t.name, t.conflicts);
        output::tell(
            "  ",
            format_args!("{name}: {conflicts} changes met rows on the target that were not as the source had them"),
        );
        output::tell("    remedy: ", "see who else writes to the target's table; a reload makes it what the source is");
    }
    for t in task.tables.iter().filter(|t| t.state == TableState::Loading) {
        let Some(reason) = &t.reason else { continue };
        output::tell("  ", format_args!("{} has fallen behind the others, and catches up: {reason}", t.name));
        if let Some(remedy) = &t.remedy {
            output::tell("    remedy: ", remedy);
        }
    }
    let suspended: Vec<&TableView> = task.tables.iter().filter(|t| t.state == TableState::Suspended).collect();
    if !suspended.is_empty() {
        let (count, all) = (suspended.len(), task.tables.len());
        output::say("");
        output::tell(
            "  ",
            format_args!("{count} of {all} tables suspended: no change reaches them until they are reloaded"),
        );
    }
    for t in suspended {
        let reason = t.reason.as_deref().unwrap_or("no reason is on record");
        output::tell("  ", format_args!("{}: {reason}", t.name));
        if let Some(remedy) = &t.remedy {
            output::tell("    remedy: ", remedy);
        }
    }
}

fn state(state: TableState) -> &'static str {
    match state {
        TableState::Loading => "loading",
        TableState::Ready => "ready",
        TableState::Suspended => "suspended",
        TableState::Preparing => "preparing",
        TableState::Reload => "to be loaded again",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::collections::BTreeSet;

    const MANUAL: &str = include_str!("../../../docs/OPERATIONS.md");

    fn names(value: &serde_json::Value) -> BTreeSet<&String> {
        value.as_object().unwrap().keys().collect()
    }

    #[test]
    fn the_documented_fields_are_the_fields() {
        let example = MANUAL.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let manual: serde_json::Value = serde_json::from_str(example).unwrap();
        let table = TableView {
            name: String::new(),
            schema: String::new(),
            table: String::new(),
            target: String::new(),
            state: TableState::Ready,
            reload_requested: false,
            rows_loaded: 0,
            chunks: 0,
            chunks_done: 0,
            conflicts: 0,
            quarantined: 0,
            reason: None,
            remedy: None,
        };
        let failing = FailingView {
            tables: Vec::new(),
            since: String::new(),
            seconds: 0,
            times: 0,
            class: Class::Transient,
            reason: String::new(),
            remedy: None,
        };
        let task = TaskView {
            task: String::new(),
            source: String::new(),
            target: String::new(),
            started: false,
            lineage: None,
            position: None,
            source_position: None,
            lag_bytes: None,
            lag_seconds: None,
            retained_bytes: None,
            waits_for: None,
            failing: vec![failing],
            tables: vec![table],
            errors: Vec::new(),
        };
        let written = serde_json::to_value(Document { tasks: vec![task] }).unwrap();
        assert_eq!(names(&written), names(&manual));
        assert_eq!(names(&written["tasks"][0]), names(&manual["tasks"][0]));
        assert_eq!(names(&written["tasks"][0]["tables"][0]), names(&manual["tasks"][0]["tables"][0]));
        assert_eq!(names(&written["tasks"][0]["failing"][0]), names(&manual["tasks"][0]["failing"][0]));
    }

    #[test]
    fn every_state_and_every_class_is_in_the_manual() {
        for s in TableState::ALL {
            let json = serde_json::to_string(&s).unwrap();
            let row = format!("| {} | `{}` |", state(s), json.trim_matches('"'));
            assert!(MANUAL.contains(&row), "{row}");
        }
        for class in
            [Class::Transient, Class::Locked, Class::Refused, Class::Lineage, Class::Table, Class::Fenced, Class::Fatal]
        {
            assert!(MANUAL.contains(&format!("| `{class:?}` |")), "{class:?}");
        }
    }
}
