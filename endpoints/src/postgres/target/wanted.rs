//! What tables of the target need before they are made: user-defined types, and the functions that types and columns
//! call.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;
use trem_engine::ports::{Ddl, DdlKind};
use trem_engine::schema::{Catalog, TableId, TypeDefinition};
use trem_engine::{Error, Remedy, Result};

use super::create::create_schema;
use super::inspect::existing_schemas;
use crate::postgres::quote;
use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;
use crate::postgres::types::DIALECT;

/// A type that the target has not, or not as it should be.
pub(super) struct Missing {
    id: TableId,
    users: Vec<TableId>,
    /// The statements that create it; none for one that is there.
    pub(super) ddl: Vec<Ddl>,
    /// What is wrong with the one that is there.
    wrong: Option<Error>,
}

/// Those of the types that are missing.
pub(super) async fn missing(client: &Client, types: &[TypeDefinition]) -> Result<Vec<Missing>> {
    let types: Vec<&TypeDefinition> = types.iter().filter(|t| t.dialect == DIALECT).collect();
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
        there.insert(TableId::new(get::<String>(&row, 0)?, get::<String>(&row, 1)?), get(&row, 2)?);
    }
    let mut schemas = existing_schemas(client, schemas).await?;
    let mut out = Vec::new();
    for ty in types {
        let (mut ddl, mut wrong) = (Vec::new(), None);
        match there.get(&ty.id) {
            None => {
                if schemas.insert(ty.id.schema.clone()) {
                    ddl.push(Ddl { kind: DdlKind::Schema, sql: create_schema(&ty.id.schema) });
                }
                ddl.push(Ddl { kind: DdlKind::Type, sql: ty.ddl.clone() });
            }
            Some(have) => match ty.labels.iter().find(|l| !have.contains(l)) {
                Some(label) => wrong = Some(lacks(&ty.id, label)),
                None => continue,
            },
        }
        out.push(Missing { id: ty.id.clone(), users: ty.users.clone(), ddl, wrong });
    }
    Ok(out)
}

fn lacks(ty: &TableId, label: &str) -> Error {
    let (name, literal) = (quote::table(ty), quote::literal(label));
    Error::refused(format!("type {ty} on the target lacks label {literal}"))
        .remedy(Remedy::Sql(format!("ALTER TYPE {name} ADD VALUE {literal}")))
}

/// Creates them inside the open transaction. Those that cannot be had are returned, each with why.
pub(super) async fn create(client: &Client, missing: Vec<Missing>) -> Result<Vec<(TableId, Error)>> {
    let mut failed = Vec::new();
    for Missing { id, ddl, wrong, .. } in missing {
        let error = match wrong {
            Some(error) => Some(error),
            None => match each(client, ddl.iter().map(|d| d.sql.as_str())).await? {
                Ok(()) => elsewhere(client, &id).await?,
                Err(e) => Some(e.context(format!("type {id} cannot be created on the target"))),
            },
        };
        failed.extend(error.map(|error| (id, error)));
    }
    Ok(failed)
}

/// Why a type is not there although its statement has run: its extension was there before, in another schema.
async fn elsewhere(client: &Client, ty: &TableId) -> Result<Option<Error>> {
    let sql = "SELECT n.nspname = $1, e.extname::text, x.nspname::text \
               FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace \
               LEFT JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e' \
               LEFT JOIN pg_extension e ON e.oid = d.refobjid LEFT JOIN pg_namespace x ON x.oid = e.extnamespace \
               WHERE t.typname = $2 ORDER BY 1 DESC, 2 LIMIT 1";
    let row = client.query_opt(sql, &[&ty.schema, &ty.table]).await.map_err(pg)?;
    let extension = match &row {
        Some(row) if get(row, 0)? => return Ok(None),
        Some(row) => get::<Option<&str>>(row, 1)?.zip(get::<Option<&str>>(row, 2)?),
        None => None,
    };
    let error = Error::refused(format!("the target has no type {ty}"));
    Ok(Some(match extension {
        Some((name, schema)) => {
            let to = quote::ident(&ty.schema);
            let remedy = Remedy::Sql(format!("ALTER EXTENSION {} SET SCHEMA {to}", quote::ident(name)));
            error.context(format!("extension {name} is in schema {schema} there")).remedy(remedy)
        }
        None => error.remedy("create it there, or the extension it belongs to"),
    }))
}

