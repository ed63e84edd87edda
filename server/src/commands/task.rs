//! `trem task`: the tasks of a daemon.

use std::time::Duration;

use indicatif::HumanDuration;
use serde_json::Value;

use crate::cli::{OfServer, TaskCommand};
use crate::client::{Client, segment};
use crate::exit::{Exit, Failure};
use crate::layout::{Table, width};
use crate::output;

/// How often it is asked whether a run has ended.
const ASK: Duration = Duration::from_millis(500);

/// Asks a daemon about tasks, or tells it to do something with one.
pub fn task(command: &TaskCommand) -> Result<Exit, Failure> {
    match command {
        TaskCommand::Ls(of) => list(of),
        TaskCommand::Show(one) => show(&one.of, &one.name),
        TaskCommand::Start(args) => start(&args.of, &args.name, args.until_current),
        TaskCommand::Stop(one) => act(&one.of, &one.name, "stop"),
        TaskCommand::Pause(one) => act(&one.of, &one.name, "pause"),
        TaskCommand::Resume(one) => act(&one.of, &one.name, "resume"),
        TaskCommand::Reset(one) => act(&one.of, &one.name, "reset"),
        TaskCommand::Reload(args) => reload(&args.of, &args.name, &args.table),
        TaskCommand::Logs(args) => logs(&args.of, &args.name, args.lines),
        TaskCommand::Events(args) => events(&args.of, args.name.as_deref()),
        TaskCommand::Rm(args) => remove(&args.of, &args.name, args.drop),
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, |n| if n.fract() == 0.0 { format!("{n}") } else { format!("{n:.1}") })
}

fn list(of: &OfServer) -> Result<Exit, Failure> {
    let answer = Client::new(&of.server)?.get("/tasks")?;
    if of.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["task", "state", "tables", "suspended", "lag s", "lag", "retained"], width());
    for task in answer["tasks"].as_array().into_iter().flatten() {
        let status = &task["status"];
        let bytes = |key: &str| status[key].as_u64().map(output::bytes).unwrap_or_default();
        table.row([
            text(task, "name").to_owned(),
            text(status, "state").to_owned(),
            number(&status["tables"]["total"]),
            number(&status["tables"]["suspended"]),
            number(&status["lag_seconds"]),
            bytes("lag_bytes"),
            bytes("retained_bytes"),
        ]);
    }
    output::say(table);
    Ok(Exit::Done)
}

fn show(of: &OfServer, name: &str) -> Result<Exit, Failure> {
    let client = Client::new(&of.server)?;
    let mut task = client.get(&format!("/tasks/{}", segment(name)))?;
    let tables = client.get(&format!("/tasks/{}/tables", segment(name)))?;
    if of.json {
        task["tables"] = tables["tables"].clone();
        output::json(&task)?;
        return Ok(Exit::Done);
    }
    let status = &task["status"];
    output::tell("", format_args!("task {name}: {} ({} is wanted)", text(status, "state"), text(&task, "desired")));
    for (label, key) in [("  ", "reason"), ("    remedy: ", "remedy")] {
        if let Some(said) = status[key].as_str() {
            output::tell(label, said);
        }
    }
    if let Some(position) = status["position"].as_str() {
        let source = text(status, "source_position");
        output::tell("  ", format_args!("applied up to {position}, source at {source}"));
    }
    if let Some(left) = left(status) {
        output::tell("  ", left);
    }
    let mut table = Table::new(&["table", "state", "rows loaded", "inserted", "updated", "deleted"], width());
    let tables = tables["tables"].as_array().cloned().unwrap_or_default();
    for one in &tables {
        let counts = ["rows_loaded", "inserted", "updated", "deleted"].map(|key| number(&one[key]));
        let [loaded, inserted, updated, deleted] = counts;
        table.row([text(one, "name").to_owned(), text(one, "state").to_owned(), loaded, inserted, updated, deleted]);
    }
    output::say(table);
    for one in tables.iter().filter(|one| one["reason"].is_string()) {
        output::tell("  ", format_args!("{}: {}", text(one, "name"), text(one, "reason")));
        if let Some(remedy) = one["remedy"].as_str() {
            output::tell("    remedy: ", remedy);
        }
    }
    Ok(Exit::Done)
}

