//! A table of the target as statements write to it.

use std::sync::Arc;

use trem_engine::change::{KeyRef, RowRef};
use trem_engine::schema::{TableId, TableSchema, Type};
use trem_engine::{Class, Error, Remedy, Result};

use super::create::Maker;
use super::encode::{self, Form};
use super::have::{self, HaveTable};
use super::session::Session;
use crate::mysql::connect::Flavor;
use crate::mysql::quote;
use crate::target::findings;
use crate::view::{OldViews, View, Views};

/// A table, and how its columns are written.
pub(super) struct Writer {
    pub(super) schema: Arc<TableSchema>,
    /// Quoted.
    pub(super) name: String,
    pub(super) types: Vec<Type>,
    pub(super) columns: Vec<WriterColumn>,
    /// Columns that only the target has, quoted.
    pub(super) extra: Vec<String>,
    /// A row may meet others by something else than its key.
    pub(super) other_unique: bool,
    /// What turns an insert that meets a row into an update of it.
    upsert: String,
    /// Tells it from others of the session.
    pub(super) number: usize,
}

/// A column of it.
pub(super) struct WriterColumn {
    /// Quoted.
    pub(super) name: String,
    pub(super) form: Form,
    /// It holds text, in a character set of its own.
    pub(super) text: bool,
    /// The bytes of its text are not UTF-8, or more than text is expected of it.
    pub(super) converted: bool,
}

impl Writer {
    /// Looks at the target's tables, which must be there and have all columns. `number`: of the first.
    pub(super) async fn open_all(
        session: &mut Session,
        schemas: &[Arc<TableSchema>],
        number: usize,
    ) -> Result<Vec<Self>> {
        let ids: Vec<&TableId> = schemas.iter().map(|s| &s.id).collect();
        let have = have::read(session, &ids).await?;
        let maker = Maker::of(session);
        let one = |(schema, number): (&Arc<TableSchema>, usize)| {
            let gone =
                || Error::new(Class::Table, "the target table is gone").remedy(Remedy::Reload(schema.id.clone()));
            let have = have.get(&schema.id).ok_or_else(|| gone().target_table(&schema.id))?;
            Self::of(&maker, schema, have, number).map_err(|e| e.target_table(&schema.id))
        };
        schemas.iter().zip(number..).map(one).collect()
    }

    fn of(maker: &Maker, schema: &Arc<TableSchema>, have: &HaveTable, number: usize) -> Result<Self> {
        // Whatever was there when it was prepared.
        findings::verdict(&schema.id, &have.misfits(schema, maker, true)).map_err(Error::of_table)?;
        let mut columns = Vec::with_capacity(schema.columns.len());
        for column in &schema.columns {
            let lost = || Error::fatal("internal: a column that was there");
            let found = have.column(&column.name).ok_or_else(lost)?;
            let word = found.ty.word.as_str();
            columns.push(WriterColumn {
                name: quote::ident(&column.name),
                form: Form::of(&column.ty, word),
                text: found.ty.charset.is_some(),
                converted: found.ty.charset.as_deref().is_some_and(|set| !matches!(set, "utf8mb4" | "utf8mb3"))
                    || matches!(word, "json" | "uuid" | "inet4" | "inet6"),
            });
        }
        let key: Vec<&str> = schema.key_names().collect();
        let extra = have.extra(schema).filter(|c| !c.generated).map(|c| quote::ident(&c.name)).collect();
        Ok(Self {
            name: quote::table(&schema.id),
            types: schema.columns.iter().map(|c| c.ty.clone()).collect(),
            upsert: upsert(maker.server.flavor, &columns),
            columns,
            extra,
            other_unique: have.other_unique(&key),
            number,
            schema: Arc::clone(schema),
        })
    }

    /// Indices of all columns.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }

