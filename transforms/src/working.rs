//! A table on its way: what the rules so far have made of its name and of its columns.

mod key;
mod past;
mod route;
mod values;

use std::collections::BTreeSet;
use std::sync::Arc;

use trem_engine::schema::{Column, Identity, Native, TableId, TableSchema};
use trem_engine::{Error, Remedy, Result};

use crate::columns::{ColumnPattern, Columns};
use crate::formula::Formula;
use crate::naming::Naming;
use crate::program::{Filter, Past, Step};

/// A column so far.
#[derive(Clone, Debug)]
struct Work {
    column: Column,
    /// Where its values are while a batch goes through.
    slot: usize,
    /// The columns of the source that its values are made of.
    from: BTreeSet<usize>,
    /// Its values are made of what is different for each change, too.
    of_change: bool,
    /// The column of the source that it is, whatever has become of its values.
    source: Option<usize>,
    /// Its values are not those that the source has, whatever type they have got.
    replaced: bool,
    /// The steps that have converted it.
    conversions: Vec<usize>,
    /// Its values are made of the table's name alone.
    of_name: bool,
}

/// A column that the target computes.
#[derive(Clone)]
struct Computed {
    was: String,
    name: String,
    native: Native,
}

/// A table and its columns so far.
#[derive(Clone)]
pub(crate) struct Working<'a> {
    table: &'a Arc<TableSchema>,
    task: &'a str,
    /// The table's name.
    pub(crate) id: TableId,
    columns: Vec<Work>,
    generated: Vec<Computed>,
    steps: Vec<Step>,
    filter: Option<Filter>,
    /// The columns of the key that a rule has chosen, by their names now.
    key: Option<Vec<String>>,
    past: Past,
    /// Every change is kept in another table: what the names of its columns that tell of changes begin with, and what
    /// its own ends with.
    history: Option<(String, String)>,
    /// Rows that cannot be done are set aside.
    sets_aside: bool,
    /// Other tables may become the same one.
    pub(crate) merges: bool,
    /// What values lose although they fit, for people.
    pub(crate) losses: Vec<String>,
}

impl<'a> Working<'a> {
    /// As the source has it. `task`: the task's name; `sets_aside`: rows that cannot be done are set aside.
    pub(crate) fn new(table: &'a Arc<TableSchema>, task: &'a str, sets_aside: bool) -> Self {
        let work = |(at, column): (usize, &Column)| Work {
            column: column.clone(),
            slot: at,
            from: BTreeSet::from([at]),
            of_change: false,
            source: Some(at),
            replaced: false,
            conversions: Vec::new(),
            of_name: false,
        };
        let computed = |c: &trem_engine::schema::GeneratedColumn| Computed {
            was: c.name.clone(),
            name: c.name.clone(),
            native: c.native.clone(),
        };
        Self {
            table,
            task,
            id: table.id.clone(),
            columns: table.columns.iter().enumerate().map(work).collect(),
            generated: table.generated.iter().map(computed).collect(),
            steps: Vec::new(),
            filter: None,
            key: None,
            past: Past::None,
            history: None,
            sets_aside,
            merges: false,
            losses: Vec::new(),
        }
    }

