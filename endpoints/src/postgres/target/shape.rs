//! The target's own tables: what is there.

use std::collections::HashMap;

use tokio::sync::OnceCell;
use tokio_postgres::{Client, Row, Statement};
use trem_engine::Result;
use trem_engine::schema::{TableId, TableSchema};

use super::named::names_of;
use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;

/// A column of a target table.
#[derive(Clone, Debug)]
pub(super) struct TargetColumn {
    pub(super) name: String,
    /// The type as it stands in DDL.
    pub(super) ty: String,
    /// The type under all domains, without its modifier.
    pub(super) base: String,
    /// That type where `ty` is a domain, in a form that cuts nothing off: what a domain forbids, NULL most of all,
    /// must not stand against rows on their way.
    pub(super) under_domain: Option<String>,
    /// The receive function of that type; empty where values cannot be sent in binary.
    pub(super) receive: String,
    /// The schema of the operator that compares its keys, where it is not `pg_catalog`.
    pub(super) equality: Option<String>,
    pub(super) not_null: bool,
    pub(super) has_default: bool,
    /// `GENERATED ALWAYS AS IDENTITY`.
    pub(super) always_identity: bool,
    /// `GENERATED ALWAYS AS (...) STORED`.
    pub(super) generated: bool,
}

impl TargetColumn {
    fn from(row: &Row) -> Result<Self> {
        Ok(Self {
            name: get(row, 1)?,
            ty: get(row, 2)?,
            base: get(row, 3)?,
            under_domain: get(row, 10)?,
            receive: get(row, 4)?,
            equality: get(row, 5)?,
            not_null: get(row, 6)?,
            has_default: get(row, 7)?,
            always_identity: get(row, 8)?,
            generated: get(row, 9)?,
        })
    }
}

/// A unique index over plain columns that holds at every moment.
#[derive(Clone, Debug)]
pub(super) struct UniqueIndex {
    pub(super) columns: Vec<String>,
    pub(super) primary: bool,
    /// Usable to tell rows apart: immediate, valid, of all rows.
    pub(super) usable: bool,
}

/// A target table as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct TargetTable {
    pub(super) columns: Vec<TargetColumn>,
    pub(super) unique: Vec<UniqueIndex>,
    /// Constraints beside unique ones that rows can violate among each other.
    pub(super) exclusions: bool,
    pub(super) partitioned: bool,
    /// A crash of the server empties it.
    pub(super) unlogged: bool,
    /// Single partitions have unique indexes of their own.
    pub(super) partly_unique: bool,
    /// What it is, where it is not a table.
    pub(super) other_kind: Option<&'static str>,
    /// Privileges that writing needs and the role has not.
    pub(super) denied: Vec<String>,
    /// Our role.
    pub(super) role: String,
    /// The owner, and whether the role may do what the owner may.
    pub(super) owner: String,
    pub(super) owned: bool,
}

const TABLES: &str = "
SELECT w.n, c.oid, c.relkind::text,
       ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p
             WHERE c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, p)),
       pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'), current_user::text, c.relpersistence = 'u'
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (schema_name, table_name, n)
JOIN pg_namespace s ON s.nspname = w.schema_name
JOIN pg_class c ON c.relnamespace = s.oid AND c.relname = w.table_name";

const COLUMNS: &str = "
WITH RECURSIVE base AS (
    SELECT a.attrelid, a.attnum, a.atttypid AS typ FROM pg_attribute a
    WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attrelid, b.attnum, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.typ WHERE t.typtype = 'd'
), equality AS (
    SELECT DISTINCT ON (c.opcintype) c.opcintype, n.nspname FROM pg_opclass c
    JOIN pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
    JOIN pg_amop o ON o.amopfamily = c.opcfamily AND o.amopstrategy = 3 AND o.amoplefttype = c.opcintype
         AND o.amoprighttype = c.opcintype
    JOIN pg_operator op ON op.oid = o.amopopr
    JOIN pg_namespace n ON n.oid = op.oprnamespace
    WHERE c.oid >= 16384 AND c.opcdefault AND n.nspname <> 'pg_catalog'
)
SELECT a.attrelid, a.attname::text, format_type(a.atttypid, a.atttypmod), format_type(t.oid, NULL),
       coalesce(p.proname::text, ''),
       eq.nspname::text, a.attnotnull, a.atthasdef OR a.attidentity <> '',
       a.attidentity = 'a', a.attgenerated <> '',
       CASE WHEN t.oid <> a.atttypid THEN format_type(t.oid, -1) END
FROM pg_attribute a
JOIN base b ON b.attrelid = a.attrelid AND b.attnum = a.attnum
JOIN pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
LEFT JOIN pg_proc p ON p.oid = t.typreceive
LEFT JOIN equality eq ON eq.opcintype = t.oid
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum";

const INDEXES: &str = "
SELECT i.indrelid, i.indisprimary,
       i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL,
       i.indisexclusion,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts)
FROM pg_index i WHERE i.indrelid = ANY ($1) AND (i.indisunique OR i.indisexclusion)";

/// A partition may have unique indexes that its partitioned table has not.
const PARTITION_INDEXES: &str = "
SELECT DISTINCT c.oid FROM pg_class c CROSS JOIN LATERAL pg_partition_tree(c.oid) AS t
JOIN pg_index i ON i.indrelid = t.relid AND (i.indisunique OR i.indisexclusion)
JOIN pg_class x ON x.oid = i.indexrelid AND NOT x.relispartition
WHERE c.oid = ANY ($1) AND t.relid <> c.oid";

