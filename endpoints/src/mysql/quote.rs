//! Names and text in statements.

use trem_engine::schema::TableId;

use crate::target::part::Quotes;

/// As others write statements with it.
pub(super) const QUOTES: Quotes = Quotes { ident, table, literal };

/// A name. (MySQL manual, "Schema Object Names".)
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table.
pub(super) fn table(id: &TableId) -> String {
    format!("{}.{}", ident(&id.schema), ident(&id.table))
}

/// A text, for sessions in which a backslash escapes.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_stay_what_they_are() {
        assert_eq!(table(&TableId::new("a.b", "t`x'y\"z")), "`a.b`.`t``x'y\"z`");
        assert_eq!(literal("O'Neil\\"), "'O''Neil\\\\'");
    }
}
