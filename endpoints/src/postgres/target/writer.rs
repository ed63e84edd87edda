//! One table as the target has it, and the statements that write to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_schema::DataType;
use trem_engine::change::{KeyRef, RowRef};
use trem_engine::schema::{TableId, TableSchema, Type};
use trem_engine::{Class, Error, Remedy, Result};

use super::copy::CopyColumn;
use super::encode::{Cell, Form, Raw, array};
use super::failure::Failure;
use super::inspect::{Hazard, hazards};
use super::session::Session;
use super::shape::{TargetColumn, TargetTable, key_names};
use crate::postgres::quote;
use crate::view::{OldViews, Views};

/// A replicated column on the target.
#[derive(Debug)]
pub(super) struct WriterColumn {
    /// The name, quoted.
    pub(super) name: String,
    /// The target's type as it stands in DDL.
    pub(super) ty: String,
    /// The value of a row `t` as a temporary table holds it.
    held: String,
    /// The binary form in a COPY.
    form: Option<Form>,
    /// The binary form of an array's elements; canonical text without one.
    element: Option<Form>,
    /// The operator that compares keys.
    equals: String,
    always_identity: bool,
}

/// A table as the target has it.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) schema: Arc<TableSchema>,
    /// The table's name, quoted.
    pub(super) name: String,
    pub(super) columns: Vec<WriterColumn>,
    pub(super) types: Vec<Type>,
    /// Names, quoted, of columns that only the target has and that can be written.
    pub(super) extra: Vec<String>,
    /// Their values of a row `t` as a temporary table holds them.
    extra_held: Vec<String>,
    /// Every column of the table, replicated or not, can be read in binary, which a binary COPY asks for.
    binary: bool,
    /// Rows can violate a constraint among each other that is not the key's.
    pub(super) other_unique: bool,
    /// A partitioned table.
    pub(super) partitioned: bool,
    /// Distinguishes this table's temporary tables in the session.
    pub(super) number: usize,
    /// What a row taken out would take with it, where triggers and foreign keys cannot be kept out of the way.
    pub(super) hazard: Option<Hazard>,
    /// Changes have gone in since the table was looked at.
    pub(super) proven: AtomicBool,
    /// A row that was to be put in has been there already: others may be.
    pub(super) meets: AtomicBool,
}

