//! `trem plan`: what a run would do on the target, table by table.

use std::process::ExitCode;

use serde::Serialize;
use trem_engine::ports::{Finding, Severity, TablePreview};
use trem_engine::runner::preflight;
use trem_engine::schema::{Identity, LogicalType};

use super::check::{name, verdict, why};
use crate::cli::Shown;
use crate::config::TaskConfig;
use crate::task::{FAILED, Failure};
use crate::{output, task};

/// What is planned for all tasks.
#[derive(Serialize)]
struct Document {
    tasks: Vec<TaskView>,
}

#[derive(Serialize)]
struct TaskView {
    task: String,
    source: String,
    target: String,
    findings: Vec<Finding>,
    types: Vec<String>,
    tables: Vec<TableView>,
}

#[derive(Serialize)]
struct TableView {
    /// `schema.table`
    name: String,
    schema: String,
    table: String,
    exists: bool,
    identity: Identity,
    columns: Vec<ColumnView>,
    ddl: Vec<String>,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct ColumnView {
    name: String,
    #[serde(rename = "type")]
    native: String,
    logical: Option<LogicalType>,
    nullable: bool,
    /// Place in the key, from 1.
    key: Option<usize>,
    generated: Option<String>,
}

/// Prints the plan; fails when something stands against it.
pub async fn plan(args: Shown) -> Result<ExitCode, Failure> {
    let mut tasks = Vec::new();
    for config in task::pick(&args.pick)? {
        let mut view = view(&config).await?;
        for findings in view.tables.iter_mut().map(|t| &mut t.findings).chain([&mut view.findings]) {
            name(findings, &args.pick.file, &config.plan.name);
        }
        tasks.push(view);
    }
    let failed = tasks.iter().any(TaskView::refused);
    let document = Document { tasks };
    if args.json {
        output::json(&document)?;
    } else {
        document.tasks.iter().for_each(print);
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

impl TaskView {
    fn refused(&self) -> bool {
        let tables = self.tables.iter().flat_map(|t| &t.findings);
        self.findings.iter().chain(tables).any(|f| f.severity == Severity::Error)
    }
}

async fn view(config: &TaskConfig) -> Result<TaskView, Failure> {
    let task = task::build(config)?;
    let mut view = TaskView {
        task: config.plan.name.clone(),
        source: config.source.to_string(),
        target: config.target.to_string(),
        findings: Vec::new(),
        types: Vec::new(),
        tables: Vec::new(),
    };
    match preflight(&task).await {
        Ok(found) => {
            view.findings = found.findings;
            view.types = found.catalog.types.into_iter().map(|t| t.ddl).collect();
            view.tables = found.previews.into_iter().map(table_view).collect();
        }
        Err(error) => view.findings = why(config, &task, &error).await,
    }
    Ok(view)
}

fn table_view(preview: TablePreview) -> TableView {
    let schema = &preview.table;
    let place = |index: usize| schema.key.iter().position(|k| *k == index).map(|n| n + 1);
    let sent = schema.columns.iter().enumerate().map(|(n, c)| ColumnView {
        name: c.name.clone(),
        native: c.native.name.clone(),
        logical: Some(c.logical),
        nullable: c.nullable,
        key: place(n),
        generated: None,
    });
    let computed = schema.generated.iter().map(|c| ColumnView {
        name: c.name.clone(),
        native: c.native.name.clone(),
        logical: None,
        nullable: true,
        key: None,
        generated: Some(c.expression.clone()),
    });
    TableView {
        name: schema.id.to_string(),
        schema: schema.id.schema.clone(),
        table: schema.id.table.clone(),
        exists: preview.exists,
        identity: schema.identity,
        columns: sent.chain(computed).collect(),
        ddl: preview.ddl,
        findings: preview.findings,
    }
}

fn print(task: &TaskView) {
    output::say(format_args!("task {}: {} -> {}", task.task, task.source, task.target));
    output::findings(task.findings.iter().filter(|f| f.severity > Severity::Ok));
    let before: Vec<&String> = task.tables.iter().flat_map(|t| t.ddl.split_at(types_end(task, t)).0).collect();
    if !before.is_empty() {
        output::say("\ntypes that the tables need and the target lacks");
    }
    for ddl in before {
        output::say(statement(ddl));
    }
    for table in &task.tables {
        let there = if table.exists { "exists on the target" } else { "is created" };
        let rows = match table.identity {
            Identity::Key | Identity::KeyWithFullImage => "rows told apart by key",
            Identity::Full => "rows told apart by the whole row",
            Identity::InsertOnly => "rows only inserted",
        };
        output::say(format_args!("\n{}: {there}, {rows}", table.name));
        let mut columns = output::table(&["column", "type", "logical", "nullable", "key"]);
        for c in &table.columns {
            let logical = c.logical.map_or_else(|| "computed by the target".to_owned(), |l| format!("{l:?}"));
            let key = c.key.map(|k| k.to_string()).unwrap_or_default();
            let nullable = if c.nullable { "yes" } else { "no" };
            columns.add_row([c.name.as_str(), &c.native, &logical, nullable, &key]);
        }
        output::say(columns);
        for ddl in &table.ddl[types_end(task, table)..] {
            output::say(statement(ddl));
        }
        output::findings(table.findings.iter().filter(|f| f.severity > Severity::Ok));
    }
    let of_tables = task.tables.iter().flat_map(|t| &t.findings);
    let verdict = verdict(task.tables.len(), task.findings.iter().chain(of_tables));
    output::say(format_args!("\n{verdict}; nothing was changed"));
}

/// Where the statements for types end, which stand before those of the first table.
fn types_end(task: &TaskView, table: &TableView) -> usize {
    table.ddl.iter().rposition(|ddl| task.types.contains(ddl)).map_or(0, |last| last + 1)
}

fn statement(ddl: &str) -> String {
    format!("    {};", ddl.trim_end().trim_end_matches(';').replace('\n', "\n    "))
}
