//! What the catalogue says of tables: columns, keys, and what cannot be followed.
//!
//! One query for each kind of thing, never one for each table. (MySQL manual, "INFORMATION_SCHEMA Tables".)

use std::collections::HashMap;
use std::sync::Arc;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use trem_engine::Result;
use trem_engine::schema::{Catalog, Column, Identity, TableId, TableSchema};
use trem_engine::task::Selection;

use super::connect::{Flavor, Session};
use super::error;
use super::quote;
use super::row::get;
use super::types::Described;

/// Schemas of the server's own, and of trem.
const OWN: &str = "('mysql', 'information_schema', 'performance_schema', 'sys', 'trem')";

/// The tables that `want` selects.
pub(super) async fn discover(session: &mut Session, want: &Selection) -> Result<Catalog> {
    let ids = select(&mut session.conn, want).await?;
    let mut tables = describe(session, ids).await?;
    tables.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Catalog { tables: tables.into_iter().map(Arc::new).collect(), ..Catalog::default() })
}

/// Those of these tables that are there.
pub(super) async fn describe(session: &mut Session, ids: Vec<TableId>) -> Result<Vec<TableSchema>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut columns = columns(session, &ids).await?;
    let mut keys = keys(&mut session.conn, &ids).await?;
    let one = |id: TableId| Some((columns.remove(&id)?, keys.remove(&id).unwrap_or_default(), id));
    Ok(ids.into_iter().filter_map(one).map(|(columns, keys, id)| shape(id, columns, &keys)).collect())
}

/// The columns of a table that rows get NULL in when they are added: others have a default, or may not be NULL.
pub(super) async fn without_default(session: &mut Session, id: &TableId) -> Result<Vec<String>> {
    // MariaDB says NULL in words where it is the default.
    let sql = format!(
        "SELECT column_name FROM information_schema.columns \
         WHERE {} AND is_nullable = 'YES' AND coalesce(column_default, 'NULL') = 'NULL'",
        among(std::slice::from_ref(id))
    );
    rows(&mut session.conn, &sql).await?.iter().map(|row| get(row, 0)).collect()
}

async fn rows(conn: &mut Conn, sql: &str) -> Result<Vec<Row>> {
    conn.query(sql).await.map_err(error::error)
}

async fn select(conn: &mut Conn, want: &Selection) -> Result<Vec<TableId>> {
    let sql = format!(
        "SELECT table_schema, table_name FROM information_schema.tables \
         WHERE table_type = 'BASE TABLE' AND table_schema NOT IN {OWN}"
    );
    let one = |row: &Row| Ok(TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?));
    let all = rows(conn, &sql).await?.iter().map(one).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().filter(|id| want.takes(id)).collect())
}

/// `(schema, table) IN (...)`.
fn among(ids: &[TableId]) -> String {
    let one = |id: &TableId| format!("({}, {})", quote::literal(&id.schema), quote::literal(&id.table));
    format!("(table_schema, table_name) IN ({})", ids.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// Whether a column `c` of `information_schema.columns` is what MariaDB has for JSON.
/// (MariaDB knowledge base, "JSON Data Type".)
pub(super) fn checked_as_json(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MariaDb => {
            "EXISTS (SELECT 1 FROM information_schema.check_constraints k WHERE k.constraint_schema = c.table_schema \
               AND k.table_name = c.table_name AND k.check_clause = concat('json_valid(`', c.column_name, '`)'))"
        }
        Flavor::MySql => "0",
    }
}

/// A column that the server computes is one like any other: its values are in reads and in the log.
async fn columns(session: &mut Session, ids: &[TableId]) -> Result<HashMap<TableId, Vec<Column>>> {
    let checked = checked_as_json(session.flavor);
    let sql = format!(
        "SELECT table_schema, table_name, column_name, data_type, column_type, character_set_name, collation_name, \
           is_nullable, data_type = 'longtext' AND {checked} \
         FROM information_schema.columns c WHERE {} ORDER BY table_schema, table_name, ordinal_position",
        among(ids)
    );
    let mut tables: HashMap<TableId, Vec<Column>> = HashMap::new();
    for row in &rows(&mut session.conn, &sql).await? {
        let described = Described {
            word: get::<String>(row, 3)?.to_lowercase(),
            whole: get(row, 4)?,
            charset: get(row, 5)?,
            collation: get(row, 6)?,
            checked_as_json: get::<i64>(row, 8)? == 1,
        };
        tables.entry(TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?)).or_default().push(Column {
            name: get(row, 2)?,
            ty: described.meaning(),
            native: described.native(),
            nullable: get::<String>(row, 7)? == "YES",
            omissible: false,
        });
    }
    Ok(tables)
}

/// A unique index: its columns in order.
struct Key {
    name: String,
    columns: Vec<String>,
}

async fn keys(conn: &mut Conn, ids: &[TableId]) -> Result<HashMap<TableId, Vec<Key>>> {
    // A prefix of a column, or an expression, tells no rows apart.
    let sql = format!(
        "SELECT table_schema, table_name, index_name, column_name, sub_part IS NOT NULL OR column_name IS NULL \
         FROM information_schema.statistics WHERE non_unique = 0 AND {} \
         ORDER BY table_schema, table_name, index_name <> 'PRIMARY', index_name, seq_in_index",
        among(ids)
    );
    let mut tables: HashMap<TableId, Vec<Key>> = HashMap::new();
    for row in &rows(conn, &sql).await? {
        let keys = tables.entry(TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?)).or_default();
        let name: String = get(row, 2)?;
        if keys.last().is_none_or(|key| key.name != name) {
            keys.push(Key { name, columns: Vec::new() });
        }
        let column: Option<String> = get(row, 3)?;
        let whole = get::<i64>(row, 4)? == 0;
        if let Some(key) = keys.last_mut() {
            // A name that no column has.
            key.columns.push(column.filter(|_| whole).unwrap_or_default());
        }
    }
    Ok(tables)
}

fn shape(id: TableId, columns: Vec<Column>, keys: &[Key]) -> TableSchema {
    let places = |key: &Key| -> Option<Vec<usize>> {
        key.columns.iter().map(|name| columns.iter().position(|c: &Column| c.name == *name)).collect()
    };
    let primary_key = keys.iter().find(|key| key.name == "PRIMARY").and_then(places).unwrap_or_default();
    let chosen = |key: &Key| places(key).filter(|places| places.iter().all(|at| !columns[*at].nullable));
    let key =
        if primary_key.is_empty() { keys.iter().find_map(chosen).unwrap_or_default() } else { primary_key.clone() };
    let identity = if key.is_empty() { Identity::Full } else { Identity::Key };
    TableSchema {
        id,
        native_id: None,
        columns,
        key,
        primary_key,
        identity,
        generated: Vec::new(),
        history: Default::default(),
    }
}
