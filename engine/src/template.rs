//! Statements and expressions in the SQL of one database, in which tables and columns can be called otherwise.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::TableId;
use crate::types::Dialect;

/// A text in one dialect of SQL whose names of tables and columns are apart from the rest, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The kind of database that reads it, as its endpoint calls itself.
    pub dialect: Dialect,
    /// The text, in order.
    pub pieces: Vec<Piece>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// What stays as it is.
    Text(String),
    /// A column of the table that the template belongs to.
    Column(String),
    /// A table.
    Table(TableId),
    /// A column of another table.
    ColumnOf(TableId, String),
}

/// What tables and columns are called instead.
pub trait Names {
    /// The table's name there; the same one if nothing is known of it. `None`: it is not there.
    fn table(&self, id: &TableId) -> Option<TableId>;

    /// A column's name there. `None`: it is not there.
    fn column(&self, table: &TableId, column: &str) -> Option<String>;
}

impl Template {
    /// A text without names that could change.
    pub fn verbatim(dialect: Dialect, text: impl Into<String>) -> Self {
        Self { dialect, pieces: vec![Piece::Text(text.into())] }
    }

    /// The tables it names.
    pub fn tables(&self) -> impl Iterator<Item = &TableId> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Table(id) | Piece::ColumnOf(id, _) => Some(id),
            Piece::Text(_) | Piece::Column(_) => None,
        })
    }

    /// The same with other names; `own` is the table it belongs to, under its name until now. `None` if it names
    /// something that is not there any more.
    pub fn renamed(&self, own: &TableId, names: &dyn Names) -> Option<Self> {
        let piece = |piece: &Piece| {
            Some(match piece {
                Piece::Text(text) => Piece::Text(text.clone()),
                Piece::Column(column) => Piece::Column(names.column(own, column)?),
                Piece::Table(id) => Piece::Table(names.table(id)?),
                Piece::ColumnOf(id, column) => Piece::ColumnOf(names.table(id)?, names.column(id, column)?),
            })
        };
        let pieces = self.pieces.iter().map(piece).collect::<Option<_>>()?;
        Some(Self { dialect: self.dialect.clone(), pieces })
    }

    /// The text, every name quoted by `ident`; tables are qualified with their schema.
    pub fn render(&self, ident: impl Fn(&str) -> String) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Column(column) | Piece::ColumnOf(_, column) => out.push_str(&ident(column)),
                Piece::Table(id) => {
                    out.push_str(&ident(&id.schema));
                    out.push('.');
                    out.push_str(&ident(&id.table));
                }
            }
        }
        out
    }
}

/// For people: names without quotes.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Upper;

    impl Names for Upper {
        fn table(&self, id: &TableId) -> Option<TableId> {
            (id.table != "gone").then(|| TableId::new("S", id.table.to_uppercase()))
        }

        fn column(&self, table: &TableId, column: &str) -> Option<String> {
            (column != "gone").then(|| format!("{}_{column}", table.table))
        }
    }

    fn foreign_key(to: &str, column: &str) -> Template {
        let to = TableId::new("s", to);
        let text = |t: &str| Piece::Text(t.to_owned());
        let (own, other) = (Piece::Column("a".to_owned()), Piece::ColumnOf(to.clone(), column.to_owned()));
        let pieces = vec![text("FOREIGN KEY ("), own, text(") REFERENCES "), Piece::Table(to), text(" ("), other];
        Template { dialect: Dialect::new("d"), pieces }
    }

    #[test]
    fn names_change_and_text_stays() {
        let own = TableId::new("s", "t");
        let template = foreign_key("other", "b");
        assert_eq!(template.to_string(), "FOREIGN KEY (a) REFERENCES s.other (b");
        let renamed = template.renamed(&own, &Upper).expect("all names are there");
        assert_eq!(renamed.render(|name| format!("<{name}>")), "FOREIGN KEY (<t_a>) REFERENCES <S>.<OTHER> (<other_b>");
        assert_eq!(renamed.tables().next(), Some(&TableId::new("S", "OTHER")));
        assert_eq!(foreign_key("gone", "b").renamed(&own, &Upper), None);
        assert_eq!(foreign_key("other", "gone").renamed(&own, &Upper), None);
    }
}
