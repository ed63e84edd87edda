//! What a Relation message says against the shape that the target has.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use tokio_postgres::Client;
use trem_engine::change::ColumnBuilder;
use trem_engine::schema::{self, Column, Identity, SchemaChangeKind, TableId, TableSchema};
use trem_engine::side::Side;
use trem_engine::{Error, Remedy, Result};

use super::catalogue;
use super::history::History;
use crate::postgres::decode::push_text;
use crate::postgres::row::get;
use crate::postgres::types::{TypeBook, native, number, table_number};
use crate::postgres::wire::pgoutput::Relation;
use crate::postgres::{quote, sqlstate};

/// How the log's shape differs from the target's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// Not at all.
    None,
    /// This many columns were added at the end.
    Added(usize),
    /// It has another name.
    Renamed(TableId),
    /// In a way that cannot be followed.
    Other(String),
}

/// Compares a Relation message with a table's shape.
pub(super) fn compare(table: &TableSchema, relation: &Relation) -> Difference {
    if (relation.schema.as_str(), relation.name.as_str()) != (table.id.schema.as_str(), table.id.table.as_str()) {
        return Difference::Renamed(TableId::new(&relation.schema, &relation.name));
    }
    if table.native_id.is_some() && relation.id != table_number(table) {
        return Difference::Other("the table was dropped and created anew".to_owned());
    }
    if let Some(reason) = identity(table, relation) {
        return Difference::Other(reason);
    }
    for (index, column) in table.columns.iter().enumerate() {
        let Some(now) = relation.columns.get(index).filter(|c| c.name == column.name) else {
            let still = relation.columns.iter().any(|c| c.name == column.name);
            let what = if still { "is at another place" } else { "was dropped or renamed" };
            return Difference::Other(format!("column {} {what}", column.name));
        };
        if (now.type_id, now.modifier) != number(&column.native) {
            return Difference::Other(format!("column {} is no longer of type {}", column.name, column.native.name));
        }
    }
    match relation.columns.len() - table.columns.len() {
        0 => Difference::None,
        n => Difference::Added(n),
    }
}

fn identity(table: &TableSchema, relation: &Relation) -> Option<String> {
    let as_recorded = match (table.identity, relation.replica_identity) {
        (Identity::Full | Identity::KeyWithFullImage, b'f') => true,
        (Identity::Key, b'd' | b'i') => {
            let mut recorded: Vec<&str> = table.key.iter().map(|i| table.columns[*i].name.as_str()).collect();
            let mut now: Vec<&str> = relation.columns.iter().filter(|c| c.key).map(|c| c.name.as_str()).collect();
            recorded.sort_unstable();
            now.sort_unstable();
            recorded == now
        }
        (Identity::InsertOnly, _) => true,
        _ => false,
    };
    (!as_recorded).then(|| "its key or its replica identity was changed".to_owned())
}

/// A commit is in the log a moment before it is visible: what the log speaks of and the catalogue lacks is gone for
/// certain only when all that was running at the first look has ended.
#[derive(Default)]
struct Visible {
    running_below: Option<i64>,
    looked: u32,
}

impl Visible {
    const PAUSE: Duration = Duration::from_millis(20);
    /// Other transactions may run for hours.
    const MOST: u32 = 250;

    async fn not_yet(&mut self, client: &Client) -> Result<bool> {
        let sql =
            "SELECT pg_snapshot_xmin(s)::text::int8, pg_snapshot_xmax(s)::text::int8 FROM pg_current_snapshot() s";
        let row = client.query_one(sql, &[]).await.map_err(sqlstate::error)?;
        let (oldest, next): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
        let over = self.running_below.is_some_and(|below| oldest >= below);
        self.running_below.get_or_insert(next);
        self.looked += 1;
        if over || self.looked > Self::MOST {
            return Ok(false);
        }
        tokio::time::sleep(Self::PAUSE).await;
        Ok(true)
    }
}

