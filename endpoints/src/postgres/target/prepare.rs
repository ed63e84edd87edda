//! Tables before the first row: what is done with the ones that are there, and the same decisions without doing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::Client;
use trem_engine::ports::{Finding, Severity, TablePreview, TableState};
use trem_engine::schema::{Catalog, Identity, TableId, TableSchema, TypeDefinition};
use trem_engine::task::OnExisting;
use trem_engine::{Error, Result};

use super::bookkeeping::{self, Origin};
use super::shape::{Reads, TargetTable, create_keys, create_table};
use crate::postgres::catalog::get;
use crate::postgres::quote;
use crate::postgres::sqlstate::error as pg;

/// What a run would do with one table.
pub(super) struct Decision {
    pub(super) exists: bool,
    /// Statements before the load.
    pub(super) before: Vec<String>,
    /// Statements after the load.
    pub(super) after: Vec<String>,
    pub(super) findings: Vec<Finding>,
    /// How the table will have come to be.
    pub(super) origin: Origin,
}

/// Decides, and changes nothing. `known`: what the task remembers of the table.
pub(super) fn decide(
    facts: &Facts,
    table: &TableSchema,
    on_existing: OnExisting,
    load: bool,
    known: Option<Origin>,
) -> Decision {
    let have = facts.tables.get(&table.id);
    let state = if load { TableState::Loading } else { TableState::Ready };
    let ours = known.is_some_and(|k| k.created_by_trem);
    let reload = known.is_some_and(|k| k.state == TableState::Reload);
    let recreate = load
        && have.is_some_and(|h| h.other_kind.is_none())
        && if reload { ours } else { on_existing == OnExisting::Recreate };
    let keyed = matches!(table.identity, Identity::Key | Identity::KeyWithFullImage);
    let keep = load && have.is_some() && on_existing == OnExisting::Keep;
    let keeps_rows = keep && keyed && !reload;
    let origin = Origin { state, created_by_trem: have.is_none() || recreate, keeps_rows };
    let mut d =
        Decision { exists: have.is_some(), before: Vec::new(), after: Vec::new(), findings: Vec::new(), origin };
    let name = quote::table(&table.id);
    if let Some(other) = facts.holders.get(&table.id) {
        d.findings.push(Finding {
            severity: Severity::Error,
            subject: table.id.to_string(),
            message: format!("task {other} writes this table of the target already"),
            remedy: Some(format!("exclude it from `tables` of one of the two tasks, or `trem drop` task {other}")),
        });
    }
    match have.filter(|_| !recreate) {
        None => {
            if d.exists {
                d.before.push(format!("DROP TABLE {name}"));
            } else if !facts.schemas.contains(&table.id.schema) {
                d.before.push(format!("CREATE SCHEMA {}", quote::ident(&table.id.schema)));
            }
            d.before.push(create_table(table));
            let keys = create_keys(table, None);
            if load { d.after = keys } else { d.before.extend(keys) }
        }
        Some(have) => {
            d.findings.extend(have.misfits(table, true));
            let rows = facts.with_rows.contains(&table.id);
            if reload && keep && known.is_some_and(|k| k.keeps_rows) && rows {
                d.findings.push(own_rows(table));
            } else if load && (reload || on_existing == OnExisting::Truncate) {
                d.before.push(facts.empty(&table.id));
            } else if load && on_existing != OnExisting::Keep && rows {
                d.findings.push(refusal(table, "rows are there already, and on-existing is refuse"));
            } else if keep && !keyed && rows {
                d.findings.push(refusal(table, "rows are there already, and without a key they cannot be kept apart"));
            }
        }
    }
    d
}

fn refusal(table: &TableSchema, message: &str) -> Finding {
    let remedy = "set on-existing to keep, truncate or recreate, or empty the target table".to_owned();
    Finding {
        severity: Severity::Error,
        subject: table.id.to_string(),
        message: message.to_owned(),
        remedy: Some(remedy),
    }
}

/// Loading again begins with an empty table, which would take rows that the source never had.
fn own_rows(table: &TableSchema) -> Finding {
    let name = quote::table(&table.id);
    Finding {
        severity: Severity::Error,
        subject: table.id.to_string(),
        message: "it must be emptied to be loaded again, and on-existing keeps its rows".to_owned(),
        remedy: Some(format!("empty it on the target (DELETE FROM {name}), then `trem reload` it")),
    }
}