    /// Its name at the source.
    pub(crate) fn source_id(&self) -> &'a TableId {
        &self.table.id
    }

    /// What its columns are called so far.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().map(|c| c.column.name.as_str());
        columns.chain(self.generated.iter().map(|c| c.name.as_str()))
    }

    /// Lets through only rows for which this is true.
    ///
    /// # Errors
    /// Class `Refused` where the log does not tell for every change whether the row was let through before.
    pub(crate) fn filter(&mut self, formula: &Formula) -> Result<()> {
        let expression = self.expression(formula)?;
        if !expression.is_bool() {
            let what = format!("a filter is true or false, and {formula} is {}", expression.ty());
            return Err(Error::refused(what).remedy("compare it with something"));
        }
        if let Some(metadata) = expression.inputs().find(|at| *at >= self.columns.len()) {
            let name = crate::metadata::Metadata::ALL[metadata - self.columns.len()].name();
            let what =
                format!("{name}() is not of the row: of each row it is to be known at any time whether it passes");
            return Err(Error::refused(what).remedy("filter by columns of the table"));
        }
        let reads: BTreeSet<usize> = expression.inputs().flat_map(|at| self.columns[at].from.clone()).collect();
        let omitted = self.omitted();
        if let Some((_, column)) = omitted.iter().find(|(at, _)| reads.contains(at)) {
            let what =
                format!("the filter needs column {:?}, which the log leaves out where it has not changed", column.name);
            return Err(Error::refused(what).remedy(self.full_image()));
        }
        self.filter = Some(Filter::new(expression, self.table));
        Ok(())
    }

    /// The columns whose values the log may leave out.
    fn omitted(&self) -> Vec<(usize, &'a Column)> {
        match self.table.identity {
            Identity::Key => self.table.columns.iter().enumerate().filter(|(_, c)| c.omissible).collect(),
            Identity::KeyWithFullImage | Identity::Full | Identity::InsertOnly => Vec::new(),
        }
    }

    /// What makes the log carry whole rows.
    fn full_image(&self) -> Remedy {
        format!("have the source log whole rows of {} (REPLICA IDENTITY FULL, or a full row image)", self.table.id)
            .into()
    }

    /// Gives columns other names, all at once; whether there are such.
    ///
    /// # Errors
    /// Class `Refused` when two columns would have one name.
    pub(crate) fn rename(&mut self, columns: &Columns, naming: &Naming) -> Result<bool> {
        let new = |pattern: Option<&ColumnPattern>, name: &str| {
            Some(naming.of(name, &|template| pattern.map_or_else(String::new, |p| p.fill(name, template))))
                .filter(|_| pattern.is_some())
        };
        let mut renamed = Vec::new();
        for work in &mut self.columns {
            let pattern = columns.pattern(|p| p.covers(&work.column));
            if let Some(to) = new(pattern, &work.column.name) {
                renamed.push((std::mem::replace(&mut work.column.name, to.clone()), to));
            }
        }
        for generated in &mut self.generated {
            let pattern = columns.pattern(|p| p.covers_generated(&generated.name, &generated.native));
            if let Some(to) = new(pattern, &generated.name) {
                renamed.push((std::mem::replace(&mut generated.name, to.clone()), to));
            }
        }
        for name in self.key.iter_mut().flatten() {
            if let Some((_, to)) = renamed.iter().find(|(from, _)| from == name) {
                name.clone_from(to);
            }
        }
        for (from, to) in &renamed {
            if to.is_empty() {
                let what = format!("nothing would be left of the name of column {from:?}");
                return Err(Error::refused(what).remedy("give it a name"));
            }
            if self.names().filter(|name| name == to).count() > 1 {
                let message = format!("column {from:?} would be called {to:?}, as another column is");
                return Err(Error::refused(message).remedy("choose another name, or rename the other column before"));
            }
        }
        Ok(!renamed.is_empty())
    }

    /// Leaves columns out; whether there were such.
    pub(crate) fn drop(&mut self, columns: &Columns) -> Result<bool> {
        let goes: Vec<bool> = self.columns.iter().map(|work| columns.cover(&work.column)).collect();
        let before = self.columns.len() + self.generated.len();
        if let Some(key) = (0..self.columns.len()).find(|at| goes[*at] && self.is_key(*at)) {
            let what =
                format!("column {:?} is part of the key, by which rows are told apart", self.columns[key].column.name);
            let remedy = Remedy::from("name another key before, with set-key");
            return Err(Error::refused(what).remedy(remedy.or("keep it, and mask it with set-value")));
        }
        let mut goes = goes.into_iter();
        self.columns.retain(|_| !goes.next().unwrap_or(false));
        self.generated.retain(|c| !columns.cover_generated(&c.name, &c.native));
        Ok(self.columns.len() + self.generated.len() < before)
    }

    /// Leaves all other columns out; whether there were such.
    ///
    /// # Errors
    /// Class `Refused` where a name is that of no column.
    pub(crate) fn keep(&mut self, columns: &Columns) -> Result<()> {
        for name in columns.0.iter().filter_map(ColumnPattern::exact) {
            if !self.names().any(|known| known == name) {
                let near = crate::near::to(&name, self.names()).map(|n| format!(" (did you mean {n:?}?)"));
                let what = format!("the table has no column {name:?}{}", near.unwrap_or_default());
                return Err(Error::refused(what).remedy("correct the name: names are case-sensitive"));
            }
        }
        if let Some(key) =
            (0..self.columns.len()).find(|at| !columns.cover(&self.columns[*at].column) && self.is_key(*at))
        {
            let what = format!(
                "column {:?} is left out, and is part of the key, by which rows are told apart",
                self.columns[key].column.name
            );
            let remedy = Remedy::from("add it to `columns`");
            return Err(Error::refused(what).remedy(remedy.or("use the rules set-key and drop-column instead")));
        }
        self.columns.retain(|work| columns.cover(&work.column));
        self.generated.retain(|c| columns.cover_generated(&c.name, &c.native));
        Ok(())
    }

    /// Whether nothing but its name can be changed any more.
    pub(crate) fn ends_rows(&self) -> bool {
        !matches!(self.past, Past::None)
    }
}
