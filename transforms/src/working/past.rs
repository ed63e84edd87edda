//! Targets that keep what the source has no more.

use trem_engine::schema::{Identity, Length, Type};
use trem_engine::{Error, Result};

use super::Working;
use crate::program::{Filter, Past};

impl Working<'_> {
    /// Has rows that are deleted marked in a column of this name.
    ///
    /// # Errors
    /// Class `Refused` where it cannot be known which row of the target that is.
    pub(crate) fn soft_delete(&mut self, column: &str) -> Result<()> {
        if self.key.as_ref().map_or(self.table.key.is_empty(), Vec::is_empty) {
            let what = "the table has no key, and a row that is marked as deleted could not be told from others";
            return Err(Error::refused(what).remedy("name a key before, with set-key, or use history"));
        }
        self.knows_who_passed()?;
        if self.sets_aside && self.table.identity != Identity::KeyWithFullImage {
            let what = "a row that was set aside is not on the target, and when it is deleted the log does not have \
                        the whole of it to put there";
            return Err(Error::refused(what).remedy(self.full_image().or("leave on-row-error out")));
        }
        self.create_empty(column, &Type::TimestampTz(6))?;
        self.past = Past::SoftDelete;
        Ok(())
    }

    /// Has every change kept as a row.
    ///
    /// # Errors
    /// Class `Refused` where the log does not tell all of a change.
    pub(crate) fn history(&mut self, prefix: &str) -> Result<()> {
        self.knows_who_passed()?;
        let omitted = self.omitted();
        let left_out = |at: &usize| omitted.iter().find(|(omitted, _)| omitted == at);
        if let Some((_, column)) = self.columns.iter().flat_map(|c| &c.from).find_map(left_out) {
            let what = format!(
                "a history has whole rows, and the log leaves out column {:?} where it has not changed",
                column.name
            );
            return Err(Error::refused(what).remedy(self.full_image()));
        }
        let text = Type::Text(Length::Unlimited);
        let columns = [
            ("operation", text.clone()),
            ("position", text),
            ("sequence", Type::Int64),
            ("committed_at", Type::TimestampTz(6)),
        ];
        for (name, ty) in columns {
            self.create_empty(&format!("{prefix}{name}"), &ty)?;
        }
        self.columns.iter_mut().for_each(|c| c.column.nullable = true);
        self.past = Past::History;
        Ok(())
    }

    /// Has every change kept in another table, whose columns are those that all rules together make.
    ///
    /// # Errors
    /// See [`Working::history`].
    pub(crate) fn keep_history(&mut self, prefix: &str, suffix: &str) -> Result<()> {
        if self.history.replace((prefix.to_owned(), suffix.to_owned())).is_some() {
            let what = "a history of the table is kept already";
            return Err(Error::refused(what).remedy("leave one of the two rules out"));
        }
        self.kept_history().map(drop)
    }

    /// The history that is kept beside the table, as far as the rules have come.
    pub(super) fn kept_history(&self) -> Result<Option<Self>> {
        let Some((prefix, suffix)) = &self.history else { return Ok(None) };
        let mut history = Self { history: None, ..self.clone() };
        if matches!(self.past, Past::SoftDelete) {
            // The column that marks deleted rows: the history has deletes as such.
            history.columns.pop();
        }
        history.id.table.push_str(suffix);
        history.history(prefix)?;
        Ok(Some(history))
    }

    /// A delete of a row that has never been let through would be told as one.
    fn knows_who_passed(&self) -> Result<()> {
        if self.filter.as_ref().is_none_or(Filter::is_certain) {
            return Ok(());
        }
        let what = "the table has a filter, and the log does not tell of every row whether it passed before";
        Err(Error::refused(what).remedy(self.full_image()))
    }
}