    /// Quoted names, separated by commas.
    pub(super) fn names(&self, columns: &[usize]) -> String {
        columns.iter().map(|i| self.columns[*i].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The beginning of a statement that puts whole rows in.
    pub(super) fn insert(&self) -> String {
        format!("INSERT INTO {} ({}) VALUES ", self.name, self.names(&self.all()))
    }

    /// What turns it into an update of the rows that it meets.
    pub(super) fn upsert(&self) -> &str {
        &self.upsert
    }

    /// Appends a column's value of a row.
    pub(super) fn put(&self, views: &Views<'_>, at: RowRef, column: usize, out: &mut Vec<u8>) -> Result<()> {
        let view = views.at(at.batch as usize, column);
        self.put_value(view, at.row as usize, column, out)
    }

    fn put_value(&self, view: &View<'_>, row: usize, column: usize, out: &mut Vec<u8>) -> Result<()> {
        encode::put_literal(view, self.columns[column].form, row, out)
            .map_err(|e| e.context(&self.schema.columns[column].name))
    }

    /// Appends a row in parentheses.
    pub(super) fn put_row(&self, views: &Views<'_>, at: RowRef, out: &mut Vec<u8>) -> Result<()> {
        for column in 0..self.columns.len() {
            out.extend_from_slice(if column == 0 { b"(" } else { b"," });
            self.put(views, at, column, out)?;
        }
        out.push(b')');
        Ok(())
    }

    /// Appends assignments of these columns.
    pub(super) fn put_assignments(
        &self,
        views: &Views<'_>,
        at: RowRef,
        columns: &[usize],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        for (n, column) in columns.iter().enumerate() {
            out.extend_from_slice(if n == 0 { b"" } else { b", " });
            out.extend_from_slice(self.columns[*column].name.as_bytes());
            out.extend_from_slice(b" = ");
            self.put(views, at, *column, out)?;
        }
        Ok(())
    }

    /// Appends the condition that finds a row by its key.
    pub(super) fn put_key_condition(&self, at: Key<'_>, key: KeyRef, out: &mut Vec<u8>) -> Result<()> {
        for (n, column) in self.schema.key.iter().enumerate() {
            out.extend_from_slice(if n == 0 { b"" } else { b" AND " });
            out.extend_from_slice(self.columns[*column].name.as_bytes());
            out.extend_from_slice(b" = ");
            self.put_key_value(at, key, n, out)?;
        }
        Ok(())
    }

    /// Appends a value of a key.
    pub(super) fn put_key_value(&self, at: Key<'_>, key: KeyRef, nth: usize, out: &mut Vec<u8>) -> Result<()> {
        let column = self.schema.key[nth];
        match key {
            KeyRef::Row(row) => self.put(at.rows, row, column, out),
            KeyRef::Old(row) => {
                self.put_value(at.old.key_column(row.batch as usize, nth), row.row as usize, column, out)
            }
        }
    }

    /// Appends the condition that finds a row by all that it has, exactly as it was sent.
    pub(super) fn put_whole_condition(&self, views: &Views<'_>, at: RowRef, out: &mut Vec<u8>) -> Result<()> {
        for (i, column) in self.columns.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"" } else { b" AND " });
            let view = views.at(at.batch as usize, i);
            if !column.text || view.is_null(at.row as usize) {
                out.extend_from_slice(column.name.as_bytes());
                out.extend_from_slice(b" <=> ");
                self.put(views, at, i, out)?;
                continue;
            }
            // A collation takes texts for equal that are not the same.
            out.extend_from_slice(b"CAST(CONVERT(");
            out.extend_from_slice(column.name.as_bytes());
            out.extend_from_slice(b" USING utf8mb4) AS BINARY) <=> CAST(");
            self.put(views, at, i, out)?;
            out.extend_from_slice(b" AS BINARY)");
        }
        Ok(())
    }

    /// The session's table for what is taken out and only the target knows, and the statement that makes it.
    pub(super) fn kept_table(&self) -> (String, String) {
        let name = format!("trem.`kept {}`", self.number);
        let columns = self.columns.iter().map(|c| c.name.as_str()).chain(self.extra.iter().map(String::as_str));
        let sql = format!(
            "CREATE TEMPORARY TABLE {name} (PRIMARY KEY ({ORD})) ENGINE = InnoDB \
             SELECT CAST(0 AS UNSIGNED) AS {ORD}, {} FROM {} LIMIT 0",
            columns.collect::<Vec<_>>().join(", "),
            self.name,
        );
        (name, sql)
    }
}

/// The column that numbers rows that are taken out.
pub(super) const ORD: &str = "`trem$ord`";

/// Where keys are found.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) rows: &'a Views<'a>,
    pub(super) old: &'a OldViews<'a>,
}

/// Keys may be equal and yet not the same, so they are set too.
fn upsert(flavor: Flavor, columns: &[WriterColumn]) -> String {
    let (alias, value): (&str, fn(&str) -> String) = match flavor {
        Flavor::MariaDb => ("", |name| format!("VALUES({name})")),
        Flavor::MySql => (" AS new", |name| format!("new.{name}")),
    };
    let set: Vec<String> = columns.iter().map(|c| format!("{} = {}", c.name, value(&c.name))).collect();
    format!("{alias} ON DUPLICATE KEY UPDATE {}", set.join(", "))
}
