//! The target's own tables: what is there, whether the source's table fits, and the statements that make it.

use std::collections::HashMap;

use tokio::sync::OnceCell;
use tokio_postgres::{Client, Row, Statement};
use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::{Column, Identity, TableId, TableSchema};
use trem_engine::{Remedy, Result};

use super::fit::{fits, without_form};
use super::generated;
use crate::postgres::catalog::get;
use crate::postgres::sqlstate::error as pg;
use crate::postgres::{counterpart, quote};

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
    /// Single partitions have unique indexes of their own.
    pub(super) partly_unique: bool,
    /// What it is, where it is not a table.
    pub(super) other_kind: Option<&'static str>,
    /// Privileges that writing needs and the role has not.
    pub(super) denied: Vec<String>,
    /// The owner, and whether the role may do what the owner may.
    pub(super) owner: String,
    pub(super) owned: bool,
}

const TABLES: &str = "
SELECT w.n, c.oid, c.relkind::text,
       ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p
             WHERE c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, p)),
       pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE')
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
       eq.nspname::text, a.attnotnull, a.atthasdef, a.attidentity = 'a', a.attgenerated <> '',
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
        let schemas: Vec<&str> = ids.iter().map(|i| i.schema.as_str()).collect();
        let names: Vec<&str> = ids.iter().map(|i| i.table.as_str()).collect();
        let mut found: HashMap<u32, (&TableId, Self)> = HashMap::new();
        for row in client.query(kept(&reads.tables, client, TABLES).await?, &[&schemas, &names]).await.map_err(pg)? {
            let place: i64 = get(&row, 0)?;
            let Some(id) = usize::try_from(place - 1).ok().and_then(|n| ids.get(n)) else { continue };
            let table = Self {
                denied: get(&row, 3)?,
                owner: get(&row, 4)?,
                owned: get(&row, 5)?,
                ..Self::of_kind(get(&row, 2)?)
            };
            found.insert(get(&row, 1)?, (*id, table));
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
        Ok(found.into_values().map(|(id, table)| (id.clone(), table)).collect())
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

    /// Everything that keeps rows of `source` from going into this table.
    pub(super) fn misfits(&self, source: &TableSchema, needs_key: bool) -> Vec<Finding> {
        let formless = without_form(source);
        if self.other_kind.is_none() && !formless.is_empty() {
            return formless;
        }
        let name = quote::table(&source.id);
        let whole = |message: String, remedy: String| {
            let subject = format!("{}.*", source.id);
            Finding { severity: Severity::Error, subject, message, remedy: Some(remedy.into()) }
        };
        if let Some(kind) = self.other_kind {
            let message = format!("what has this name on the target is {kind}, which cannot be replicated into");
            return vec![whole(message, "rename or drop it, or leave this table out".to_owned())];
        }
        let mut found = Vec::new();
        if !self.denied.is_empty() {
            let missing = self.denied.join(", ");
            let remedy = format!("GRANT {missing} ON {name} TO the role in the target's url");
            found.push(whole(format!("the role may not {missing} on the target"), remedy));
        }
        let mut refuse = |column: &str, message: String, remedy: String| {
            let subject = format!("{}.{column}", source.id);
            found.push(Finding { severity: Severity::Error, subject, message, remedy: Some(Remedy::Sql(remedy)) });
        };
        for column in &source.columns {
            let quoted = quote::ident(&column.name);
            let ty = counterpart::name(column);
            let Some(have) = self.column(&column.name) else {
                let remedy = format!("ALTER TABLE {name} ADD COLUMN {quoted} {ty}");
                refuse(&column.name, "the target table lacks this column".to_owned(), remedy);
                continue;
            };
            if have.generated {
                let remedy = format!("ALTER TABLE {name} ALTER COLUMN {quoted} DROP EXPRESSION");
                refuse(&column.name, "the target computes this column, the source does not".to_owned(), remedy);
            } else if have.always_identity && !source.key.iter().any(|k| source.columns[*k].name == column.name) {
                let remedy = format!("ALTER TABLE {name} ALTER COLUMN {quoted} SET GENERATED BY DEFAULT");
                refuse(&column.name, "GENERATED ALWAYS on the target forbids updates".to_owned(), remedy);
            } else if !fits(column, have) {
                let remedy = format!("ALTER TABLE {name} ALTER COLUMN {quoted} TYPE {ty}");
                refuse(&column.name, format!("type {} on the target cannot hold {ty}", have.ty), remedy);
            } else if have.not_null && column.nullable {
                let remedy = format!("ALTER TABLE {name} ALTER COLUMN {quoted} DROP NOT NULL");
                refuse(&column.name, "NOT NULL on the target, but not at the source".to_owned(), remedy);
            }
        }
        found.extend(generated::misfits(self, source));
        let mut refuse = |column: &str, message: String, remedy: String| {
            let subject = format!("{}.{column}", source.id);
            found.push(Finding { severity: Severity::Error, subject, message, remedy: Some(Remedy::Sql(remedy)) });
        };
        for have in self.extra(source) {
            if have.not_null && !have.has_default && !have.always_identity && !have.generated {
                let remedy = format!("ALTER TABLE {name} ALTER COLUMN {} DROP NOT NULL", quote::ident(&have.name));
                refuse(&have.name, "NOT NULL without a default, and the source lacks this column".to_owned(), remedy);
            }
        }
        let key = key_names(source);
        if needs_key && matches!(source.identity, Identity::Key | Identity::KeyWithFullImage) && !self.has_unique(&key)
        {
            let columns = quote::list(key.iter().copied());
            let remedy = format!("CREATE UNIQUE INDEX ON {name} ({columns})");
            refuse(&key.join(", "), "the target has no unique index over exactly the key columns".to_owned(), remedy);
        }
        found
    }

    /// Whether a table that trem has created can be emptied and loaded again as it is.
    pub(super) fn serves(&self, source: &TableSchema) -> bool {
        let primary: Vec<&str> = source.primary_key.iter().map(|i| source.columns[*i].name.as_str()).collect();
        let same_primary = self.unique.iter().filter(|u| u.primary).all(|u| same_set(&u.columns, &primary));
        // What the role lacks it would lack for another table too.
        let fits = |f: &Finding| f.severity != Severity::Error || !self.denied.is_empty();
        same_primary && self.misfits(source, false).iter().all(fits)
    }

    /// Columns that the source lacks and that it does not compute either.
    pub(super) fn extra<'a>(&'a self, source: &'a TableSchema) -> impl Iterator<Item = &'a TargetColumn> {
        self.columns.iter().filter(|c| source.column(&c.name).is_none())
    }
}

