//! Tables before the first row: what is done with the ones that are there, and the same decisions without doing.

use std::sync::Arc;

use tokio_postgres::Client;
use trem_engine::ports::{Finding, Severity, TablePreview, TableState};
use trem_engine::schema::{Catalog, Identity, TableId, TableSchema, TypeDefinition};
use trem_engine::task::OnExisting;
use trem_engine::{Error, Result};

use super::bookkeeping::Origin;
use super::shape::{TargetTable, create_keys, create_table};
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
pub(super) async fn decide(
    client: &Client,
    table: &TableSchema,
    on_existing: OnExisting,
    load: bool,
    known: Option<Origin>,
) -> Result<Decision> {
    let have = TargetTable::read(client, &table.id).await?;
    let state = if load { TableState::Loading } else { TableState::Ready };
    let ours = known.is_some_and(|k| k.created_by_trem);
    let reload = known.is_some_and(|k| k.state == TableState::Reload);
    let recreate = load && have.is_some() && if reload { ours } else { on_existing == OnExisting::Recreate };
    let keeps_rows = load && have.is_some() && !reload && on_existing == OnExisting::Keep;
    let origin = Origin { state, created_by_trem: have.is_none() || recreate, keeps_rows };
    let mut d =
        Decision { exists: have.is_some(), before: Vec::new(), after: Vec::new(), findings: Vec::new(), origin };
    let name = quote::table(&table.id);
    match have.filter(|_| !recreate) {
        None => {
            if d.exists {
                d.before.push(format!("DROP TABLE {name}"));
            } else if !schema_exists(client, &table.id.schema).await? {
                d.before.push(format!("CREATE SCHEMA {}", quote::ident(&table.id.schema)));
            }
            d.before.push(create_table(table));
            let keys = create_keys(table, None);
            if load { d.after = keys } else { d.before.extend(keys) }
        }
        Some(have) => {
            d.findings = have.misfits(table, true);
            if load && (reload || on_existing == OnExisting::Truncate) {
                d.before.push(empty(client, &table.id).await?);
            } else if load && !keeps_rows && d.findings.is_empty() && has_rows(client, &name).await? {
                d.findings.push(refusal(table, "rows are there already, and on-existing is refuse"));
            }
            let keyed = matches!(table.identity, Identity::Key | Identity::KeyWithFullImage);
            if keeps_rows && !keyed && has_rows(client, &name).await? {
                d.findings.push(refusal(table, "rows are there already, and without a key they cannot be kept apart"));
            }
        }
    }
    Ok(d)
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

async fn has_rows(client: &Client, name: &str) -> Result<bool> {
    client.query_opt(&format!("SELECT FROM {name} LIMIT 1"), &[]).await.map(|r| r.is_some()).map_err(pg)
}

/// The statement that empties a table: one that others refer to cannot be truncated alone.
pub(super) async fn empty(client: &Client, id: &TableId) -> Result<String> {
    let sql = "SELECT FROM pg_constraint f JOIN pg_class c ON c.oid = f.confrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE f.contype = 'f' AND f.conrelid <> f.confrelid AND n.nspname = $1 AND c.relname = $2 LIMIT 1";
    let referred = client.query_opt(sql, &[&id.schema, &id.table]).await.map_err(pg)?.is_some();
    let verb = if referred { "DELETE FROM" } else { "TRUNCATE" };
    Ok(format!("{verb} {}", quote::table(id)))
}

async fn schema_exists(client: &Client, name: &str) -> Result<bool> {
    let sql = "SELECT FROM pg_namespace WHERE nspname = $1";
    client.query_opt(sql, &[&name]).await.map(|r| r.is_some()).map_err(pg)
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
    let mut out: Vec<String> = Vec::new();
    let sql = "SELECT t.oid FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace \
               WHERE n.nspname = $1 AND t.typname = $2";
    for ty in types {
        let Some(row) = client.query_opt(sql, &[&ty.id.schema, &ty.id.table]).await.map_err(pg)? else {
            let schema = format!("CREATE SCHEMA {}", quote::ident(&ty.id.schema));
            if !out.contains(&schema) && !schema_exists(client, &ty.id.schema).await? {
                out.push(schema);
            }
            out.push(ty.ddl.clone());
            continue;
        };
        let oid: u32 = row.try_get(0).map_err(pg)?;
        let labels = "SELECT ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = $1 ORDER BY enumsortorder)";
        let have = client.query_one(labels, &[&oid]).await.map_err(pg)?;
        let have: Vec<String> = have.try_get(0).map_err(pg)?;
        if let Some(label) = ty.labels.iter().find(|l| !have.contains(l)) {
            let (name, label) = (quote::table(&ty.id), quote::literal(label));
            return Err(Error::refused(format!("type {} on the target lacks label {label}", ty.id))
                .remedy(format!("ALTER TYPE {name} ADD VALUE {label}")));
        }
    }
    Ok(out)
}

/// What a run would do for these tables.
pub(super) async fn plan(
    client: &Client,
    catalog: &Catalog,
    on_existing: OnExisting,
    load: bool,
    known: impl Fn(&TableSchema) -> Option<Origin>,
) -> Result<Vec<TablePreview>> {
    let mut types = Some(missing_types(client, &catalog.types).await);
    let mut out = Vec::new();
    for table in &catalog.tables {
        let decision = decide(client, table, on_existing, load, known(table)).await.map_err(|e| e.table(&table.id))?;
        let mut findings = decision.findings;
        findings.extend(unknown_types(client, catalog, table).await?);
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
async fn unknown_types(client: &Client, catalog: &Catalog, table: &TableSchema) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    for column in &table.columns {
        let name = &column.native.name;
        let element = name.split('[').next().unwrap_or(name);
        let created = catalog.types.iter().any(|t| {
            let plain = format!("{}.{}", t.id.schema, t.id.table);
            element == plain || element == quote::table(&t.id) || unquoted(element) == plain
        });
        if created {
            continue;
        }
        let row = client.query_one("SELECT to_regtype($1) IS NULL", &[name]).await.map_err(pg)?;
        if row.try_get(0).map_err(pg)? {
            out.push(Finding {
                severity: Severity::Error,
                subject: format!("{}.{}", table.id, column.name),
                message: format!("the target has no type {name}"),
                remedy: Some(format!("create type {name}, or the extension it belongs to, on the target")),
            });
        }
    }
    Ok(out)
}

fn unquoted(name: &str) -> String {
    name.replace('"', "")
}
