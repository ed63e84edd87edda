//! A table on its way: what the rules so far have made of its name and of its columns.

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use trem_engine::route::Route;
use trem_engine::schema::{Column, Identity, TableId, TableSchema, Type};
use trem_engine::template::Names;
use trem_engine::types::{Dialect, Native};
use trem_engine::{Error, Remedy, Result};

use crate::expression::{Expression, Input};
use crate::formula::Formula;
use crate::program::{Filter, Out, Program, Step};

/// Whose type a column has that a rule has made.
const MADE: Dialect = Dialect::new("trem");

/// A column so far.
#[derive(Clone, Debug)]
struct Work {
    column: Column,
    /// Where its values are while a batch goes through.
    slot: usize,
    /// The columns of the source that its values are made of.
    from: BTreeSet<usize>,
    /// The column of the source that it is, whatever has become of its values.
    source: Option<usize>,
}

/// A column that the target computes.
struct Computed {
    was: String,
    name: String,
}

/// A table and its columns so far.
pub(crate) struct Working<'a> {
    table: &'a Arc<TableSchema>,
    /// The table's name.
    pub(crate) id: TableId,
    columns: Vec<Work>,
    generated: Vec<Computed>,
    steps: Vec<Step>,
    filter: Option<Filter>,
    /// The columns of the key that a rule has chosen, by their names now.
    key: Option<Vec<String>>,
}

impl<'a> Working<'a> {
    /// As the source has it.
    pub(crate) fn new(table: &'a Arc<TableSchema>) -> Self {
        let work = |(at, column): (usize, &Column)| Work {
            column: column.clone(),
            slot: at,
            from: BTreeSet::from([at]),
            source: Some(at),
        };
        let computed = |name: &String| Computed { was: name.clone(), name: name.clone() };
        Self {
            table,
            id: table.id.clone(),
            columns: table.columns.iter().enumerate().map(work).collect(),
            generated: table.generated.iter().map(|c| computed(&c.name)).collect(),
            steps: Vec::new(),
            filter: None,
            key: None,
        }
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
        let reads: BTreeSet<usize> = expression.inputs().flat_map(|at| self.columns[at].from.clone()).collect();
        let omitted = self.table.columns.iter().enumerate().filter(|(_, c)| c.omissible);
        let omitted: Vec<(usize, &Column)> = match self.table.identity {
            Identity::Key => omitted.collect(),
            Identity::KeyWithFullImage | Identity::Full | Identity::InsertOnly => Vec::new(),
        };
        if let Some((_, column)) = omitted.iter().find(|(at, _)| reads.contains(at)) {
            let what =
                format!("the filter needs column {:?}, which the log leaves out where it has not changed", column.name);
            return Err(Error::refused(what).remedy(self.full_image()));
        }
        if let Some((_, column)) = omitted.first() {
            let what = format!(
                "a row that comes to pass the filter has to be whole, and the log leaves out column {:?} where it has \
                 not changed",
                column.name
            );
            return Err(Error::refused(what).remedy(self.full_image()));
        }
        self.filter = Some(Filter::new(expression, self.table));
        Ok(())
    }

    /// What makes the log carry whole rows.
    fn full_image(&self) -> Remedy {
        format!("have the source log whole rows of {} (REPLICA IDENTITY FULL, or a full row image)", self.table.id)
            .into()
    }

