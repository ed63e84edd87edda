//! `trem plan`: what a run would do on the target, table by table.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use trem_engine::Error;
use trem_engine::ports::{Ddl, DdlKind, Look, Severity, TablePreview};
use trem_engine::route::Route;
use trem_engine::routes::Routes;
use trem_engine::runner::{Found, preflight};
use trem_engine::schema::{Identity, TableSchema};
use trem_engine::side::Side;

use super::check::why;
use crate::cli::Plan;
use crate::config::TaskConfig;
use crate::exit::{Exit, Failure};
use crate::finding::{self, FindingView, verdict};
use crate::layout::{Table, fold_code, width};
use crate::remedy::Commands;
use crate::rows::{self, RowView};
use crate::{output, task};

/// What is planned for all tasks.
#[derive(Serialize)]
struct Document {
    tasks: Vec<TaskView>,
}

/// What is planned for one task.
#[derive(Serialize)]
pub struct TaskView {
    task: String,
    source: String,
    target: String,
    findings: Vec<FindingView>,
    types: Vec<String>,
    tables: Vec<TableView>,
}

#[derive(Serialize)]
struct TableView {
    /// `schema.table`, as the source has it.
    name: String,
    schema: String,
    table: String,
    /// `schema.table`, as the target has it.
    target: String,
    exists: bool,
    identity: Identity,
    columns: Vec<ColumnView>,
    /// What the filter and each rule does to it.
    rules: Vec<String>,
    /// The other tables of the source that become the same one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beside: Vec<String>,
    /// `schema.table` on the target that every change is added to.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<String>,
    /// Rows at the source and as they get to the target, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sample: Vec<RowView>,
    #[serde(serialize_with = "statements")]
    ddl: Vec<Ddl>,
    findings: Vec<FindingView>,
}

#[derive(Serialize)]
struct ColumnView {
    /// The name at the source, of a column that a rule has made that on the target.
    name: String,
    /// The name on the target; none where it does not get there.
    target: Option<String>,
    /// The columns of the source that a rule computes it from.
    computed_from: Option<Vec<String>>,
    #[serde(rename = "type")]
    native: String,
    /// What values mean to the engine; without it the target computes them.
    canonical: Option<String>,
    nullable: bool,
    /// Place in the key, from 1.
    key: Option<usize>,
    generated: Option<String>,
}

/// Prints the plan; fails when something stands against it.
pub async fn plan(Plan { shown: args, sample }: Plan) -> Result<Exit, Failure> {
    let mut tasks = Vec::new();
    for config in task::pick(&args.pick)? {
        let commands = Commands::of_file(&args.pick.file, &config.plan.name);
        tasks.push(view(&config, &commands, sample.into()).await?);
    }
    let failed = tasks.iter().any(TaskView::refused);
    let document = Document { tasks };
    if args.json {
        output::json(&document)?;
    } else {
        document.tasks.iter().for_each(print);
    }
    Ok(Exit::of(failed))
}

impl TaskView {
    fn refused(&self) -> bool {
        let tables = self.tables.iter().flat_map(|t| &t.findings);
        self.findings.iter().chain(tables).any(|f| f.severity == Severity::Error)
    }
}

/// Looks at both ends. `sample`: rows of each table to show.
pub async fn view(config: &TaskConfig, commands: &Commands<'_>, sample: usize) -> Result<TaskView, Error> {
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
            view.findings = FindingView::all(found.findings, commands);
            view.types = found.catalog.types.into_iter().map(|t| t.ddl).collect();
            let routes = found.routes;
            let said = |schema: &Arc<TableSchema>| config.rules.said(schema).unwrap_or_default();
            for preview in found.previews {
                let source = routes.of_target(&preview.table.id).map(|route| Arc::clone(route.source()));
                let mut table = table_view(preview, &routes, &said, commands);
                if let Some(source) = source.filter(|_| sample > 0) {
                    let rows = task.source.look(&source, &Look::Some(sample)).await?;
                    table.sample = rows::samples(&config.rules, &rows)?;
                }
                view.tables.push(table);
            }
        }
        Err(error) => view.findings = FindingView::all(why(config, &task, &error).await, commands),
    }
    Ok(view)
}

fn table_view(
    preview: TablePreview,
    routes: &Routes,
    rules: &dyn Fn(&Arc<TableSchema>) -> Vec<String>,
    commands: &Commands<'_>,
) -> TableView {
    let target = &preview.table;
    let straight = Route::straight(Arc::clone(target));
    let route = routes.of_target(&target.id).unwrap_or(&straight);
    let schema = route.source();
    TableView {
        name: schema.id.to_string(),
        schema: schema.id.schema.clone(),
        table: schema.id.table.clone(),
        target: target.id.to_string(),
        exists: preview.exists,
        identity: schema.identity,
        columns: columns(route),
        beside: routes.merged_with(route).into_iter().map(ToString::to_string).collect(),
        history: route.history().map(|history| history.target().id.to_string()),
        rules: rules(schema),
        sample: Vec::new(),
        ddl: preview.ddl,
        findings: FindingView::all(preview.findings.into_iter().map(|f| Found::at(Side::Target, f)), commands),
    }
}

