//! Tables that several tables of a source become: what is done with the rows of one leaves those of the others alone.

use trem_engine::schema::TableId;
use trem_engine::{Class, Error, Result};

/// How a dialect writes names, tables and texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotes {
    /// A name.
    pub(crate) ident: fn(&str) -> String,
    /// A table.
    pub(crate) table: fn(&TableId) -> String,
    /// A text.
    pub(crate) literal: fn(&str) -> String,
}

impl Quotes {
    /// What is true of the rows that are meant, to be put behind other conditions; empty for all rows.
    pub(crate) fn and_own(self, id: &TableId) -> String {
        let own = id.part.iter().flat_map(|part| &part.columns);
        own.map(|(column, value)| format!(" AND {} = {}", (self.ident)(column), (self.literal)(value))).collect()
    }

    /// The statement that deletes the rows that are meant.
    ///
    /// # Errors
    /// Class `Table` where nobody can say which they are.
    pub(crate) fn delete(self, id: &TableId) -> Result<String> {
        if id.is_mixed() {
            let what = "its rows on the target cannot be told from those of the other tables that become the same one";
            let remedy = "add a column with create-column, made of source_table() or source_schema(), and load all of \
                          them anew";
            return Err(Error::new(Class::Table, what).target_table(id).remedy(remedy));
        }
        Ok(format!("DELETE FROM {} WHERE true{}", (self.table)(id), self.and_own(id)))
    }
}