/// Those of the columns that a server describes that are generated.
pub(super) async fn computed(client: &Client, relation: &Relation) -> Result<Vec<String>> {
    let sql = "SELECT attname::text FROM pg_attribute \
               WHERE attrelid = $1 AND attnum > 0 AND attgenerated <> '' AND attname = ANY ($2::text[])";
    let names: Vec<&str> = relation.columns.iter().map(|c| c.name.as_str()).collect();
    let rows = client.query(sql, &[&relation.id, &names]).await.map_err(sqlstate::error)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// The schema change for columns added at the end: their definitions, and what rows from before have in them.
pub(super) async fn added(
    client: &Client,
    publication: &str,
    table: &TableSchema,
    relation: &Relation,
) -> Result<SchemaChangeKind> {
    let sql = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                 a.atthasdef OR a.attidentity <> '', a.atthasmissing, (a.attmissingval::text::text[])[1], \
                 a.attlen = -1 AND a.attstorage <> 'p', a.atttypid, a.atttypmod, a.attnum, \
                 ARRAY(SELECT DISTINCT (l.attmissingval::text::text[])[1] FROM pg_partition_tree(a.attrelid) p \
                   JOIN pg_attribute l ON l.attrelid = p.relid AND l.attname = a.attname \
                   WHERE l.atthasmissing AND l.attrelid <> a.attrelid) \
               FROM pg_attribute a \
               WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''";
    let added = &relation.columns[table.columns.len()..];
    let mut rows = client.query(sql, &[&relation.id]).await.map_err(sqlstate::error)?;
    let mut visible = Visible::default();
    while !added.iter().all(|c| rows.iter().any(|r| r.try_get(0).is_ok_and(|name: &str| name == c.name)))
        && visible.not_yet(client).await?
    {
        rows = client.query(sql, &[&relation.id]).await.map_err(sqlstate::error)?;
    }
    let types = TypeBook::load(client, added.iter().map(|c| c.type_id).collect()).await?;
    let now = catalogue::now(client, publication, &[relation.id]).await?.remove(&relation.id);
    let past = match Past::of(table, now.map(|now| now.history)) {
        Ok(past) => past,
        Err(reason) => return Ok(suspend(table, reason)),
    };
    let mut next = table.with_history(past.next());
    let mut existing = Existing::default();
    for column in added {
        let suspend = |what: &str| suspend(table, format!("column {} was added, {what}", column.name));
        let mut found = None;
        for row in &rows {
            let same = get::<&str>(row, 0)? == column.name
                && (get::<u32>(row, 7)?, get::<i32>(row, 8)?) == (column.type_id, column.modifier)
                && past.now.column(&column.name) == Some(get(row, 9)?);
            if same {
                found = Some(row);
            }
        }
        let Some(row) = found else { return Ok(suspend("and has been dropped or changed since")) };
        let (has_default, has_missing): (bool, bool) = (get(row, 3)?, get(row, 4)?);
        // A partitioned table has no rows, and its partitions know what theirs have.
        let mut values: Vec<Option<&str>> = get(row, 10)?;
        if has_missing {
            values = vec![get(row, 5)?];
        }
        if (has_default && values.is_empty() && !past.same_files) || values.len() > 1 {
            return Ok(suspend("and what its default gave to the rows that were there is not in the log"));
        }
        let native = native(get::<String>(row, 1)?, column.type_id, column.modifier);
        let column = Column {
            name: column.name.clone(),
            ty: types.meaning(&native),
            native,
            nullable: !get::<bool>(row, 2)?,
            omissible: get::<bool>(row, 6)? && matches!(table.identity, Identity::Key | Identity::InsertOnly),
        };
        existing.push(&column, values.pop().flatten())?;
        next.columns.push(column);
    }
    Ok(SchemaChangeKind::AddColumns { next: Arc::new(next), existing: existing.row()? })
}

/// What is known of a table's past when columns have been added.
struct Past {
    then: Option<History>,
    now: History,
    /// The rows from before are where they were: no statement has given them new values.
    same_files: bool,
}

impl Past {
    /// Or why the table cannot be followed any more.
    fn of(table: &TableSchema, now: Option<History>) -> std::result::Result<Self, String> {
        let now = now.ok_or("the table was dropped")?;
        let then = History::of(table);
        let same_files = then.as_ref().is_some_and(|then| then.same_files(&now));
        if let Some(then) = &then {
            if let Some(reason) = then.until(&now).changed {
                return Err(reason);
            }
            // It may have had the name of one that is there now.
            if then.dropped != now.dropped {
                return Err("columns were added and dropped".to_owned());
            }
        }
        Ok(Self { then, now, same_files })
    }

    /// What is known from here on. The log may have still to come to what has become of the table otherwise.
    fn next(&self) -> schema::History {
        let mut next = self.now.clone();
        if let Some(then) = &self.then {
            next.parts.clone_from(&then.parts);
            next.member = then.member;
        }
        next.stored()
    }
}

/// What rows from before columns were added have in them, as a batch of one row.
#[derive(Default)]
struct Existing {
    fields: Vec<Field>,
    values: Vec<ArrayRef>,
}

impl Existing {
    /// Takes the next column's value, as the server prints it.
    fn push(&mut self, column: &Column, value: Option<&str>) -> Result<()> {
        let mut builder = ColumnBuilder::new(&column.ty);
        match value.map(|v| Bytes::copy_from_slice(v.as_bytes())) {
            Some(text) => push_text(&mut builder, &column.ty, &text, &text, &mut Vec::new()),
            None => {
                builder.push_null();
                Ok(())
            }
        }
        .map_err(|e| e.context(format!("the default of column {}", column.name)))?;
        self.values.push(builder.finish(&column.ty)?);
        self.fields.push(Field::new(&column.name, column.ty.arrow(), true));
        Ok(())
    }

    fn row(self) -> Result<RecordBatch> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.values)
            .map_err(|e| Error::fatal("internal: values of added columns").cause(e))
    }
}