/// A list of columns, and what is to be known of them in a statement.
pub(super) enum Feed<'a> {
    /// Arrays as parameters: these columns as `c0, c1, ...`, then `ord` if asked for.
    Arrays { columns: &'a [usize], ord: bool },
    /// A temporary table of the session, with columns `c0, c1, ...`.
    Table(&'a str),
}

impl Writer {
    /// Looks at the target's tables, which must be there and have all columns: as many queries for a thousand as for
    /// one. `number`: of the first.
    pub(super) async fn open_all(session: &Session, schemas: &[Arc<TableSchema>], number: usize) -> Result<Vec<Self>> {
        let ids: Vec<&TableId> = schemas.iter().map(|s| &s.id).collect();
        let have = TargetTable::read_all(&session.client, &session.reads, ids.iter().copied()).await?;
        let mut hazards = match session.replica {
            true => HashMap::new(),
            false => hazards(&session.client, &ids).await?,
        };
        let one = |(schema, number): (&Arc<TableSchema>, usize)| {
            let gone =
                || Error::new(Class::Table, "the target table is gone").remedy(Remedy::Reload(schema.id.clone()));
            let have = have.get(&schema.id).ok_or_else(|| gone().target_table(&schema.id))?;
            let hazard = hazards.remove(&schema.id).and_then(|h| h.into_iter().next());
            Self::of(schema, have, hazard, number)
        };
        schemas.iter().zip(number..).map(one).collect()
    }

    fn of(schema: &Arc<TableSchema>, have: &TargetTable, hazard: Option<Hazard>, number: usize) -> Result<Self> {
        if let Some(kind) = have.other_kind {
            return Err(Error::new(Class::Table, format!("what has its name on the target is {kind} now"))
                .target_table(&schema.id)
                .remedy("rename or drop it"));
        }
        let mut columns = Vec::with_capacity(schema.columns.len());
        for column in &schema.columns {
            let found = have.column(&column.name).ok_or_else(|| {
                Error::new(Class::Table, format!("the target table has lost column {}", column.name))
                    .target_table(&schema.id)
                    .remedy(Remedy::Reload(schema.id.clone()).or("add the column again"))
            })?;
            let form = Form::of(&column.ty, &found.receive);
            // Arrays of other types would need their numbers looked up; text with a cast says the same.
            let builtin = |f: &Form| *f != Form::Text || matches!(found.base.as_str(), "text" | "character varying");
            columns.push(WriterColumn {
                name: quote::ident(&column.name),
                ty: found.ty.clone(),
                held: held(found),
                form,
                element: form.filter(builtin),
                equals: match &found.equality {
                    Some(schema) => format!("OPERATOR({}.=)", quote::ident(schema)),
                    None => "=".to_owned(),
                },
                always_identity: found.always_identity,
            });
        }
        let extra = || have.extra(schema).filter(|c| !c.generated);
        Ok(Self {
            extra: extra().map(|c| quote::ident(&c.name)).collect(),
            extra_held: extra().map(held).collect(),
            binary: have.columns.iter().all(|c| !c.receive.is_empty()),
            name: quote::table(&schema.id),
            types: schema.columns.iter().map(|c| c.ty.clone()).collect(),
            columns,
            other_unique: have.other_unique(&key_names(schema)),
            partitioned: have.partitioned,
            number,
            hazard,
            proven: AtomicBool::new(false),
            meets: AtomicBool::new(false),
            schema: Arc::clone(schema),
        })
    }

    /// A constraint that was not there when the table was looked at: the next attempt looks again and goes the
    /// guarded way. Where the look has only just been taken, it would see no more.
    pub(super) fn stale(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Unique(e) if self.proven.load(Ordering::Relaxed) => Failure::Other(
                Error::transient("the target table has got another unique constraint: it is looked at again").cause(e),
            ),
            other => other,
        }
    }

    /// Indices of all columns.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }

    /// The columns as a COPY wants them.
    pub(super) fn copy_columns(&self, columns: &[usize]) -> Vec<CopyColumn> {
        let form = |i: usize| self.columns[i].form.filter(|_| self.binary);
        columns.iter().map(|i| CopyColumn { index: *i, form: form(*i) }).collect()
    }

    /// The session's table for what is taken out, and the statement that creates it: emptied by the commit, until then
    /// numbers tell rows apart.
    pub(super) fn kept_table(&self) -> (String, String) {
        let extra = self.extra_held.iter().enumerate().map(|(n, x)| format!("{x} AS x{n}"));
        let list: Vec<String> = std::iter::once("0::int4 AS ord".to_owned()).chain(self.held()).chain(extra).collect();
        self.temporary_table("kept", &list)
    }

    /// The session's table for images on their way into a set-based statement, and the statement that creates it.
    pub(super) fn staged_table(&self, role: &str) -> (String, String) {
        self.temporary_table(role, &self.held().collect::<Vec<_>>())
    }

    fn held(&self) -> impl Iterator<Item = String> {
        self.columns.iter().enumerate().map(|(i, c)| format!("{} AS c{i}", c.held))
    }

    fn temporary_table(&self, role: &str, columns: &[String]) -> (String, String) {
        let name = format!("pg_temp.trem_{role}_{}", self.number);
        let sql = format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {name} ON COMMIT DELETE ROWS AS SELECT {} FROM {} AS t WITH NO DATA",
            columns.join(", "),
            self.name,
        );
        (name, sql)
    }

    /// Quoted names, separated by commas.
    pub(super) fn names(&self, columns: &[usize]) -> String {
        columns.iter().map(|i| self.columns[*i].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// A FROM item called `s` with columns `c<index>`.
    pub(super) fn from(&self, from: &Feed<'_>) -> String {
        match from {
            Feed::Table(name) => format!("{name} AS s"),
            Feed::Arrays { columns, ord } => self.unnest(columns, *ord, 0, "s"),
        }
    }

    /// Arrays of these columns side by side, called `alias`, in the parameters after the first `skip`.
    pub(super) fn unnest(&self, columns: &[usize], ord: bool, skip: usize, alias: &str) -> String {
        let (mut arrays, mut names) = self.parameters(columns, skip);
        if ord {
            arrays.push(format!("${}::int4[]", skip + columns.len() + 1));
            names.push("ord".to_owned());
        }
        // As a subquery the arrays are unnested side by side, whatever the planner thinks of the rest.
        format!("(SELECT * FROM unnest({}) AS u ({})) AS {alias}", arrays.join(", "), names.join(", "))
    }

    /// Arrays of these columns as parameters after the first `skip`, and what they are called.
    fn parameters(&self, columns: &[usize], skip: usize) -> (Vec<String>, Vec<String>) {
        let array = |(n, i): (usize, &usize)| {
            let element = self.columns[*i].element.map_or("text", |f| self.element_type(*i, f));
            (format!("${}::{element}[]", skip + n + 1), format!("c{i}"))
        };
        columns.iter().enumerate().map(array).unzip()
    }

    /// Whether the server lets an UPDATE change every column.
    pub(super) fn keys_can_change(&self) -> bool {
        self.columns.iter().all(|c| !c.always_identity)
    }

    /// The statement that gives rows other keys: these columns of theirs as parameters, then the keys they had.
    pub(super) fn rekey_sql(&self, known: &[usize]) -> String {
        let (mut arrays, mut names) = self.parameters(known, 0);
        let (old, _) = self.parameters(&self.schema.key, known.len());
        names.extend((0..old.len()).map(|n| format!("k{n}")));
        arrays.extend(old);
        let feed = Feed::Arrays { columns: known, ord: false };
        let set: Vec<String> =
            known.iter().map(|i| format!("{} = {}", self.columns[*i].name, self.value(*i, &feed))).collect();
        let same = |(n, k): (usize, &usize)| {
            let c = &self.columns[*k];
            let cast = if c.element.is_none() { format!("::{}", c.ty) } else { String::new() };
            format!("t.{} {} s.k{n}{cast}", c.name, c.equals)
        };
        format!(
            "UPDATE {} AS t SET {} FROM (SELECT * FROM unnest({}) AS u ({})) AS s WHERE {}",
            self.name,
            set.join(", "),
            arrays.join(", "),
            names.join(", "),
            self.schema.key.iter().enumerate().map(same).collect::<Vec<_>>().join(" AND "),
        )
    }

    fn zoned(&self, column: usize) -> bool {
        matches!(self.types[column], Type::TimestampTz(_))
    }

    fn element_type(&self, column: usize, form: Form) -> &'static str {
        if form == Form::Timestamp && self.zoned(column) {
            // The two share their binary form, not their arrays.
            "timestamptz"
        } else {
            form.element().0
        }
    }

    /// The value of a column of `s`, as the target's type.
    pub(super) fn value(&self, column: usize, from: &Feed<'_>) -> String {
        let c = &self.columns[column];
        match from {
            Feed::Arrays { .. } if c.element.is_none() => format!("s.c{column}::{}", c.ty),
            _ => format!("s.c{column}"),
        }
    }

    /// The condition that joins `t` to `s` by the key.
    pub(super) fn by_key(&self, from: &Feed<'_>) -> String {
        let one = |k: &usize| {
            let c = &self.columns[*k];
            format!("t.{} {} {}", c.name, c.equals, self.value(*k, from))
        };
        self.schema.key.iter().map(one).collect::<Vec<_>>().join(" AND ")
    }

    /// Whether an update that meets a row by its key has this column to write. Keys may be equal and yet not the same:
    /// 1 and 1.00, or text under a collation that takes no notice of case.
    fn settable(&self, column: usize) -> bool {
        let ty = &self.types[column];
        // Exact decimals and all that is carried as text, but for JSON, and floats.
        let blurred =
            (ty.arrow() == DataType::Utf8 && *ty != Type::Json) || matches!(ty, Type::Float32 | Type::Float64);
        !self.columns[column].always_identity && (blurred || !self.schema.key.contains(&column))
    }

    /// The assignments of an UPDATE; empty if there is nothing to assign.
    pub(super) fn assignments(&self, columns: &[usize], from: &Feed<'_>) -> String {
        let settable = columns.iter().filter(|i| self.settable(**i));
        let one = |i: &usize| format!("{} = {}", self.columns[*i].name, self.value(*i, from));
        settable.map(one).collect::<Vec<_>>().join(", ")
    }

    /// The clause that turns an insert that meets a row of the same key into an update of `columns`.
    pub(super) fn upsert(&self, columns: &[usize]) -> String {
        let settable = columns.iter().filter(|i| self.settable(**i));
        let one = |i: &usize| format!("{0} = EXCLUDED.{0}", self.columns[*i].name);
        let set = settable.map(one).collect::<Vec<_>>().join(", ");
        let key = self.names(&self.schema.key);
        if set.is_empty() {
            format!("ON CONFLICT ({key}) DO NOTHING")
        } else {
            format!("ON CONFLICT ({key}) DO UPDATE SET {set}")
        }
    }

    /// An array parameter for each column, of these rows.
    pub(super) fn arrays(&self, views: &Views<'_>, columns: &[usize], rows: &[RowRef]) -> Result<Vec<Raw>> {
        let column = |i: &usize| {
            let cells = rows.iter().map(|at| (*views.at(at.batch as usize, *i), at.row as usize));
            self.array(*i, cells)
        };
        columns.iter().map(column).collect()
    }

    /// An array parameter for each key column, of these keys. `old` views are those of the old images.
    pub(super) fn key_arrays(&self, views: &Views<'_>, old: &OldViews<'_>, keys: &[KeyRef]) -> Result<Vec<Raw>> {
        let mut out = Vec::new();
        for (n, column) in self.schema.key.iter().enumerate() {
            let cells = keys.iter().map(|key| match key {
                KeyRef::Row(at) => (*views.at(at.batch as usize, *column), at.row as usize),
                KeyRef::Old(at) => (*old.key_column(at.batch as usize, n), at.row as usize),
            });
            out.push(self.array(*column, cells)?);
        }
        Ok(out)
    }

    fn array<'a>(&self, column: usize, cells: impl ExactSizeIterator<Item = Cell<'a>>) -> Result<Raw> {
        let element = self.columns[column].element;
        let mut bytes = array(element, cells)?;
        if element == Some(Form::Timestamp) && self.zoned(column) {
            bytes[8..12].copy_from_slice(&1184u32.to_be_bytes());
        }
        Ok(Raw(bytes))
    }

    /// Bytes of the rows' values, roughly.
    pub(super) fn weight(&self, views: &Views<'_>, columns: &[usize], rows: &[RowRef]) -> usize {
        let one = |at: &RowRef| columns.iter().map(|i| views.at(at.batch as usize, *i).len(at.row as usize)).sum();
        rows.iter().map(one).fold(0usize, |sum: usize, n: usize| sum.saturating_add(n))
    }
}

fn held(column: &TargetColumn) -> String {
    let name = quote::ident(&column.name);
    match &column.under_domain {
        Some(base) => format!("t.{name}::{base}"),
        None => format!("t.{name}"),
    }
}