/// What the target has of some tables, read before deciding: as many queries for a thousand as for one.
#[derive(Debug, Default)]
pub(super) struct Facts {
    tables: HashMap<TableId, TargetTable>,
    schemas: HashSet<String>,
    /// Tables that others have foreign keys to.
    referred: HashSet<TableId>,
    with_rows: HashSet<TableId>,
    /// The other tasks that write these tables.
    holders: HashMap<TableId, String>,
}

impl Facts {
    /// Reads what has to be known of these tables before `on_existing` is acted on. The bookkeeping must be there
    /// for other tasks than `task` to be looked for.
    pub(super) async fn read(
        client: &Client,
        reads: &Reads,
        task: Option<&str>,
        ids: &[&TableId],
        on_existing: OnExisting,
    ) -> Result<Self> {
        let mut facts =
            Self { tables: TargetTable::read_all(client, reads, ids.iter().copied()).await?, ..Self::default() };
        let schemas: HashSet<&str> = ids.iter().map(|i| i.schema.as_str()).collect();
        facts.schemas = existing_schemas(client, schemas).await?;
        if let Some(task) = task {
            facts.holders = bookkeeping::holders(client, task, ids).await?;
        }
        if facts.tables.is_empty() {
            return Ok(facts);
        }
        facts.referred = referred(client, ids).await?;
        if matches!(on_existing, OnExisting::Refuse | OnExisting::Keep) {
            let readable = |t: &TargetTable| t.other_kind.is_none() && t.denied.is_empty();
            let tables = facts.tables.iter().filter(|(_, t)| readable(t)).map(|(id, _)| id).collect::<Vec<_>>();
            facts.with_rows = with_rows(client, &tables).await?;
        }
        Ok(facts)
    }

    fn empty(&self, id: &TableId) -> String {
        empty_sql(id, self.referred.contains(id))
    }
}

/// Those of the tables that hold any row.
async fn with_rows(client: &Client, ids: &[&TableId]) -> Result<HashSet<TableId>> {
    let mut found = HashSet::new();
    for part in ids.chunks(200) {
        let one = |(n, id): (usize, &&TableId)| format!("SELECT {n} WHERE EXISTS (SELECT FROM {})", quote::table(id));
        let sql = part.iter().enumerate().map(one).collect::<Vec<_>>().join(" UNION ALL ");
        for row in client.query(&sql, &[]).await.map_err(pg)? {
            let place: i32 = get(&row, 0)?;
            found.extend(usize::try_from(place).ok().and_then(|n| part.get(n)).map(|id| (*id).clone()));
        }
    }
    Ok(found)
}

/// Those of the tables that other tables have foreign keys to.
async fn referred(client: &Client, ids: &[&TableId]) -> Result<HashSet<TableId>> {
    let sql = "SELECT DISTINCT w.schema_name, w.table_name FROM unnest($1::text[], $2::text[]) \
               AS w (schema_name, table_name) JOIN pg_namespace n ON n.nspname = w.schema_name \
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name \
               JOIN pg_constraint f ON f.confrelid = c.oid AND f.contype = 'f' AND f.conrelid <> f.confrelid";
    let schemas: Vec<&str> = ids.iter().map(|i| i.schema.as_str()).collect();
    let names: Vec<&str> = ids.iter().map(|i| i.table.as_str()).collect();
    let rows = client.query(sql, &[&schemas, &names]).await.map_err(pg)?;
    rows.iter().map(|row| Ok(TableId { schema: get(row, 0)?, table: get(row, 1)? })).collect()
}

/// The statement that empties a table: one that others refer to cannot be truncated alone.
pub(super) async fn empty(client: &Client, id: &TableId) -> Result<String> {
    Ok(empty_sql(id, !referred(client, &[id]).await?.is_empty()))
}

fn empty_sql(id: &TableId, referred: bool) -> String {
    let verb = if referred { "DELETE FROM" } else { "TRUNCATE" };
    format!("{verb} {}", quote::table(id))
}

