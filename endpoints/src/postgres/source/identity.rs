//! Why the log does not tell rows of a table apart, and the statement that makes it.

use tokio_postgres::Client;
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::side::Side;
use trem_engine::{Error, Remedy, Result};

use crate::postgres::row::get;
use crate::postgres::types::table_number;
use crate::postgres::{quote, sqlstate};

/// A table whose rows have no key in the log.
pub(super) struct Unkeyed {
    name: String,
    /// `REPLICA IDENTITY` as the catalogue has it.
    replica: String,
    /// The primary key's constraint, and whether it is checked at once.
    primary: Option<(String, bool)>,
    /// An index that `USING INDEX` takes.
    unique: Option<String>,
    has_virtual: bool,
}

impl Unkeyed {
    /// Looks at the table's indexes.
    pub(super) async fn of(client: &Client, table: &TableSchema) -> Result<Self> {
        let sql = "SELECT c.relreplident::text, p.relname::text, pi.indimmediate, u.relname::text, \
                     EXISTS (SELECT FROM pg_attribute v WHERE v.attrelid = c.oid AND v.attgenerated = 'v') \
                   FROM pg_class c \
                   LEFT JOIN pg_index pi ON pi.indrelid = c.oid AND pi.indisprimary \
                   LEFT JOIN pg_class p ON p.oid = pi.indexrelid \
                   LEFT JOIN LATERAL (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
                     WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid \
                       AND NOT i.indisprimary AND i.indpred IS NULL AND i.indexprs IS NULL \
                       AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid \
                         AND a.attnum = ANY (i.indkey) AND (NOT a.attnotnull OR a.attgenerated <> '')) \
                     ORDER BY i.indnkeyatts, x.relname LIMIT 1) u ON true \
                   WHERE c.oid = $1";
        let name = quote::table(&table.id);
        let row = client.query_opt(sql, &[&table_number(table)]).await.map_err(sqlstate::error)?;
        let Some(row) = row else {
            return Ok(Self { name, replica: "d".to_owned(), primary: None, unique: None, has_virtual: false });
        };
        let primary = get::<Option<String>>(&row, 1)?.zip(get(&row, 2)?);
        Ok(Self { name, replica: get(&row, 0)?, primary, unique: get(&row, 3)?, has_virtual: get(&row, 4)? })
    }

    /// What is wrong.
    pub(super) fn why(&self) -> String {
        match (&self.primary, self.replica.as_str()) {
            (_, "f") if self.has_virtual => {
                "has REPLICA IDENTITY FULL and a virtual generated column, which no log has".to_owned()
            }
            (_, "n") => "has REPLICA IDENTITY NOTHING".to_owned(),
            (_, "i") => "has a REPLICA IDENTITY whose index is gone, or has columns that are not in the log".to_owned(),
            (Some((key, false)), _) => {
                format!(
                    "has a deferrable primary key ({key}), which tells rows apart neither in the log nor on the target"
                )
            }
            (Some((key, true)), _) => format!("has a primary key ({key}) of columns that are not in the log"),
            (None, _) => "has no primary key".to_owned(),
        }
    }

    /// Why it is not published.
    pub(super) fn refusal(&self) -> String {
        format!("{}: once published, its UPDATE and DELETE statements would fail", self.why())
    }

    /// What gives it a key: the remedy of one that is slow without.
    pub(super) fn key(&self) -> Remedy {
        let name = &self.name;
        let alter = |what: &str| Remedy::Sql(format!("ALTER TABLE {name} {what}"));
        match (&self.unique, &self.primary) {
            (_, Some((_, true))) if self.replica == "n" || self.replica == "f" && self.has_virtual => {
                alter("REPLICA IDENTITY DEFAULT")
            }
            (Some(index), _) => alter(&format!("REPLICA IDENTITY USING INDEX {}", quote::ident(index))),
            (None, Some((_, true))) => "add a unique index over NOT NULL columns that are not generated".into(),
            (None, Some((key, false))) => {
                let key = quote::ident(key);
                let replace = format!("ALTER TABLE {name} DROP CONSTRAINT {key}, ADD PRIMARY KEY (...)");
                format!("give it a primary key that is not deferrable: {replace}").into()
            }
            (None, None) if self.has_virtual => format!(
                "add a primary key and let it tell rows apart, ALTER TABLE {name} ADD PRIMARY KEY (...), \
                 REPLICA IDENTITY DEFAULT, or exclude the table in [[tables]]"
            )
            .into(),
            (None, None) => format!("add a primary key: ALTER TABLE {name} ADD PRIMARY KEY (...)").into(),
        }
    }

    /// What lets it be replicated: a key, or whole rows in the log.
    pub(super) fn remedy(&self) -> Remedy {
        let full = Remedy::Sql(format!("ALTER TABLE {} REPLICA IDENTITY FULL", self.name));
        match self.key() {
            key if self.has_virtual => key,
            // It can be run as it stands.
            key @ Remedy::Sql(_) => key.or(full),
            key => full.or(key),
        }
    }

    /// The refusal as an error.
    pub(super) fn error(&self, table: &TableSchema) -> Error {
        Error::refused(self.refusal()).at(Side::Source).table(&table.id).remedy(self.remedy())
    }
}

/// Partitions of these tables whose own identity, by which their rows are logged, is not that of the table, and the
/// statement that makes it so.
pub(super) async fn foreign_to_root(client: &Client, tables: &[u32]) -> Result<Vec<(TableId, Remedy)>> {
    let sql = "SELECT n.nspname::text, c.relname::text, r.relreplident::text, x.relname::text FROM pg_class r \
               CROSS JOIN LATERAL pg_partition_tree(r.oid) p JOIN pg_class c ON c.oid = p.relid \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN pg_index ri ON ri.indrelid = r.oid AND ri.indisreplident \
               LEFT JOIN pg_index i ON i.indrelid = c.oid \
                 AND i.indexrelid IN (SELECT relid FROM pg_partition_tree(ri.indexrelid)) \
               LEFT JOIN pg_class x ON x.oid = i.indexrelid \
               WHERE r.oid = ANY ($1) AND r.relkind = 'p' AND p.isleaf AND c.relkind = 'r' \
                 AND c.relreplident <> r.relreplident ORDER BY 1, 2";
    let mut found = Vec::new();
    for row in client.query(sql, &[&tables]).await.map_err(sqlstate::error)? {
        let partition = TableId::new(get::<String>(&row, 0)?, get::<String>(&row, 1)?);
        let identity = match (get::<&str>(&row, 2)?, get::<Option<&str>>(&row, 3)?) {
            ("f", _) => "FULL".to_owned(),
            ("n", _) => "NOTHING".to_owned(),
            ("i", Some(index)) => format!("USING INDEX {}", quote::ident(index)),
            _ => "DEFAULT".to_owned(),
        };
        let remedy = Remedy::Sql(format!("ALTER TABLE {} REPLICA IDENTITY {identity}", quote::table(&partition)));
        found.push((partition, remedy));
    }
    Ok(found)
}
