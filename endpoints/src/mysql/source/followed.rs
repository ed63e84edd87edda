//! The tables of a stream: how each stands in the log, and what of it the target has already.

use std::collections::HashMap;
use std::sync::Arc;

use trem_engine::change::{BatchBuilder, ColumnMask, Gather, Op};
use trem_engine::ports::StreamTable;
use trem_engine::position::Position;
use trem_engine::schema::{Identity, SchemaChange, SchemaChangeKind, TableId, TableSchema};
use trem_engine::{Error, Result};

use crate::mysql::binlog::bytes::Bytes;
use crate::mysql::binlog::event::{Change, Rows};
use crate::mysql::binlog::row::Reading;
use crate::mysql::binlog::table_map::{Logged, TableMap};
use crate::mysql::charset::{self, Charsets};
use crate::mysql::connect::Session;

use super::shape::{Answer, Doubt, Shape};

/// A table that is followed.
struct Followed {
    schema: Arc<TableSchema>,
    /// Changes up to here are on the target.
    has: Option<Position>,
    /// A statement may have changed it since the catalogue was asked last.
    doubted: bool,
    /// Where the log ended when the catalogue was asked last.
    asked: Option<Position>,
    /// Not any more.
    left: bool,
}

/// How a table's rows stand in the log.
struct Layout {
    /// What it was made of.
    map: TableMap,
    /// The table's place among those that are followed; `None` for one that is not.
    table: Option<usize>,
    /// For each column of the log where it goes, and how it is read.
    columns: Vec<(usize, Reading)>,
    /// Whether it holds for later statements too.
    lasts: bool,
}

#[derive(Default)]
pub(super) struct Tables {
    followed: Vec<Followed>,
    charsets: Charsets,
    /// By the numbers by which events name them.
    layouts: HashMap<u64, Layout>,
}

/// Where the values of a row are in an event; `None` is NULL.
type Image<'a> = Vec<Option<&'a [u8]>>;

impl Tables {
    pub(super) async fn add(&mut self, session: &mut Session, tables: Vec<StreamTable>) -> Result<()> {
        let names = charset::names(tables.iter().map(|table| table.schema.as_ref()));
        self.charsets.learn(session, names).await?;
        for table in tables {
            let mut has = table.from;
            for chunk in table.loaded {
                if has.as_ref().is_some_and(|has| *has != chunk.snapshot) {
                    let what = "internal: parts of a table that were read at different places";
                    return Err(Error::fatal(what).table(&table.schema.id));
                }
                has = Some(chunk.snapshot);
            }
            self.followed.push(Followed { schema: table.schema, has, doubted: false, asked: None, left: false });
        }
        self.layouts.clear();
        Ok(())
    }

    /// The log begins anew to number its tables.
    pub(super) fn forget_numbers(&mut self) {
        self.layouts.clear();
    }

    fn find(&self, schema: &str, table: &str) -> Option<usize> {
        let is = |f: &Followed| !f.left && f.schema.id.schema == schema && f.schema.id.table == table;
        self.followed.iter().position(is)
    }

    /// The tables that are followed.
    pub(super) fn ids(&self) -> impl Iterator<Item = &TableId> {
        self.followed.iter().filter(|f| !f.left).map(|f| &f.schema.id)
    }

    /// Where a table has to be emptied that is followed, and has not been so already.
    pub(super) fn emptied(&self, id: &TableId, at: &Position) -> Option<Arc<TableSchema>> {
        let followed = &self.followed[self.find(&id.schema, &id.table)?];
        followed.misses(at).then(|| Arc::clone(&followed.schema))
    }

    /// No later row of this table is delivered.
    pub(super) fn leave(&mut self, id: &TableId, kind: SchemaChangeKind, into: &mut Gather) -> Result<()> {
        let Some(at) = self.find(&id.schema, &id.table) else { return Ok(()) };
        // Layouts stay: the rows of other tables that the same statement changes are still to come.
        self.followed[at].left = true;
        into.schema(SchemaChange { table: Arc::clone(&self.followed[at].schema), kind })
    }

