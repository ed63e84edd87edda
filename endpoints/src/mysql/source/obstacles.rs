//! What stands against reading a table, or against following its changes.

use mysql_async::Row;
use trem_engine::schema::{TableId, TableSchema, Type};
use trem_engine::{Error, Remedy, Result};

use super::shared::Inner;
use crate::mysql::charset;
use crate::mysql::quote;
use crate::mysql::row::get;

const LEAVE_OUT: &str = "exclude the table (`exclude` in [[tables]])";

/// Each with its table and what mends it.
pub(super) async fn of(inner: &Inner, tables: &[&TableSchema], follow: bool) -> Result<Vec<Error>> {
    let mut found: Vec<Error> = tables.iter().filter_map(|table| unreadable(table)).collect();
    if tables.is_empty() {
        return Ok(found);
    }
    let selected = |id: &TableId| tables.iter().any(|table| table.id == *id);
    found.extend(engines(inner).await?.into_iter().filter(|(id, _)| selected(id)).map(|(_, error)| error));
    if follow {
        found.extend(cascades(inner).await?.into_iter().filter(|(id, _)| selected(id)).map(|(_, error)| error));
        let left_out = unlogged(inner).await?;
        found.extend(tables.iter().filter_map(|table| left_out(&table.id)));
    }
    Ok(found)
}

/// A column whose values this version cannot read.
fn unreadable(table: &TableSchema) -> Option<Error> {
    table.columns.iter().find_map(|column| {
        let why = match &column.ty {
            Type::Named(name) => format!("its column {} is of type {name}", column.name),
            _ if !charset::is_known(&column.native.detail) => {
                format!("its column {} has the character set {}", column.name, column.native.detail)
            }
            _ if column.native.name.contains("mariadb-5.3") => {
                format!("its column {} stands in the format of MariaDB 5.3", column.name)
            }
            _ if column.native.name.contains("COMPRESSED") => format!("its column {} is compressed", column.name),
            _ => return None,
        };
        let error = Error::refused(format!("{why}, which this version does not read")).table(&table.id);
        Some(error.remedy("leave the column out (`exclude-columns` in [[tables]]), or exclude the table"))
    })
}

fn id(row: &Row) -> Result<TableId> {
    Ok(TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?))
}

/// Tables without transactions: a snapshot does not see them at one place, and what was rolled back stays in them.
async fn engines(inner: &Inner) -> Result<Vec<(TableId, Error)>> {
    let sql = "SELECT table_schema, table_name, engine FROM information_schema.tables \
               WHERE table_type = 'BASE TABLE' AND engine <> 'InnoDB'";
    let one = |row: &Row| {
        let (id, engine): (TableId, String) = (id(row)?, get(row, 2)?);
        let what = format!("its storage engine is {engine}, which has no transactions that trem could follow");
        let remedy = Remedy::Sql(format!("ALTER TABLE {} ENGINE = InnoDB", quote::table(&id))).or(LEAVE_OUT);
        Ok((id.clone(), Error::refused(what).table(&id).remedy(remedy)))
    };
    inner.rows(sql).await?.iter().map(one).collect()
}

/// Tables whose rows the storage engine changes for a foreign key, and writes nothing of it into the log. (MySQL
/// manual, "Replication and Foreign Keys"; MariaDB behaves the same.)
async fn cascades(inner: &Inner) -> Result<Vec<(TableId, Error)>> {
    let sql = "SELECT constraint_schema, table_name, constraint_name, referenced_table_name, \
                 IF(delete_rule IN ('CASCADE', 'SET NULL'), concat('ON DELETE ', delete_rule), \
                    concat('ON UPDATE ', update_rule)) \
               FROM information_schema.referential_constraints \
               WHERE delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL')";
    let one = |row: &Row| {
        let (id, key, parent, rule): (TableId, String, String, String) =
            (id(row)?, get(row, 2)?, get(row, 3)?, get(row, 4)?);
        let what = format!("foreign key {key} to {parent} ({rule}) changes its rows, and the log has nothing of that");
        let drop = format!("ALTER TABLE {} DROP FOREIGN KEY {}", quote::table(&id), quote::ident(&key));
        Ok((id.clone(), Error::refused(what).table(&id).remedy(Remedy::Sql(drop).or(LEAVE_OUT))))
    };
    inner.rows(sql).await?.iter().map(one).collect()
}

/// Which tables the server keeps out of its log, by their database. (MariaDB knowledge base, `binlog_do_db`.)
async fn unlogged(inner: &Inner) -> Result<impl Fn(&TableId) -> Option<Error>> {
    let rows = inner.rows("SHOW MASTER STATUS").await?;
    let list = |at: usize| -> Result<Vec<String>> {
        let text: String = rows.first().map_or(Ok(String::new()), |row| get(row, at))?;
        Ok(text.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect())
    };
    let (only, never) = (list(2)?, list(3)?);
    Ok(move |id: &TableId| {
        let name = match () {
            () if !only.is_empty() && !only.contains(&id.schema) => "binlog_do_db",
            () if never.contains(&id.schema) => "binlog_ignore_db",
            () => return None,
        };
        let what = format!("the server keeps its database out of the log ({name})");
        Some(Error::refused(what).table(id).remedy(format!("start the server without {name}, or {LEAVE_OUT}").as_str()))
    })
}
