//! What rows are told apart by.

use trem_engine::schema::{Identity, TableSchema};
use trem_engine::{Error, Result};

use super::{Work, Working};

impl Working<'_> {
    /// Whether rows are told apart by this column, among others.
    pub(super) fn is_key(&self, at: usize) -> bool {
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
        let key = &work.column.name;
        if work.of_change {
            let what = format!("key column {key:?} would be another one for each change of a row");
            return Err(Error::refused(what).remedy("make the key of what belongs to the row: its columns"));
        }
        let old = self.table.old_columns();
        let lost = work.from.iter().find(|from| !old.contains(from));
        let Some(other) = lost.filter(|_| self.table.identity != Identity::InsertOnly) else { return Ok(()) };
        let other = &self.table.columns[*other].name;
        let what = format!(
            "key column {key:?} is made of {other:?}, whose old value the log does not have: a row whose key has \
             changed would not be found"
        );
        Err(Error::refused(what).remedy(self.full_image()))
    }

    pub(super) fn place_keys(&self, target: &mut TableSchema) -> Result<()> {
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