    /// Suspends a table, unless what is told of it is on the target already.
    pub(super) fn suspend(&mut self, id: &TableId, reason: String, at: &Position, into: &mut Gather) -> Result<()> {
        let Some(place) = self.find(&id.schema, &id.table) else { return Ok(()) };
        if !self.followed[place].misses(at) {
            return Ok(());
        }
        let remedy = trem_engine::Remedy::from("see that it is what you want").then_reload(id);
        self.leave(id, SchemaChangeKind::Suspend { reason, remedy }, into)
    }

    /// A statement may have changed the shape of a table, and changes no row by itself: the catalogue has to be asked
    /// before its next row. What it said last it may have said from behind this statement.
    pub(super) fn doubt(&mut self, id: &TableId, sql: &str, at: &Position, into: &mut Gather) -> Result<()> {
        let Some(place) = self.find(&id.schema, &id.table) else { return Ok(()) };
        let followed = &mut self.followed[place];
        if !followed.misses(at) {
            return Ok(());
        }
        if followed.asked.as_ref().is_some_and(|asked| asked >= at) {
            let reason = format!("it was changed twice before the first change was followed: {sql}");
            return self.leave(id, SchemaChangeKind::Reload { reason }, into);
        }
        followed.doubted = true;
        self.layouts.retain(|_, layout| layout.table != Some(place));
        Ok(())
    }

    /// Rows of a table follow. What the catalogue has to say first is returned.
    pub(super) fn map(&mut self, map: TableMap, at: &Position) -> Option<Doubt> {
        if self.layouts.get(&map.number).is_some_and(|layout| layout.lasts && layout.map == map) {
            return None;
        }
        let number = map.number;
        let Some(table) = self.find(&map.schema, &map.table) else {
            self.layouts.insert(number, Layout { map, table: None, columns: Vec::new(), lasts: true });
            return None;
        };
        let followed = &self.followed[table];
        match layout(&followed.schema, &map, &self.charsets) {
            Ok(columns) if !followed.doubted => {
                self.layouts.insert(number, Layout { map, table: Some(table), columns, lasts: true });
                None
            }
            // Rows that the target has already may be of an older shape.
            _ if !followed.misses(at) => {
                self.layouts.insert(number, Layout { map, table: None, columns: Vec::new(), lasts: false });
                None
            }
            _ => Some(Doubt { table: Arc::clone(&followed.schema), map }),
        }
    }

    /// What the catalogue has said of a table.
    pub(super) fn settle(&mut self, doubt: &Doubt, answer: Answer, at: &Position, into: &mut Gather) -> Result<()> {
        let Answer { shape, asked, charsets } = answer;
        self.charsets.join(charsets);
        let id = &doubt.table.id;
        let Some(place) = self.find(&id.schema, &id.table) else { return Ok(()) };
        match shape {
            Shape::Same => {}
            Shape::Added(kind) => {
                into.schema(SchemaChange { table: Arc::clone(&doubt.table), kind: kind.clone() })?;
                if let SchemaChangeKind::AddColumns { next, .. } = kind {
                    self.followed[place].schema = next;
                }
            }
            Shape::Other(reason) => return self.suspend(id, reason, at, into),
            Shape::Again(reason) => return self.leave(id, SchemaChangeKind::Reload { reason }, into),
        }
        let followed = &mut self.followed[place];
        (followed.doubted, followed.asked) = (false, Some(asked));
        match layout(&followed.schema, &doubt.map, &self.charsets) {
            Ok(_) => Ok(()),
            // Asked once more, the catalogue would say the same.
            Err(reason) => self.suspend(id, reason, at, into),
        }
    }

    /// Takes rows in that are of the transaction which ends at `at`.
    pub(super) fn rows(&self, rows: &Rows<'_>, at: &Position, into: &mut Gather) -> Result<()> {
        let unknown = || Error::fatal("rows of the binary log are of a table that it has not described");
        let layout = self.layouts.get(&rows.table).ok_or_else(unknown)?;
        let Some(table) = layout.table else { return Ok(()) };
        let followed = &self.followed[table];
        if followed.left || !followed.misses(at) {
            return Ok(());
        }
        let schema = &followed.schema;
        put(rows, layout, table, schema, into).map_err(|e| e.table(&schema.id))
    }
}

