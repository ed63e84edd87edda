//! `trem explain`: one row at the source, what each rule does to it, and the row on the target.

use serde::Serialize;
use trem_engine::Error;
use trem_engine::change::{ChangeBatch, Op};
use trem_engine::ports::{Look, Rules};
use trem_engine::runner::Task;
use trem_engine::schema::TableId;
use trem_engine::task::{Glob, Pattern, Selection, TableRule};
use trem_transforms::RuleList;

use crate::cli::Explain;
use crate::config::TaskConfig;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::rows::{self, Made, Row};
use crate::{table, task};

/// What becomes of a row.
#[derive(Serialize)]
pub struct Document {
    task: String,
    /// `schema.table`, as the source has it.
    table: String,
    /// The row at the source now.
    source: Option<Row>,
    rules: Vec<Effect>,
    /// `schema.table`, as the target has it.
    target_table: String,
    /// The row that the rules make of the one at the source.
    expected: Option<Row>,
    /// The row on the target now.
    target: Option<Row>,
    /// Its table there has no key to look it up by.
    target_has_no_key: bool,
}

#[derive(Serialize)]
struct Effect {
    rule: String,
    effect: String,
}

/// Prints what becomes of a row; fails if a rule cannot be applied to it.
pub async fn explain(args: Explain) -> Result<Exit, Failure> {
    let config = task::pick_one(&args.file, &args.task)?;
    let table = table::exact(&args.file, "TABLE", &args.table)?;
    let (document, failed) = row(&config, &table, args.key).await?;
    match args.json {
        true => output::json(&document)?,
        false => print(&document),
    }
    Ok(Exit::of(failed))
}

/// What becomes of the row with this key, and whether a rule cannot be applied to it.
pub async fn row(config: &TaskConfig, table: &TableId, key: Vec<String>) -> Result<(Document, bool), Error> {
    let task = task::build(config)?;
    let include = vec![Pattern::Glob(Glob::exactly(table))];
    let selection = Selection { rules: vec![TableRule { include, exclude: Vec::new() }] };
    let Some(schema) = task.source.discover(&selection).await?.tables.into_iter().next() else {
        let error = Error::refused("the source has no such table").table(table);
        return Err(error.remedy("names are case-sensitive; `trem plan` lists the tables of the task"));
    };
    let row = task.source.look(&schema, &Look::Key(key.clone())).await?;
    let there = !row.is_empty();
    let row = if there { row } else { task.source.look(&schema, &Look::KeyAlone(key)).await? };
    document(config, &task, table, row.slice(0, 1), there).await
}

async fn document(
    config: &TaskConfig,
    task: &Task,
    table: &TableId,
    row: ChangeBatch,
    there: bool,
) -> Result<(Document, bool), Error> {
    let source = there.then(|| rows::first(&row)).transpose()?;
    let stages = config.rules.stages(&row.table)?;
    let (effects, made) = effects(&stages, &row, there)?;
    let failed = matches!(made, Some(Made::Failed(_)));
    let target = on_target(config, task, &row).await?;
    let route = config.rules.route(&row.table)?;
    let expected = match made {
        Some(Made::Row { row, .. }) => Some(row),
        _ => None,
    };
    let document = Document {
        task: config.plan.name.clone(),
        table: table.to_string(),
        source,
        rules: effects,
        target_table: route.target().id.to_string(),
        expected,
        target,
        target_has_no_key: route.target().key.is_empty(),
    };
    Ok((document, failed))
}

/// What each rule does to the row, and what comes of it in the end; nothing of a row that is not there.
fn effects(
    stages: &[(String, RuleList)],
    row: &ChangeBatch,
    there: bool,
) -> Result<(Vec<Effect>, Option<Made>), Error> {
    if !there {
        return Ok((Vec::new(), None));
    }
    let mut before = Made::Row { table: row.table.id.to_string(), row: rows::first(row)? };
    let mut effects = Vec::new();
    for (rule, rules) in stages {
        let made = rows::made(rules, row);
        effects.push(Effect { rule: rule.clone(), effect: difference(&before, &made) });
        before = made;
        if !matches!(before, Made::Row { .. }) {
            break;
        }
    }
    Ok((effects, Some(before)))
}

/// What a rule has changed, in words.
fn difference(before: &Made, made: &Made) -> String {
    let (was, was_called, now, called) = match (before, made) {
        (_, Made::Filtered) => return "the row is not let through".to_owned(),
        (_, Made::Failed(why)) => return format!("fails: {why}"),
        (Made::Row { table: was_called, row: was }, Made::Row { table, row }) => (was, was_called, row, table),
        _ => return String::new(),
    };
    let mut said = Vec::new();
    if was_called != called {
        said.push(format!("the table is {called}"));
    }
    let of = |row: &Row, name: &String| row.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let gone: Vec<&str> = was.0.iter().filter(|(n, _)| of(now, n).is_none()).map(|(n, _)| n.as_str()).collect();
    if !gone.is_empty() {
        said.push(format!("without {}", gone.join(", ")));
    }
    let other = now.0.iter().filter(|(name, value)| of(was, name).as_ref() != Some(value)).cloned().collect();
    let other = Row(other);
    if !other.0.is_empty() {
        said.push(other.to_string());
    }
    if said.is_empty() { "nothing changes".to_owned() } else { said.join("; ") }
}

/// The row on the target: that of the key which the rules make of the source's.
async fn on_target(config: &TaskConfig, task: &Task, row: &ChangeBatch) -> Result<Option<Row>, Error> {
    let route = config.rules.route(&row.table)?;
    if route.target().key.is_empty() || task.target.record().await?.is_none_or(|r| r.table(&row.table.id).is_none()) {
        return Ok(None);
    }
    // As a delete it is known by its key alone, and no filter keeps it.
    let gone = ChangeBatch { ops: vec![Op::Delete], ..row.clone() };
    match route.map(gone) {
        Ok(mapped) if !mapped.rows.is_empty() => Ok(task.target.look(&mapped.rows).await?.map(Row)),
        _ => Ok(None),
    }
}

fn print(document: &Document) {
    output::tell("", format_args!("{} of task {}", document.table, document.task));
    match &document.source {
        Some(row) => output::tell("  source: ", row),
        None => output::tell("  source: ", "there is no such row now"),
    }
    for Effect { rule, effect } in &document.rules {
        output::tell("  ", format_args!("{rule}"));
        output::tell("      ", effect);
    }
    let table = &document.target_table;
    match &document.target {
        Some(row) => output::tell("  target: ", format_args!("{table}: {}", row)),
        None if document.target_has_no_key => {
            output::tell("  target: ", format_args!("{table}: it has no key to look the row up by"));
        }
        None => output::tell("  target: ", format_args!("{table}: there is no such row now")),
    }
}