async fn existing_schemas(client: &Client, names: impl IntoIterator<Item = &str>) -> Result<HashSet<String>> {
    let names: Vec<&str> = names.into_iter().collect();
    let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname = ANY ($1)";
    let rows = client.query(sql, &[&names]).await.map_err(pg)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The first finding that forbids, as an error.
pub(super) fn verdict(table: &TableSchema, findings: &[Finding]) -> Result<()> {
    let errors: Vec<&Finding> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
    let e = Error::refused(format!("{}: {}{more}", first.subject, first.message)).table(&table.id);
    Err(match &first.remedy {
        Some(remedy) => e.remedy(remedy),
        None => e,
    })
}

/// The statements that create the user-defined types which are missing.
pub(super) async fn missing_types(client: &Client, types: &[TypeDefinition]) -> Result<Vec<String>> {
    if types.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT n.nspname::text, t.typname::text, \
                 ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) \
               FROM unnest($1::text[], $2::text[]) AS w (schema_name, type_name) \
               JOIN pg_namespace n ON n.nspname = w.schema_name \
               JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = w.type_name";
    let schemas: Vec<&str> = types.iter().map(|t| t.id.schema.as_str()).collect();
    let names: Vec<&str> = types.iter().map(|t| t.id.table.as_str()).collect();
    let mut there: HashMap<TableId, Vec<String>> = HashMap::new();
    for row in client.query(sql, &[&schemas, &names]).await.map_err(pg)? {
        there.insert(TableId { schema: get(&row, 0)?, table: get(&row, 1)? }, get(&row, 2)?);
    }
    let mut schemas = existing_schemas(client, schemas).await?;
    let mut out: Vec<String> = Vec::new();
    for ty in types {
        let Some(have) = there.get(&ty.id) else {
            if schemas.insert(ty.id.schema.clone()) {
                out.push(format!("CREATE SCHEMA {}", quote::ident(&ty.id.schema)));
            }
            out.push(ty.ddl.clone());
            continue;
        };
        if let Some(label) = ty.labels.iter().find(|l| !have.contains(l)) {
            let (name, label) = (quote::table(&ty.id), quote::literal(label));
            return Err(Error::refused(format!("type {} on the target lacks label {label}", ty.id))
                .remedy(format!("ALTER TYPE {name} ADD VALUE {label}")));
        }
    }
    Ok(out)
}

/// What a run would do for these tables. `task`: see [`Facts::read`].
pub(super) async fn plan(
    client: &Client,
    task: Option<&str>,
    catalog: &Catalog,
    on_existing: OnExisting,
    load: bool,
    known: &HashMap<TableId, Origin>,
) -> Result<Vec<TablePreview>> {
    let ids: Vec<&TableId> = catalog.tables.iter().map(|t| &t.id).collect();
    let facts = Facts::read(client, &Reads::default(), task, &ids, on_existing).await?;
    let unknown = unknown_types(client, catalog).await?;
    let mut types = Some(missing_types(client, &catalog.types).await);
    let mut out = Vec::with_capacity(ids.len());
    for table in &catalog.tables {
        let decision = decide(&facts, table, on_existing, load, known.get(&table.id).copied());
        let mut findings = decision.findings;
        for column in table.columns.iter().filter(|c| unknown.contains(&c.native.name)) {
            let name = &column.native.name;
            findings.push(Finding {
                severity: Severity::Error,
                subject: format!("{}.{}", table.id, column.name),
                message: format!("the target has no type {name}"),
                remedy: Some(format!("create type {name}, or the extension it belongs to, on the target")),
            });
        }
        let mut ddl = Vec::new();
        match types.take() {
            Some(Ok(statements)) => ddl = statements,
            Some(Err(e)) => findings.push(Finding {
                severity: Severity::Error,
                subject: "types".to_owned(),
                message: e.message().to_owned(),
                remedy: e.remedy_text().map(str::to_owned),
            }),
            None => {}
        }
        ddl.extend(decision.before);
        ddl.extend(decision.after);
        out.push(TablePreview { table: Arc::clone(table), exists: decision.exists, ddl, findings });
    }
    Ok(out)
}

/// Types that the target has not and that the run would not create: of an extension, most likely.
async fn unknown_types(client: &Client, catalog: &Catalog) -> Result<HashSet<String>> {
    let mut created: HashSet<String> = HashSet::new();
    for ty in &catalog.types {
        created.insert(format!("{}.{}", ty.id.schema, ty.id.table));
        created.insert(quote::table(&ty.id));
    }
    let brought = |element: &str| {
        // A multirange comes into being with its range.
        let with_range = format!("MULTIRANGE_TYPE_NAME = {element})");
        created.contains(element)
            || created.contains(&unquoted(element))
            || catalog.types.iter().any(|t| t.ddl.ends_with(&with_range))
    };
    let names: HashSet<&str> = catalog.tables.iter().flat_map(|t| &t.columns).map(|c| c.native.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|n| !brought(n.split('[').next().unwrap_or(n))).collect();
    let sql = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regtype(name) IS NULL";
    let rows = client.query(sql, &[&names]).await.map_err(pg)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

fn unquoted(name: &str) -> String {
    name.replace('"', "")
}