fn same_set(have: &[String], names: &[&str]) -> bool {
    have.len() == names.len() && names.iter().all(|n| have.iter().any(|h| h == n))
}

/// The names of the key's columns.
pub(super) fn key_names(table: &TableSchema) -> Vec<&str> {
    table.key.iter().map(|i| table.columns[*i].name.as_str()).collect()
}

/// PostgreSQL cuts longer names off without an error.
const LONGEST_NAME: usize = 63;

/// Names that would not be on the target what they are here.
pub(super) fn too_long(table: &TableSchema) -> Vec<Finding> {
    let columns = table.columns.iter().map(|c| &c.name).chain(table.generated.iter().map(|g| &g.name));
    let names = [&table.id.schema, &table.id.table].into_iter().chain(columns);
    let finding = |name: &String| Finding {
        severity: Severity::Error,
        subject: table.id.to_string(),
        message: format!("the name {name} has {} bytes, PostgreSQL keeps {LONGEST_NAME}", name.len()),
        remedy: Some("give it a shorter name".into()),
    };
    names.filter(|name| name.len() > LONGEST_NAME).map(finding).collect()
}

/// The statements that create the table, keys left out.
pub(super) fn create_table(table: &TableSchema) -> String {
    let column = |c: &Column| {
        let not_null = if c.nullable { "" } else { " NOT NULL" };
        format!("{} {}{not_null}", quote::ident(&c.name), counterpart::name(c))
    };
    let columns: Vec<String> =
        table.columns.iter().map(column).chain(table.generated.iter().filter_map(generated::definition)).collect();
    format!("CREATE TABLE {} (\n    {}\n)", quote::table(&table.id), columns.join(",\n    "))
}

/// The statements that build the keys which `have` lacks.
pub(super) fn create_keys(table: &TableSchema, have: Option<&TargetTable>) -> Vec<String> {
    let names = |columns: &[usize]| columns.iter().map(|i| table.columns[*i].name.as_str()).collect::<Vec<_>>();
    let mut out = Vec::new();
    let name = quote::table(&table.id);
    let primary = names(&table.primary_key);
    let has_primary = have.is_some_and(|h| h.unique.iter().any(|u| u.primary));
    if !primary.is_empty() && !has_primary {
        out.push(format!("ALTER TABLE {name} ADD PRIMARY KEY ({})", quote::list(primary.iter().copied())));
    }
    let key = names(&table.key);
    let covered = same_names(&key, &primary) || have.is_some_and(|h| h.has_unique(&key));
    if !key.is_empty() && !covered {
        out.push(format!("CREATE UNIQUE INDEX ON {name} ({})", quote::list(key.iter().copied())));
    }
    out
}

fn same_names(a: &[&str], b: &[&str]) -> bool {
    a.len() == b.len() && a.iter().all(|n| b.contains(n))
}
