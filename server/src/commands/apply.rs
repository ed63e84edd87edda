//! `trem apply` and `trem export`: a configuration file and a daemon, made the same in either direction.

use serde_json::{Map, Value};

use crate::cli::{Apply, Export};
use crate::client::{Client, Step, Wanted};
use crate::exit::{Exit, Failure};
use crate::output;

/// Shows what differs, and does it unless that is all that is wanted.
pub fn apply(args: &Apply) -> Result<Exit, Failure> {
    let client = Client::new(&args.server)?;
    let wanted = Wanted::read(&args.file)?;
    for key in wanted.ignored() {
        output::note(format_args!("`{key}` is left out: it is an option of `trem serve`"));
    }
    let plan = wanted.plan(&client, args.prune)?;
    let mut differing = 0;
    for step in &plan.steps {
        if !step.is_hidden() {
            show(step);
            differing += 1;
        }
        if args.dry_run {
            continue;
        }
        let answer = step.run(&client)?;
        if step.is_hidden() && step.has_changed(&answer) {
            output::tell("", format_args!("{} changes in what is not shown", step.subject));
            differing += 1;
        }
        for table in answer["reload"].as_array().into_iter().flatten() {
            let (name, why) =
                (table["table"].as_str().unwrap_or_default(), table["reason"].as_str().unwrap_or_default());
            output::tell("    ", format_args!("{name} has to be loaded again: {why}"));
        }
    }
    match (differing, args.dry_run) {
        (0, true) => output::say("nothing differs of what is shown"),
        (0, false) => output::say("nothing differs"),
        (n, true) => output::say(format_args!("{n} to be put or deleted; nothing was changed")),
        (n, false) => output::say(format_args!("{n} put or deleted")),
    }
    Ok(Exit::Done)
}

fn show(step: &Step) {
    let what = match (step.deletes(), step.new) {
        (true, _) => "is deleted",
        (false, true) => "is new",
        (false, false) => "changes",
    };
    output::tell("", format_args!("{} {what}", step.subject));
    if step.deletes() || step.new {
        return;
    }
    for change in &step.changes {
        output::tell("  ", change);
    }
}

/// Writes what a daemon has as a configuration. Passwords that are written out there are not shown here.
pub fn export(args: &Export) -> Result<Exit, Failure> {
    let client = Client::new(&args.server)?;
    let mut file = Map::new();
    for (path, key) in [("endpoints", "endpoints"), ("rule-sets", "rule-sets"), ("tasks", "tasks")] {
        let there = client.get(&format!("/{path}"))?;
        let all = there[path.replace('-', "_")].as_array().cloned().unwrap_or_default();
        let named = all.into_iter().filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["spec"].clone())));
        let named: Map<String, Value> = named.collect();
        if !named.is_empty() {
            file.insert(key.to_owned(), Value::Object(named));
        }
    }
    let text = toml::to_string_pretty(&file).map_err(|e| Failure::System(format!("cannot write TOML: {e}")))?;
    if text.contains(crate::config::HIDDEN) {
        output::note("passwords that the daemon does not show are *** here: write ${VARIABLE} instead");
    }
    output::say(text.trim_end());
    Ok(Exit::Done)
}