/// How far a load has come.
fn left(status: &Value) -> Option<String> {
    let seconds = status["load_seconds_left"].as_f64()?;
    let (loaded, all) = (number(&status["rows_loaded"]), number(&status["rows_estimated"]));
    let left = HumanDuration(Duration::from_secs(seconds.ceil() as u64));
    Some(format!("{loaded} of about {all} rows are loaded; {left} left"))
}

fn told(of: &OfServer, name: &str, status: &Value) -> Result<Exit, Failure> {
    if of.json {
        output::json(status)?;
    } else {
        output::tell("", format_args!("task {name}: {}", text(status, "state")));
        if let Some(reason) = status["reason"].as_str() {
            output::tell("  ", reason);
        }
    }
    Ok(Exit::Done)
}

fn act(of: &OfServer, name: &str, what: &str) -> Result<Exit, Failure> {
    let status = Client::new(&of.server)?.post(&format!("/tasks/{}/{what}", segment(name)))?;
    told(of, name, &status)
}

/// With `until_current` its end is waited for, and told by the exit code.
fn start(of: &OfServer, name: &str, until_current: bool) -> Result<Exit, Failure> {
    let client = Client::new(&of.server)?;
    let path = format!("/tasks/{}", segment(name));
    let query = if until_current { "?until=current" } else { "" };
    let mut status = client.post(&format!("{path}/start{query}"))?;
    while until_current && !["done", "failed", "stopped"].contains(&text(&status, "state")) {
        std::thread::sleep(ASK);
        status = client.get(&format!("{path}/status"))?;
    }
    told(of, name, &status)?;
    let suspended = status["tables"]["suspended"].as_u64().unwrap_or(0) > 0;
    Ok(match text(&status, "state") {
        "failed" => Exit::Failed,
        "done" if suspended => Exit::Suspended,
        _ => Exit::Done,
    })
}

fn reload(of: &OfServer, name: &str, table: &str) -> Result<Exit, Failure> {
    let path = format!("/tasks/{}/tables/{}/reload", segment(name), segment(table));
    let answer = Client::new(&of.server)?.post(&path)?;
    if of.json {
        output::json(&answer)?;
    } else {
        output::tell("", format_args!("{}: it will be loaded again, from its start", text(&answer, "table")));
    }
    Ok(Exit::Done)
}

fn logs(of: &OfServer, name: &str, lines: u32) -> Result<Exit, Failure> {
    let answer = Client::new(&of.server)?.get(&format!("/tasks/{}/logs?limit={lines}", segment(name)))?;
    if of.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    for line in answer["lines"].as_array().into_iter().flatten() {
        let fields = line["fields"].as_object().into_iter().flatten();
        let fields: String = fields.map(|(key, value)| format!(" {key}={value}")).collect();
        output::say(format_args!("{} {:5} {}{fields}", text(line, "at"), text(line, "level"), text(line, "message")));
    }
    Ok(Exit::Done)
}

/// One JSON text a line, until somebody stops it.
fn events(of: &OfServer, name: Option<&str>) -> Result<Exit, Failure> {
    let query = name.map_or_else(String::new, |name| format!("?task={}", segment(name)));
    let mut each = |event: &str| {
        output::say(event);
        true
    };
    Client::new(&of.server)?.events(&format!("/events{query}"), &mut each)?;
    Ok(Exit::Done)
}

fn remove(of: &OfServer, name: &str, drop: bool) -> Result<Exit, Failure> {
    let path = format!("/tasks/{}?drop={drop}", segment(name));
    Client::new(&of.server)?.ask("DELETE", &path, None)?;
    output::tell("", format_args!("task {name}: deleted"));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_load_says_how_far_it_is() {
        let status = json!({"load_seconds_left": 179.2, "rows_loaded": 1000, "rows_estimated": 4000});
        assert_eq!(left(&status).as_deref(), Some("1000 of about 4000 rows are loaded; 3 minutes left"));
        assert_eq!(left(&json!({"load_seconds_left": null})), None);
    }
}