/// The statements that read tables from the catalogue, planned once for each connection: planning costs as much as
/// reading.
#[derive(Debug, Default)]
pub(super) struct Reads {
    tables: OnceCell<Statement>,
    columns: OnceCell<Statement>,
    indexes: OnceCell<Statement>,
}

async fn kept<'a>(cell: &'a OnceCell<Statement>, client: &Client, sql: &str) -> Result<&'a Statement> {
    cell.get_or_try_init(|| client.prepare(sql)).await.map_err(pg)
}

impl TargetTable {
    /// Reads the table from the catalogue; `None` if there is none of this name.
    pub(super) async fn read(client: &Client, reads: &Reads, id: &TableId) -> Result<Option<Self>> {
        Ok(Self::read_all(client, reads, [id]).await?.remove(id))
    }

    /// Reads those of the tables that are there: as many queries for a thousand as for one.
    pub(super) async fn read_all<'a>(
        client: &Client,
        reads: &Reads,
        ids: impl IntoIterator<Item = &'a TableId>,
    ) -> Result<HashMap<TableId, Self>> {
        let ids: Vec<&TableId> = ids.into_iter().collect();
        let (schemas, names) = names_of(&ids);
        let mut found: HashMap<u32, ((&str, &str), Self)> = HashMap::new();
        for row in client.query(kept(&reads.tables, client, TABLES).await?, &[&schemas, &names]).await.map_err(pg)? {
            let place: i64 = get(&row, 0)?;
            let Some(name) = usize::try_from(place - 1).ok().and_then(|n| Some((*schemas.get(n)?, *names.get(n)?)))
            else {
                continue;
            };
            let table = Self {
                denied: get(&row, 3)?,
                owner: get(&row, 4)?,
                owned: get(&row, 5)?,
                role: get(&row, 6)?,
                unlogged: get(&row, 7)?,
                ..Self::of_kind(get(&row, 2)?)
            };
            found.insert(get(&row, 1)?, (name, table));
        }
        if found.is_empty() {
            return Ok(HashMap::new());
        }
        let oids: Vec<u32> = found.keys().copied().collect();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&oids];
        let columns = kept(&reads.columns, client, COLUMNS).await?;
        let indexes = kept(&reads.indexes, client, INDEXES).await?;
        let (columns, indexes) =
            tokio::try_join!(client.query(columns, &parameters), client.query(indexes, &parameters)).map_err(pg)?;
        for row in columns {
            if let Some((_, table)) = found.get_mut(&get(&row, 0)?) {
                table.columns.push(TargetColumn::from(&row)?);
            }
        }
        for row in indexes {
            let Some((_, table)) = found.get_mut(&get(&row, 0)?) else { continue };
            if get(&row, 3)? {
                table.exclusions = true;
            } else {
                table.unique.push(UniqueIndex {
                    columns: get(&row, 4)?,
                    primary: get(&row, 1)?,
                    usable: get(&row, 2)?,
                });
            }
        }
        if found.values().any(|(_, t)| t.partitioned) {
            for row in client.query(PARTITION_INDEXES, &parameters).await.map_err(pg)? {
                if let Some((_, table)) = found.get_mut(&get(&row, 0)?) {
                    table.partly_unique = true;
                }
            }
        }
        let by_name: HashMap<(&str, &str), Self> = found.into_values().collect();
        let one = |id: &&TableId| Some(((*id).clone(), by_name.get(&(id.schema.as_str(), id.table.as_str()))?.clone()));
        Ok(ids.iter().filter_map(one).collect())
    }

    fn of_kind(kind: &str) -> Self {
        let other_kind = match kind {
            "r" | "p" => None,
            "v" => Some("a view"),
            "m" => Some("a materialized view"),
            "f" => Some("a foreign table"),
            "S" => Some("a sequence"),
            "i" | "I" => Some("an index"),
            "c" => Some("a composite type"),
            _ => Some("not a table"),
        };
        Self { other_kind, partitioned: kind == "p", ..Self::default() }
    }

    pub(super) fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Whether a usable unique index is over exactly these columns.
    pub(super) fn has_unique(&self, names: &[&str]) -> bool {
        self.unique.iter().any(|u| u.usable && same_set(&u.columns, names))
    }

    /// Whether rows can violate a constraint among each other that is not the one over `key`.
    pub(super) fn other_unique(&self, key: &[&str]) -> bool {
        self.exclusions || self.partly_unique || self.unique.iter().any(|u| !u.usable || !same_set(&u.columns, key))
    }

    /// Columns that the source lacks and that it does not compute either.
    pub(super) fn extra<'a>(&'a self, source: &'a TableSchema) -> impl Iterator<Item = &'a TargetColumn> {
        self.columns.iter().filter(|c| source.column(&c.name).is_none())
    }
}

/// Whether both have the same names, in whatever order.
pub(super) fn same_set(have: &[String], names: &[&str]) -> bool {
    have.len() == names.len() && names.iter().all(|n| have.iter().any(|h| h == n))
}

/// The names of the key's columns.
pub(super) fn key_names(table: &TableSchema) -> Vec<&str> {
    table.key.iter().map(|i| table.columns[*i].name.as_str()).collect()
}
