//! `trem quarantine`: the changes that a rule could not be applied to.

use std::sync::Arc;

use serde::Serialize;
use trem_engine::change::{ChangeBatch, Op};
use trem_engine::ports::{Look, Rules};
use trem_engine::quarantine::{QuarantineEntry, QuarantinedValue};
use trem_engine::record::TableState;
use trem_engine::runner::Task;
use trem_engine::schema::TableSchema;
use trem_engine::{Error, Result};

use crate::cli::{OfTask, Picked, Quarantine, Show};
use crate::config::TaskConfig;
use crate::exit::{Exit, Failure};
use crate::layout::{Table, width};
use crate::rows::Row;
use crate::{output, task};

#[derive(Serialize)]
struct Document {
    task: String,
    changes: Vec<EntryView>,
}

#[derive(Serialize)]
struct EntryView {
    number: i64,
    /// When it was set aside.
    since: String,
    table: String,
    operation: &'static str,
    position: Option<String>,
    committed_at: Option<String>,
    error: String,
    key: Row,
    row: Row,
}

/// Does one of them.
pub async fn quarantine(command: Quarantine) -> Result<Exit, Failure> {
    match command {
        Quarantine::Ls(args) => list(args).await,
        Quarantine::Show(args) => show(args).await,
        Quarantine::Retry(args) => retry(args).await,
        Quarantine::Drop(args) => forget(args).await,
    }
}

fn view(entry: &QuarantineEntry) -> EntryView {
    let time = |at| humantime::format_rfc3339_seconds(at).to_string();
    let change = &entry.change;
    EntryView {
        number: entry.number,
        since: time(entry.since),
        table: change.table.to_string(),
        operation: match change.op {
            None => "load",
            Some(Op::Insert) => "insert",
            Some(Op::Update) => "update",
            Some(Op::Delete) => "delete",
        },
        position: change.position.clone(),
        committed_at: change.committed_at.map(time),
        error: change.error.clone(),
        key: row(&change.key),
        row: row(&change.row),
    }
}

fn row(values: &[QuarantinedValue]) -> Row {
    Row(values.iter().map(|v| (v.column.clone(), v.value.clone())).collect())
}

async fn list(args: OfTask) -> Result<Exit, Failure> {
    let config = task::pick_one(&args.file, &args.task)?;
    let entries = task::build(&config)?.target.quarantined().await?;
    let document = Document { task: args.task, changes: entries.iter().map(view).collect() };
    if args.json {
        output::json(&document)?;
        return Ok(Exit::Done);
    }
    if document.changes.is_empty() {
        output::tell("", format_args!("task {}: no change is set aside", document.task));
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["number", "since", "table", "operation", "key", "error"], width());
    for change in document.changes {
        let key = change.key.to_string();
        table.row([change.number.to_string(), change.since, change.table, change.operation.into(), key, change.error]);
    }
    output::say(table);
    Ok(Exit::Done)
}

async fn show(args: Show) -> Result<Exit, Failure> {
    let config = task::pick_one(&args.of.file, &args.of.task)?;
    let entries = task::build(&config)?.target.quarantined().await?;
    let entry = view(numbered(&entries, args.number, &args.of.task)?);
    if args.of.json {
        output::json(&entry)?;
        return Ok(Exit::Done);
    }
    output::tell("", format_args!("change {} of {}: {}", entry.number, entry.table, entry.operation));
    let lines = [
        ("  set aside:   ", Some(entry.since)),
        ("  error:       ", Some(entry.error)),
        ("  position:    ", entry.position),
        ("  committed:   ", entry.committed_at),
        ("  key:         ", Some(entry.key.to_string()).filter(|k| !k.is_empty())),
        ("  row:         ", Some(entry.row.to_string())),
    ];
    for (label, text) in lines {
        output::tell(label, text.as_deref().unwrap_or("-"));
    }
    Ok(Exit::Done)
}

fn numbered<'e>(entries: &'e [QuarantineEntry], number: i64, task: &str) -> Result<&'e QuarantineEntry> {
    entries.iter().find(|entry| entry.number == number).ok_or_else(|| {
        Error::refused(format!("task {task} has no change {number} set aside"))
            .remedy("`trem quarantine ls` lists them")
    })
}

fn picked<'e>(entries: &'e [QuarantineEntry], args: &Picked) -> Result<Vec<&'e QuarantineEntry>> {
    match args.all {
        true => Ok(entries.iter().collect()),
        false => args.numbers.iter().map(|number| numbered(entries, *number, &args.task)).collect(),
    }
}

async fn forget(args: Picked) -> Result<Exit, Failure> {
    let config = task::pick_one(&args.file, &args.task)?;
    let target = task::build(&config)?.target;
    let entries = target.quarantined().await?;
    let numbers: Vec<i64> = picked(&entries, &args)?.iter().map(|entry| entry.number).collect();
    let count = target.release(&numbers).await?;
    output::tell("", format_args!("{count} changes forgotten; the target has their rows as they were before"));
    Ok(Exit::Done)
}

async fn retry(args: Picked) -> Result<Exit, Failure> {
    let config = task::pick_one(&args.file, &args.task)?;
    let task = task::build(&config)?;
    let entries = task.target.quarantined().await?;
    let mut failed = false;
    for entry in picked(&entries, &args)? {
        match one(&config, &task, entry).await {
            Ok(done) => output::tell("", format_args!("change {}: {done}", entry.number)),
            Err(error) => {
                failed = true;
                output::tell("", format_args!("change {}: {error}", entry.number));
            }
        }
    }
    Ok(Exit::of(failed))
}

/// Brings the row as it is at the source now.
async fn one(config: &TaskConfig, task: &Task, entry: &QuarantineEntry) -> Result<&'static str> {
    let id = &entry.change.table;
    let record = task.target.record().await?.unwrap_or_default();
    let known = record.table(id).filter(|table| table.state == TableState::Ready);
    let not_ready = || {
        Error::refused("the table is not followed now").table(id).remedy("try again when `trem status` calls it ready")
    };
    let table = Arc::clone(&known.ok_or_else(not_ready)?.source);
    let key = key(&table, &entry.change.key)?;
    // What is read is newer than all that the task has applied, and it applies nothing meanwhile.
    let hold = task.target.mend().await?;
    let row = task.source.look(&table, &Look::Key(key.clone())).await?;
    let (row, done) = match row.is_empty() {
        false => (row, "the row is on the target as it is at the source now"),
        true => {
            let row = task.source.look(&table, &Look::KeyAlone(key)).await?;
            (
                ChangeBatch { ops: vec![Op::Delete; row.len()], ..row },
                "the source has the row no more, nor has the target",
            )
        }
    };
    let mapped = config.rules.route(&table)?.map(row)?;
    if let Some(again) = mapped.quarantined.first() {
        return Err(Error::refused(again.error.clone()).table(id).remedy("correct the row at the source, or the rule"));
    }
    hold.apply(mapped.rows, &[entry.number]).await?;
    Ok(done)
}

/// The values of the key in its order.
fn key(table: &TableSchema, known: &[QuarantinedValue]) -> Result<Vec<String>> {
    let value = |at: &usize| {
        let name = &table.columns[*at].name;
        known.iter().find(|v| v.column == *name).and_then(|v| v.value.clone())
    };
    let key = table.key.iter().map(value).collect::<Option<Vec<String>>>().filter(|key| !key.is_empty());
    key.ok_or_else(|| {
        let what = "the key of the row is not known: a rule masks it or leaves it out, or the table has none";
        Error::refused(what)
            .table(&table.id)
            .remedy("change the row at the source: it comes with its next change; then drop this one")
    })
}