/// A table that cannot go on in its new shape: a reload creates it anew.
pub(super) fn suspend(table: &TableSchema, reason: String) -> SchemaChangeKind {
    SchemaChangeKind::Suspend { reason, remedy: Remedy::Reload(table.id.clone()) }
}

/// A table one of whose partitions logs less than it does.
pub(super) fn partition_identity(table: &TableSchema, reason: String) -> SchemaChangeKind {
    let mend = "give each partition the REPLICA IDENTITY of the table: a check of the task names the statements";
    SchemaChangeKind::Suspend { reason, remedy: Remedy::from(mend).then_reload(&table.id) }
}

/// A table that has another name now.
pub(super) fn renamed(table: &TableSchema, now: &TableId) -> SchemaChangeKind {
    let (then, mut back) = (&table.id, Vec::new());
    if now.table != then.table {
        back.push(format!("ALTER TABLE {} RENAME TO {}", quote::table(now), quote::ident(&then.table)));
    }
    if now.schema != then.schema {
        let here = TableId::new(&now.schema, &then.table);
        back.push(format!("ALTER TABLE {} SET SCHEMA {}", quote::table(&here), quote::ident(&then.schema)));
    }
    let back = Remedy::SqlAt(Side::Source, back.join("; ")).then(Remedy::Reload(then.clone()));
    let follow = format!(
        "select {now} and exclude {then} in [[tables]]: it is loaded as a new table, and {then} stays on the target \
         until you drop it"
    );
    SchemaChangeKind::Suspend { reason: format!("the table was renamed to {now}"), remedy: back.or(follow) }
}

/// A table that the server does not describe but sends rows of.
pub(super) fn undescribed(relation: u32) -> Error {
    Error::fatal(format!("the server sent a row of table {relation} without describing the table"))
}