    /// Gives a column another name; whether there is one of this name.
    ///
    /// # Errors
    /// Class `Refused` when another column has the name `to`.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Result<bool> {
        let columns = self.columns.iter_mut().map(|c| &mut c.column.name);
        let mut names = columns.chain(self.generated.iter_mut().map(|c| &mut c.name));
        let Some(name) = names.find(|name| *name == from) else { return Ok(false) };
        to.clone_into(name);
        self.key.iter_mut().flatten().filter(|name| *name == from).for_each(|name| to.clone_into(name));
        if self.names().filter(|name| *name == to).count() > 1 {
            let message = format!("column {from:?} would be called {to:?}, as another column is");
            return Err(Error::refused(message).remedy("choose another name, or rename the other column before"));
        }
        Ok(true)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().map(|c| c.column.name.as_str());
        columns.chain(self.generated.iter().map(|c| c.name.as_str()))
    }

    fn expression(&self, formula: &Formula) -> Result<Expression> {
        let inputs: Vec<Input<'_>> =
            self.columns.iter().map(|c| Input { name: &c.column.name, ty: &c.column.ty }).collect();
        Expression::new(formula, &inputs)
    }

    /// Has an expression computed; its place, and the columns of the source that it is made of.
    fn compute(&mut self, formula: &Formula, ty: &Type) -> Result<(usize, BTreeSet<usize>)> {
        let expression = self.expression(formula)?;
        let from: BTreeSet<usize> = expression.inputs().flat_map(|at| self.columns[at].from.clone()).collect();
        let slots = self.columns.iter().map(|c| c.slot).collect();
        self.steps.push(Step::new(expression, slots, ty.clone(), from.clone())?);
        Ok((self.table.columns.len() + self.steps.len() - 1, from))
    }

    fn omissible(&self, from: &BTreeSet<usize>) -> bool {
        from.iter().any(|at| self.table.columns[*at].omissible)
    }

    /// Puts other values into a column; whether there is one of this name.
    pub(crate) fn set(&mut self, name: &str, value: &Formula) -> Result<bool> {
        let Some(at) = self.columns.iter().position(|c| c.column.name == name) else { return Ok(false) };
        let (slot, from) = self.compute(value, &self.columns[at].column.ty.clone())?;
        let omissible = self.omissible(&from);
        let key = self.is_key(at);
        let work = &mut self.columns[at];
        (work.slot, work.from, work.column.omissible) = (slot, from, omissible);
        // An expression may give NULL where the source has none.
        work.column.nullable |= !key;
        Ok(true)
    }

    /// Adds a column.
    pub(crate) fn create(&mut self, name: &str, ty: &Type, value: &Formula) -> Result<()> {
        if self.names().any(|known| known == name) {
            let what = format!("there is a column {name:?} already");
            return Err(Error::refused(what).remedy("choose another name, or use set-value"));
        }
        let (slot, from) = self.compute(value, ty)?;
        let native = Native { dialect: MADE, name: ty.to_string(), detail: String::new() };
        let omissible = self.omissible(&from);
        let column = Column { name: name.to_owned(), ty: ty.clone(), native, nullable: true, omissible };
        self.columns.push(Work { column, slot, from, source: None });
        Ok(())
    }

    /// Leaves a column out; whether there is one of this name.
    pub(crate) fn drop(&mut self, name: &str) -> Result<bool> {
        if let Some(at) = self.generated.iter().position(|c| c.name == name) {
            self.generated.remove(at);
            return Ok(true);
        }
        let Some(at) = self.columns.iter().position(|c| c.column.name == name) else { return Ok(false) };
        if self.is_key(at) {
            let what = format!("column {name:?} is part of the key, by which rows are told apart");
            let remedy = Remedy::from("name another key before, with set-key");
            return Err(Error::refused(what).remedy(remedy.or("keep it, and mask it with set-value")));
        }
        self.columns.remove(at);
        Ok(true)
    }

    /// Whether rows are told apart by this column, among others.
    fn is_key(&self, at: usize) -> bool {
        let work = &self.columns[at];
        match &self.key {
            Some(key) => key.contains(&work.column.name),
            None => {
                let keys = [&self.table.key, &self.table.primary_key];
                work.source.is_some_and(|source| keys.iter().any(|key| key.contains(&source)))
            }
        }
    }

    /// Tells rows apart by these columns; whether there are such.
    ///
    /// # Errors
    /// Class `Refused` where the log does not have what they were before a change.
    pub(crate) fn set_key(&mut self, names: &[String]) -> Result<bool> {
        let place = |name: &String| self.columns.iter().position(|c| c.column.name == *name);
        let Some(places) = names.iter().map(place).collect::<Option<Vec<usize>>>() else { return Ok(false) };
        for at in &places {
            self.keeps_old(&self.columns[*at])?;
        }
        for at in places {
            self.columns[at].column.nullable = false;
        }
        self.key = Some(names.to_vec());
        Ok(true)
    }

    /// Fails unless the log has what a column was before a change.
    fn keeps_old(&self, work: &Work) -> Result<()> {
        let old = self.table.old_columns();
        let lost = work.from.iter().find(|from| !old.contains(from));
        let Some(other) = lost.filter(|_| self.table.identity != Identity::InsertOnly) else { return Ok(()) };
        let (key, other) = (&work.column.name, &self.table.columns[*other].name);
        let what = format!(
            "key column {key:?} is made of {other:?}, whose old value the log does not have: a row whose key has \
             changed would not be found"
        );
        Err(Error::refused(what).remedy(self.full_image()))
    }

    /// From the table as it is to what has become of it.
    pub(crate) fn route(self) -> Result<Route> {
        let source = self.table;
        let straight = self.columns.len() == source.columns.len()
            && self.columns.iter().enumerate().all(|(at, c)| c.slot == at && c.source == Some(at))
            && self.key.is_none();
        let mut target = (**source).clone();
        target.id.clone_from(&self.id);
        target.columns = self.columns.iter().map(|c| c.column.clone()).collect();
        let renamed = |column: &trem_engine::schema::GeneratedColumn| {
            let name = &self.generated.iter().find(|c| c.was == column.name)?.name;
            let expression = column.expression.renamed(&source.id, &self)?;
            Some(trem_engine::schema::GeneratedColumn { name: name.clone(), expression, ..column.clone() })
        };
        target.generated = source.generated.iter().filter_map(renamed).collect();
        if target == **source && straight && self.filter.is_none() {
            return Ok(Route::straight(Arc::clone(source)));
        }
        // The number is that of the source's table.
        target.native_id = None;
        if straight && self.filter.is_none() && target.generated.len() == source.generated.len() {
            return Route::renamed(Arc::clone(source), Arc::new(target));
        }
        self.place_keys(&mut target)?;
        let target = Arc::new(target.made_by(&self.fingerprint()));
        let outs = self.columns.iter().map(|c| Out { slot: c.slot, from: c.from.iter().copied().collect() }).collect();
        let places = (0..source.columns.len()).map(|at| self.place_of(at)).collect();
        let program = Program::new(Arc::clone(source), Arc::clone(&target), self.steps, outs, places, self.filter);
        Ok(Route::mapped(Arc::clone(source), target, Arc::new(program)))
    }

    /// What tells the values and the rows that come out apart from those of other rules. Of an expression that holds a
    /// variable nothing can be seen in it.
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for formula in self.filter.iter().map(Filter::formula).chain(self.steps.iter().map(Step::formula)) {
            hash.update(formula.text());
            hash.update([0]);
        }
        for column in &self.columns {
            hash.update(format!("{} {};", column.slot, column.column.name));
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Where a column of the source is in the end with the values it has.
    fn place_of(&self, source: usize) -> Option<usize> {
        self.columns.iter().position(|c| c.source == Some(source) && c.slot == source)
    }

    fn place_keys(&self, target: &mut TableSchema) -> Result<()> {
        let source = self.table;
        let place = |at: &usize| self.columns.iter().position(|c| c.source == Some(*at));
        let named = |key: &[String]| key.iter().filter_map(|name| target.column(name)).collect::<Vec<usize>>();
        (target.key, target.primary_key) = match &self.key {
            Some(key) => (named(key), named(key)),
            None => {
                let of = |key: &[usize]| key.iter().filter_map(place).collect();
                (of(&source.key), of(&source.primary_key))
            }
        };
        if !target.key.is_empty() {
            target.identity = Identity::Key;
        }
        target.key.iter().try_for_each(|at| self.keeps_old(&self.columns[*at]))
    }
}

/// Inside the table alone: the names of others, and what is not a column, stay. A column whose values are others now
/// has no name.
impl Names for Working<'_> {
    fn table(&self, id: &TableId) -> Option<TableId> {
        Some(if *id == self.table.id { self.id.clone() } else { id.clone() })
    }

    fn column(&self, table: &TableId, column: &str) -> Option<String> {
        if *table != self.table.id {
            return Some(column.to_owned());
        }
        if let Some(at) = self.table.column(column) {
            return self.place_of(at).map(|place| self.columns[place].column.name.clone());
        }
        match self.table.generated.iter().any(|c| c.name == column) {
            true => self.generated.iter().find(|c| c.was == column).map(|c| c.name.clone()),
            false => Some(column.to_owned()),
        }
    }
}