/// Those of the source, then those that rules have made.
fn columns(route: &Route) -> Vec<ColumnView> {
    let (source, target) = (route.source(), route.target());
    let place = |key: &[usize], index: usize| key.iter().position(|k| *k == index).map(|n| n + 1);
    let passed = |at: usize| route.place(at).is_some();
    // One that a rule has given other values is told of there.
    let told = |name: &str| target.column(name).is_some();
    let sent = source.columns.iter().enumerate().filter(|(at, c)| passed(*at) || !told(&c.name));
    let sent = sent.map(|(at, c)| ColumnView {
        name: c.name.clone(),
        target: route.column(&c.name).map(str::to_owned),
        computed_from: None,
        native: c.native.name.clone(),
        canonical: Some(c.ty.to_string()),
        nullable: c.nullable,
        key: place(&source.key, at),
        generated: None,
    });
    let is_computed = |to: usize| !(0..source.columns.len()).any(|at| route.place(at) == Some(to));
    let computed = target.columns.iter().enumerate().filter(|(to, _)| is_computed(*to)).map(|(to, c)| ColumnView {
        name: c.name.clone(),
        target: Some(c.name.clone()),
        computed_from: Some(route.made_of(to).into_iter().map(|at| source.columns[at].name.clone()).collect()),
        native: c.native.name.clone(),
        canonical: Some(c.ty.to_string()),
        nullable: c.nullable,
        key: place(&target.key, to),
        generated: None,
    });
    let by_target = source.generated.iter().map(|c| ColumnView {
        name: c.name.clone(),
        target: route.column(&c.name).map(str::to_owned),
        computed_from: None,
        native: c.native.name.clone(),
        canonical: None,
        nullable: true,
        key: None,
        generated: Some(c.expression.to_string()),
    });
    sent.chain(computed).chain(by_target).collect()
}

fn print(task: &TaskView) {
    output::tell("", format_args!("task {}: {} -> {}", task.task, task.source, task.target));
    finding::print(task.findings.iter().filter(|f| f.severity > Severity::Ok));
    let mut shared = task.tables.iter().flat_map(|t| &t.ddl).filter(|d| is_shared(d)).peekable();
    if shared.peek().is_some() {
        output::say("\nschemas and types that the tables need and the target lacks");
    }
    for ddl in shared {
        output::say(statement(ddl));
    }
    for table in &task.tables {
        let there = if table.exists { "exists on the target" } else { "is created" };
        let rows = match table.identity {
            Identity::Key | Identity::KeyWithFullImage => "rows told apart by key",
            Identity::Full => "rows told apart by the whole row",
            Identity::InsertOnly => "rows only inserted",
        };
        output::say("");
        output::tell("", format_args!("{}: {there}, {rows}", both(&table.name, &table.target)));
        let mut columns = Table::new(&["column", "type", "canonical", "nullable", "key"], width());
        for c in &table.columns {
            let canonical = c.canonical.clone().unwrap_or_else(|| "computed by the target".to_owned());
            let key = c.key.map(|k| k.to_string()).unwrap_or_default();
            let nullable = if c.nullable { "yes" } else { "no" };
            columns.row([c.shown(), c.native.clone(), canonical, nullable.to_owned(), key]);
        }
        output::say(columns);
        for rule in &table.rules {
            output::tell("  ", rule);
        }
        if !table.beside.is_empty() {
            output::tell("  ", format_args!("becomes one table with {}", table.beside.join(", ")));
        }
        if let Some(history) = &table.history {
            output::tell("  ", format_args!("every change is added to {history}"));
        }
        for row in &table.sample {
            output::tell("  row ", &row.source);
            match (&row.target, &row.reason) {
                (Some(target), _) => output::tell("   -> ", target),
                (None, reason) => output::tell("   -> ", format_args!("none: {}", reason.as_deref().unwrap_or("-"))),
            }
        }
        for ddl in table.ddl.iter().filter(|d| !is_shared(d)) {
            output::say(statement(ddl));
        }
        finding::print(table.findings.iter().filter(|f| f.severity > Severity::Ok));
    }
    let of_tables = task.tables.iter().flat_map(|t| &t.findings);
    let verdict = verdict(task.tables.len(), task.findings.iter().chain(of_tables));
    output::say("");
    output::tell("", format_args!("{verdict}; nothing was changed"));
}

impl ColumnView {
    /// Where it comes from and goes to.
    fn shown(&self) -> String {
        match (&self.target, &self.computed_from) {
            (None, _) => format!("{} (left out)", self.name),
            (Some(target), Some(from)) if from.is_empty() => format!("{target} (a rule's)"),
            (Some(target), Some(from)) => format!("{target} (of {})", from.join(", ")),
            (Some(target), None) => both(&self.name, target),
        }
    }
}

/// The names at the source and on the target, where they differ.
pub fn both(source: &str, target: &str) -> String {
    if source == target { source.to_owned() } else { format!("{source} -> {target}") }
}

/// Whether a statement makes what more than one table may need.
fn is_shared(ddl: &Ddl) -> bool {
    matches!(ddl.kind, DdlKind::Schema | DdlKind::Type)
}

fn statements<S: Serializer>(ddl: &[Ddl], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ddl.iter().map(|d| &d.sql))
}

fn statement(ddl: &Ddl) -> String {
    let sql = format!("{};", ddl.sql.trim_end().trim_end_matches(';'));
    let line = |line: &str| {
        let text = line.trim_start();
        fold_code(&format!("    {}", &line[..line.len() - text.len()]), text, width())
    };
    sql.lines().map(line).collect::<Vec<_>>().join("\n")
}