/// The statement that reads one row by its key, each value given as a literal.
pub(super) fn by_key(table: &TableSchema, list: &str, literals: &[String]) -> String {
    let conditions = table.key.iter().zip(literals).map(|(index, literal)| {
        let column = &table.columns[*index];
        format!("{} = {literal}::{}", quote::ident(&column.name), column.native.name)
    });
    let conditions: Vec<_> = conditions.collect();
    // Rows of its partitions are its own, those of tables that inherit from it are not.
    let own = format!(
        "(tableoid = {0} OR EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = {0} AND relkind = 'p'))",
        table_number(table)
    );
    format!(
        "COPY (SELECT {list} FROM {} WHERE {} AND {own}) TO STDOUT (FORMAT binary)",
        quote::table(&table.id),
        conditions.join(" AND ")
    )
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use trem_engine::schema::{Length, Type};

    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    use super::*;
    use crate::postgres::wire::pgoutput::RelationColumn;

    /// `s.t (id bigint primary key, v text)`.
    pub(in crate::postgres::source) fn table() -> TableSchema {
        let column = |name: &str, ty, id, nullable| Column {
            name: name.to_owned(),
            ty,
            native: native("x", id, -1),
            nullable,
            omissible: nullable,
        };
        let text = Type::Text(Length::Unlimited);
        TableSchema {
            id: TableId::new("s", "t"),
            native_id: Some(7),
            columns: vec![column("id", Type::Int64, 20, false), column("v", text, 25, true)],
            key: vec![0],
            primary_key: vec![0],
            identity: Identity::Key,
            generated: Vec::new(),
            history: Default::default(),
        }
    }

    /// Column `w`, like `v`, is added.
    pub(in crate::postgres::source) fn one_more() -> SchemaChangeKind {
        let mut next = table();
        let column = Column { name: "w".to_owned(), ..next.columns[1].clone() };
        let mut existing = Existing::default();
        existing.push(&column, None).unwrap();
        next.columns.push(column);
        SchemaChangeKind::AddColumns { next: Arc::new(next), existing: existing.row().unwrap() }
    }

    pub(in crate::postgres::source) fn relation() -> Relation {
        let column = |name: &str, key, type_id| RelationColumn { key, name: name.to_owned(), type_id, modifier: -1 };
        Relation {
            id: 7,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            replica_identity: b'd',
            columns: vec![column("id", true, 20), column("v", false, 25)],
        }
    }

    fn reason(change: impl FnOnce(&mut Relation)) -> String {
        let mut r = relation();
        change(&mut r);
        match compare(&table(), &r) {
            Difference::Other(reason) => reason,
            Difference::Renamed(now) => format!("renamed to {now}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_shape_and_added_columns_go_on() {
        assert_eq!(compare(&table(), &relation()), Difference::None);
        let mut more = relation();
        more.columns.push(RelationColumn { key: false, name: "w".to_owned(), type_id: 23, modifier: -1 });
        assert_eq!(compare(&table(), &more), Difference::Added(1));
    }

    #[test]
    fn every_other_change_says_what_it_is() {
        assert!(reason(|r| r.name = "u".to_owned()).contains("renamed to s.u"));
        assert!(reason(|r| r.id = 8).contains("created anew"));
        assert!(reason(|r| r.replica_identity = b'f').contains("replica identity"));
        assert!(reason(|r| r.columns[1].key = true).contains("key"));
        assert!(reason(|r| r.columns[1].type_id = 23).contains("v is no longer of type"));
        assert!(reason(|r| r.columns[1].name = "w".to_owned()).contains("v was dropped or renamed"));
        assert!(reason(|r| drop(r.columns.pop())).contains("v was dropped"));
        assert!(reason(|r| r.columns.swap(0, 1)).contains("id is at another place"));
    }

    #[test]
    fn values_of_added_columns_are_a_row() {
        let column = |name: &str, ty| Column { name: name.to_owned(), ty, ..table().columns[1].clone() };
        let mut existing = Existing::default();
        existing.push(&column("b", Type::Bool), Some("t")).unwrap();
        existing.push(&column("n", Type::Decimal(None)), Some("1.50")).unwrap();
        existing.push(&column("d", Type::Date), None).unwrap();
        let row = existing.row().unwrap();
        assert_eq!((row.num_rows(), row.schema().field(2).name().as_str()), (1, "d"));
        assert!(row.column(0).as_boolean().value(0) && row.column(2).is_null(0));
        assert_eq!(row.column(1).as_string::<i32>().value(0), "1.50");
        assert!(Existing::default().push(&column("i", Type::Int16), Some("x")).is_err());
    }

    #[test]
    fn a_row_is_read_again_by_its_key() {
        let sql = by_key(&table(), "*", &["'1'".to_owned()]);
        assert!(
            sql.starts_with("COPY (SELECT * FROM \"s\".\"t\" WHERE \"id\" = '1'::x AND (tableoid = 7 OR "),
            "{sql}"
        );
        assert!(sql.ends_with(") TO STDOUT (FORMAT binary)"), "{sql}");
    }
}