/// Tries what creates types, and what creates tables that call functions, and takes it back. What fails is returned, by
/// the tables that it is needed for: a function that is missing is known only to the server.
pub(super) async fn tried(
    client: &Client,
    missing: Vec<Missing>,
    tables: &[(TableId, Vec<String>)],
) -> Result<Vec<(TableId, Error)>> {
    let sql = "SELECT current_setting('transaction_read_only')::bool";
    let read_only: bool = get(&client.query_one(sql, &[]).await.map_err(pg)?, 0)?;
    if (missing.is_empty() && tables.is_empty()) || read_only {
        return Ok(Vec::new());
    }
    let users: HashMap<TableId, Vec<TableId>> = missing.iter().map(|m| (m.id.clone(), m.users.clone())).collect();
    client.batch_execute("BEGIN").await.map_err(pg)?;
    let mut failed: Vec<(TableId, Error)> = Vec::new();
    for (ty, error) in create(client, missing).await? {
        for table in users.get(&ty).into_iter().flatten() {
            if failed.iter().any(|(id, _)| id == table) {
                continue;
            }
            let again = Error::refused(error.reason());
            let again = match error.advice() {
                Some(remedy) => again.remedy(remedy.clone()),
                None => again,
            };
            failed.push((table.clone(), again));
        }
    }
    for (table, statements) in tables {
        if failed.iter().any(|(id, _)| id == table) {
            continue;
        }
        let sql = statements.iter().map(|s| s.replacen("CREATE SCHEMA ", "CREATE SCHEMA IF NOT EXISTS ", 1));
        let sql: Vec<String> = sql.collect();
        if let Err(error) = each(client, sql.iter().map(String::as_str)).await? {
            failed.push((table.clone(), error.context("it cannot be created on the target")));
        }
    }
    client.batch_execute("ROLLBACK").await.map_err(pg)?;
    Ok(failed)
}

/// Runs statements, all or none of them; the error that the server answered with, if it did.
async fn each(client: &Client, statements: impl Iterator<Item = &str>) -> Result<Result<()>> {
    client.batch_execute("SAVEPOINT trem").await.map_err(pg)?;
    for sql in statements {
        if let Err(error) = client.batch_execute(sql).await {
            if error.as_db_error().is_none() {
                return Err(pg(error));
            }
            client.batch_execute("ROLLBACK TO SAVEPOINT trem; RELEASE SAVEPOINT trem").await.map_err(pg)?;
            return Ok(Err(pg(error)));
        }
    }
    client.batch_execute("RELEASE SAVEPOINT trem").await.map_err(pg)?;
    Ok(Ok(()))
}

/// Types that the target has not and that the run would not create: of an extension, most likely.
pub(super) async fn unknown(client: &Client, catalog: &Catalog) -> Result<HashSet<String>> {
    let mut created: HashSet<String> = HashSet::new();
    for ty in catalog.types.iter().filter(|t| t.dialect == DIALECT) {
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
    let own = catalog.tables.iter().flat_map(|t| &t.columns).filter(|c| c.native.dialect == DIALECT);
    let names: HashSet<&str> = own.map(|c| c.native.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|n| !brought(n.split('[').next().unwrap_or(n))).collect();
    let sql = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regtype(name) IS NULL";
    let rows = client.query(sql, &[&names]).await.map_err(pg)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

fn unquoted(name: &str) -> String {
    name.replace('"', "")
}
