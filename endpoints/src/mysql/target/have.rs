//! Tables of the target as they are.

use std::collections::HashMap;

use mysql_async::Row;
use trem_engine::Result;
use trem_engine::schema::{TableId, TableSchema};

use super::session::Session;
use crate::mysql::catalog::checked_as_json;
use crate::mysql::quote;
use crate::mysql::row::get;
use crate::mysql::types::Described;

/// A table of the target.
#[derive(Clone, Debug, Default)]
pub(super) struct HaveTable {
    /// `BASE TABLE`, or something that is none.
    pub(super) kind: String,
    /// Its storage engine.
    pub(super) engine: String,
    pub(super) columns: Vec<HaveColumn>,
    /// The columns of each unique index; of a prefix or an expression it is an empty name.
    pub(super) unique: Vec<Vec<String>>,
    /// Triggers, which fire for replicated rows too.
    pub(super) triggers: Vec<String>,
}

/// A column of it.
#[derive(Clone, Debug)]
pub(super) struct HaveColumn {
    pub(super) name: String,
    pub(super) ty: Described,
    pub(super) nullable: bool,
    pub(super) has_default: bool,
    pub(super) generated: bool,
}

impl HaveTable {
    /// The column of this name: the server takes no notice of their case.
    pub(super) fn column(&self, name: &str) -> Option<&HaveColumn> {
        let lower = name.to_lowercase();
        self.columns
            .iter()
            .find(|c| c.name == name)
            .or_else(|| self.columns.iter().find(|c| c.name.to_lowercase() == lower))
    }

    /// Columns that the source's table has not.
    pub(super) fn extra<'a>(&'a self, source: &'a TableSchema) -> impl Iterator<Item = &'a HaveColumn> {
        let theirs = |c: &HaveColumn| source.columns.iter().any(|s| s.name.to_lowercase() == c.name.to_lowercase());
        self.columns.iter().filter(move |c| !theirs(c))
    }

    /// Whether there is a unique index over just these columns.
    pub(super) fn has_unique(&self, key: &[&str]) -> bool {
        self.unique.iter().any(|u| same(u, key))
    }

    /// Whether there is a unique index over any others.
    pub(super) fn other_unique(&self, key: &[&str]) -> bool {
        self.unique.iter().any(|u| !same(u, key))
    }
}

fn same(index: &[String], key: &[&str]) -> bool {
    let lower = |name: &str| name.to_lowercase();
    index.len() == key.len() && index.iter().all(|name| key.iter().any(|k| lower(k) == lower(name)))
}

/// Those of these tables that are there.
pub(super) async fn read(session: &mut Session, ids: &[&TableId]) -> Result<HashMap<TableId, HaveTable>> {
    let mut found = HashMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let among = |schema: &str, table: &str| {
        let one = |id: &&TableId| format!("({}, {})", quote::literal(&id.schema), quote::literal(&id.table));
        format!("({schema}, {table}) IN ({})", ids.iter().map(one).collect::<Vec<_>>().join(", "))
    };
    let sql = format!(
        "SELECT table_schema, table_name, table_type, coalesce(engine, '') FROM information_schema.tables WHERE {}",
        among("table_schema", "table_name")
    );
    for row in session.rows(&sql, Vec::new()).await? {
        let Some(id) = meant(session, ids, &row)? else { continue };
        let table = HaveTable { kind: get(&row, 2)?, engine: get(&row, 3)?, ..HaveTable::default() };
        found.insert(id, table);
    }
    columns(session, ids, &among("table_schema", "table_name"), &mut found).await?;
    let sql = format!(
        "SELECT table_schema, table_name, index_name, column_name, sub_part IS NOT NULL OR column_name IS NULL \
         FROM information_schema.statistics WHERE non_unique = 0 AND {} ORDER BY 1, 2, 3, seq_in_index",
        among("table_schema", "table_name")
    );
    let mut last = String::new();
    for row in session.rows(&sql, Vec::new()).await? {
        let Some(id) = meant(session, ids, &row)? else { continue };
        let (index, column): (String, Option<String>) = (get(&row, 2)?, get(&row, 3)?);
        let Some(table) = found.get_mut(&id) else { continue };
        let index = format!("{id} {index}");
        if index != last {
            table.unique.push(Vec::new());
            last = index;
        }
        let whole = get::<i64>(&row, 4)? == 0;
        table.unique.last_mut().into_iter().for_each(|u| u.push(column.clone().filter(|_| whole).unwrap_or_default()));
    }
    let sql = format!(
        "SELECT event_object_schema, event_object_table, trigger_name FROM information_schema.triggers WHERE {}",
        among("event_object_schema", "event_object_table")
    );
    for row in session.rows(&sql, Vec::new()).await? {
        if let Some(table) = meant(session, ids, &row)?.and_then(|id| found.get_mut(&id)) {
            table.triggers.push(get(&row, 2)?);
        }
    }
    Ok(ids.iter().filter_map(|id| Some(((*id).clone(), found.get(&id.whole())?.clone()))).collect())
}

/// The table that a row of the catalogue is of, which begins with its names.
fn meant(session: &Session, ids: &[&TableId], row: &Row) -> Result<Option<TableId>> {
    let (schema, table): (String, String) = (get(row, 0)?, get(row, 1)?);
    Ok(session.meant(ids, &schema, &table).map(TableId::whole))
}

async fn columns(
    session: &mut Session,
    ids: &[&TableId],
    among: &str,
    found: &mut HashMap<TableId, HaveTable>,
) -> Result<()> {
    let checked = checked_as_json(session.server.flavor);
    let sql = format!(
        "SELECT table_schema, table_name, column_name, data_type, column_type, character_set_name, collation_name, \
           is_nullable, data_type = 'longtext' AND {checked}, column_default IS NOT NULL OR extra LIKE '%auto_inc%', \
           coalesce(generation_expression, '') <> '' \
         FROM information_schema.columns c WHERE {among} ORDER BY 1, 2, ordinal_position"
    );
    for row in &session.rows(&sql, Vec::new()).await? {
        let Some(table) = meant(session, ids, row)?.and_then(|id| found.get_mut(&id)) else { continue };
        let nullable = get::<String>(row, 7)? == "YES";
        table.columns.push(HaveColumn {
            name: get(row, 2)?,
            ty: Described {
                word: get::<String>(row, 3)?.to_lowercase(),
                whole: get(row, 4)?,
                charset: get(row, 5)?,
                collation: get(row, 6)?,
                checked_as_json: get::<i64>(row, 8)? == 1,
            },
            nullable,
            has_default: get::<i64>(row, 9)? == 1,
            generated: get::<i64>(row, 10)? == 1,
        });
    }
    Ok(())
}

impl HaveColumn {
    /// Its type as it stands in DDL.
    pub(super) fn ddl(&self) -> String {
        self.ty.native().name
    }
}