impl Followed {
    /// Whether the target lacks what ends at this place.
    fn misses(&self, at: &Position) -> bool {
        self.has.as_ref().is_none_or(|has| at > has)
    }
}

/// How rows stand in the log.
///
/// # Errors
/// Why they cannot be read as the table that is known.
fn layout(table: &TableSchema, map: &TableMap, charsets: &Charsets) -> Result<Vec<(usize, Reading)>, String> {
    map.is_described()?;
    let column = |(name, logged): (&String, &Logged)| {
        let at = table.column(name).ok_or_else(|| format!("it has a column {name} now"))?;
        let reading = Reading::new(&table.columns[at], *logged, charsets);
        Ok((at, reading.ok_or_else(|| format!("its column {name} has another type now"))?))
    };
    let columns = map.names.iter().zip(&map.columns).map(column).collect::<Result<Vec<_>, String>>()?;
    match table.columns.iter().enumerate().find(|(at, _)| !columns.iter().any(|(to, _)| to == at)) {
        Some((_, column)) => Err(format!("it has no column {} any more", column.name)),
        None => Ok(columns),
    }
}

fn put(rows: &Rows<'_>, layout: &Layout, table: usize, schema: &Arc<TableSchema>, into: &mut Gather) -> Result<()> {
    let whole = |present: &[u8]| (0..rows.columns).all(|at| present[at / 8] >> (at % 8) & 1 == 1);
    if rows.columns != layout.columns.len() || !whole(rows.first) || !whole(rows.second) {
        return Err(Error::new(trem_engine::Class::Table, "its rows came without some of their columns")
            .remedy("set binlog_row_image = FULL at the source, in every session that writes"));
    }
    let mut bytes = Bytes::new(&rows.data);
    while !bytes.is_empty() {
        let start = bytes.len();
        let first = image(layout, schema, &mut bytes)?;
        let second = if rows.change == Change::Update { Some(image(layout, schema, &mut bytes)?) } else { None };
        into.row(table, schema, start - bytes.len(), |builder| {
            row(builder, layout, schema, rows.change, &first, second)
        })?;
    }
    Ok(())
}

/// Finds the values of one image.
fn image<'a>(layout: &Layout, schema: &TableSchema, bytes: &mut Bytes<'a>) -> Result<Image<'a>> {
    let nulls = bytes.take(layout.columns.len().div_ceil(8))?;
    let mut image = vec![None; schema.columns.len()];
    for (at, (to, reading)) in layout.columns.iter().enumerate() {
        if nulls[at / 8] >> (at % 8) & 1 == 0 {
            image[*to] = Some(reading.value(bytes)?);
        }
    }
    Ok(image)
}

fn row(
    builder: &mut BatchBuilder,
    layout: &Layout,
    schema: &TableSchema,
    change: Change,
    first: &Image<'_>,
    second: Option<Image<'_>>,
) -> Result<()> {
    let now = second.as_ref().unwrap_or(first);
    for (at, reading) in &layout.columns {
        let column = &mut builder.columns()[*at];
        match now[*at] {
            Some(raw) => {
                reading.push(column, raw).map_err(|e| e.context(format!("column {}", schema.columns[*at].name)))?
            }
            None => column.push_null(),
        }
    }
    let moved = second.is_some() && schema.key.iter().any(|at| first[*at] != now[*at]);
    if second.is_some() && (moved || schema.identity != Identity::Key) {
        let (columns, places) = builder.old_columns();
        for (column, at) in columns.iter_mut().zip(places) {
            let reading = layout.columns.iter().find(|(to, _)| to == at).map(|(_, reading)| reading);
            match first[*at].zip(reading) {
                Some((raw, reading)) => reading.push(column, raw)?,
                None => column.push_null(),
            }
        }
        builder.end_old();
    }
    let op = match change {
        Change::Insert => Op::Insert,
        Change::Update => Op::Update,
        Change::Delete => Op::Delete,
    };
    builder.end_row(op, &ColumnMask::default())
}
