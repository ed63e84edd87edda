//! What a PostgreSQL catalogue says of tables: columns, keys, identity, and the types they need.
//!
//! One query for each kind of thing, never one for each table: a thousand tables are as quick as one.

pub(crate) mod definitions;
mod expression;
mod lex;
mod secondary;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::Client;
use trem_engine::schema::{Catalog, Column, GeneratedColumn, History, Identity, Native, TableId, TableSchema};
use trem_engine::task::Selection;
use trem_engine::{Error, Result};

use self::definitions::TypeRows;
use self::expression::Scope;
use super::row::get;
use super::sqlstate;
use super::types::{self, TypeBook};

/// A table that may be replicated.
#[derive(Clone, Debug)]
struct Found {
    oid: u32,
    id: TableId,
    identity: String,
    /// The tables it is a partition of, nearest first.
    ancestors: Vec<u32>,
}

/// The tables that `want` selects.
pub(crate) async fn discover(client: &Client, want: &Selection) -> Result<Catalog> {
    let found = select(client, want).await?;
    describe(client, found).await
}

async fn candidates(client: &Client) -> Result<Vec<Found>> {
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident::text, \
                 CASE WHEN c.relispartition THEN \
                   ARRAY(SELECT a::oid FROM pg_partition_ancestors(c.oid) a WHERE a::oid <> c.oid) \
                 ELSE '{}' END \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' \
                 AND n.nspname <> ALL (ARRAY['pg_catalog', 'information_schema', 'trem']) AND n.nspname !~ '^pg_' \
               ORDER BY n.nspname, c.relname";
    let rows = client.query(sql, &[]).await.map_err(sqlstate::error)?;
    let found = rows.iter().map(|row| {
        Ok(Found {
            oid: get(row, 0)?,
            id: TableId::new(get::<String>(row, 1)?, get::<String>(row, 2)?),
            identity: get(row, 3)?,
            ancestors: get(row, 4)?,
        })
    });
    found.collect()
}

async fn select(client: &Client, want: &Selection) -> Result<Vec<Found>> {
    let all = candidates(client).await?;
    let (roots, leaves): (Vec<_>, Vec<_>) =
        all.into_iter().filter(|f| want.takes(&f.id)).partition(|f| f.ancestors.is_empty());
    // Rows of a partition come with its partitioned table; by itself it is taken only where it is named.
    let named: Vec<_> = leaves.into_iter().filter(|f| want.names(&f.id)).collect();
    let taken: HashSet<u32> = roots.iter().chain(&named).map(|f| f.oid).collect();
    if let Some(double) = named.iter().find(|f| f.ancestors.iter().any(|a| taken.contains(a))) {
        return Err(Error::refused("is a partition of a table that is selected too, so its rows would come twice")
            .table(&double.id)
            .remedy("exclude the partition or the partitioned table in [[tables]]"));
    }
    let mut found: Vec<_> = roots.into_iter().chain(named).collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// A column as the catalogue has it.
struct Attribute {
    number: i16,
    name: String,
    native: Native,
    nullable: bool,
    /// Values may be stored beside the row, and an update that does not touch them leaves them out of the log.
    beside: bool,
    generated: Option<String>,
    /// Generated when it is read, and in no log.
    is_virtual: bool,
}

async fn attributes(client: &Client, oids: &[u32]) -> Result<HashMap<u32, Vec<Attribute>>> {
    let sql = "SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.atttypmod, \
                 format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                 CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END, \
                 a.attlen = -1 AND a.attstorage <> 'p', a.attgenerated = 'v' \
               FROM pg_attribute a \
               LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
               WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";
    let rows = client.query(sql, &[&oids]).await.map_err(sqlstate::error)?;
    let mut tables: HashMap<u32, Vec<Attribute>> = HashMap::new();
    for row in &rows {
        let native = types::native(get::<String>(row, 5)?, get(row, 3)?, get(row, 4)?);
        tables.entry(get(row, 0)?).or_default().push(Attribute {
            number: get(row, 1)?,
            name: get(row, 2)?,
            native,
            nullable: !get::<bool>(row, 6)?,
            beside: get(row, 8)?,
            generated: get(row, 7)?,
            is_virtual: get(row, 9)?,
        });
    }
    Ok(tables)
}

/// A unique index that may tell rows apart.
struct Index {
    primary: bool,
    chosen: bool,
    immediate: bool,
    columns: Vec<i16>,
}

async fn indexes(client: &Client, oids: &[u32]) -> Result<HashMap<u32, Vec<Index>>> {
    let sql = "SELECT i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate, \
                 ARRAY(SELECT k FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(k, n) \
                       WHERE n <= i.indnkeyatts ORDER BY n) \
               FROM pg_index i WHERE i.indrelid = ANY ($1) AND (i.indisprimary OR i.indisreplident) AND i.indisvalid";
    let rows = client.query(sql, &[&oids]).await.map_err(sqlstate::error)?;
    let mut tables: HashMap<u32, Vec<Index>> = HashMap::new();
    for row in &rows {
        tables.entry(get(row, 0)?).or_default().push(Index {
            primary: get(row, 1)?,
            chosen: get(row, 2)?,
            immediate: get(row, 3)?,
            columns: get(row, 4)?,
        });
    }
    Ok(tables)
}

async fn describe(client: &Client, found: Vec<Found>) -> Result<Catalog> {
    let oids: Vec<u32> = found.iter().map(|f| f.oid).collect();
    let mut attributes = attributes(client, &oids).await?;
    let mut indexes = indexes(client, &oids).await?;
    let number = |a: &Attribute| types::number(&a.native).0;
    let used: BTreeSet<u32> = attributes.values().flatten().map(number).collect();
    let used: Vec<u32> = used.into_iter().collect();
    let users =
        found.iter().map(|t| (t.id.clone(), attributes.get(&t.oid).into_iter().flatten().map(number).collect()));
    let users: HashMap<TableId, Vec<u32>> = users.collect();
    let book = TypeBook::load(client, used.clone()).await?;
    let mut names: HashMap<u32, HashSet<String>> = HashMap::new();
    let mut tables = Vec::with_capacity(found.len());
    for table in found {
        let attributes = attributes.remove(&table.oid).unwrap_or_default();
        let indexes = indexes.remove(&table.oid).unwrap_or_default();
        let names = names.entry(table.oid).or_insert_with(|| attributes.iter().map(|a| a.name.clone()).collect());
        tables.push(Arc::new(shape(table, attributes, names, &indexes, &book)));
    }
    let types = TypeRows::load(client, &used).await?.definitions(&users);
    let secondary = secondary::objects(client, &names).await?;
    Ok(Catalog { tables, types, secondary, histories: Vec::new() })
}

fn shape(
    found: Found,
    attributes: Vec<Attribute>,
    names: &HashSet<String>,
    indexes: &[Index],
    book: &TypeBook,
) -> TableSchema {
    let whole_old_rows = found.identity == "f";
    // Once published, the server would refuse to change it: a whole old row would have to have the column.
    let unlogged_part = attributes.iter().any(|a| a.is_virtual);
    let (mut columns, mut generated, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let scope = Scope { table: &found.id, columns: names };
    for a in attributes {
        match a.generated {
            Some(expression) => {
                let expression = scope.expression(&expression);
                generated.push(GeneratedColumn { name: a.name, native: a.native, expression });
            }
            None => {
                let ty = book.meaning(&a.native);
                let omissible = a.beside && !whole_old_rows;
                columns.push(Column { name: a.name, ty, native: a.native, nullable: a.nullable, omissible });
                numbers.push(a.number);
            }
        }
    }
    let places = |index: &Index| -> Vec<usize> {
        let places = index.columns.iter().map(|k| numbers.iter().position(|n| n == k));
        // An index on a generated column cannot tell rows apart that lack it.
        places.collect::<Option<_>>().unwrap_or_default()
    };
    let primary = indexes.iter().find(|i| i.primary);
    // The values of a deferrable key may be doubled inside a transaction, and ON CONFLICT does not take one: it tells
    // rows apart neither in the log nor on the target.
    let primary_key = primary.filter(|i| i.immediate).map(places).unwrap_or_default();
    let chosen = indexes.iter().find(|i| i.chosen).map(places).unwrap_or_default();
    let (identity, key) = match found.identity.as_str() {
        "d" if !primary_key.is_empty() => (Identity::Key, primary_key.clone()),
        "i" if !chosen.is_empty() => (Identity::Key, chosen),
        "f" if unlogged_part => (Identity::InsertOnly, Vec::new()),
        "f" if !primary_key.is_empty() => (Identity::KeyWithFullImage, primary_key.clone()),
        "f" => (Identity::Full, Vec::new()),
        _ => (Identity::InsertOnly, Vec::new()),
    };
    let native_id = Some(u64::from(found.oid));
    let history = History::default();
    TableSchema { id: found.id, native_id, columns, key, primary_key, identity, generated, history }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(identity: &str, immediate: bool) -> TableSchema {
        let native = types::native("bigint", 20, -1);
        let column = Attribute {
            number: 1,
            name: "id".to_owned(),
            native,
            nullable: false,
            beside: true,
            generated: None,
            is_virtual: false,
        };
        let index = Index { primary: true, chosen: false, immediate, columns: vec![1] };
        let id = TableId::new("s", "t");
        let found = Found { oid: 7, id, identity: identity.to_owned(), ancestors: Vec::new() };
        shape(found, vec![column], &HashSet::new(), &[index], &TypeBook::default())
    }

    #[test]
    fn a_deferrable_key_is_none() {
        let of = |identity, immediate| {
            let table = shaped(identity, immediate);
            (table.identity, table.key.len(), table.primary_key.len())
        };
        assert_eq!(of("d", true), (Identity::Key, 1, 1));
        assert_eq!(of("f", true), (Identity::KeyWithFullImage, 1, 1));
        assert_eq!(of("d", false), (Identity::InsertOnly, 0, 0));
        assert_eq!(of("f", false), (Identity::Full, 0, 0));
    }

    #[test]
    fn nothing_is_left_out_where_the_log_has_whole_old_rows() {
        assert!(shaped("d", true).columns[0].omissible);
        assert!(!shaped("f", true).columns[0].omissible);
        assert!(!shaped("f", false).columns[0].omissible);
    }
}
