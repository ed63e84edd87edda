//! SQL text: names and literals that mean what they say whatever characters they hold.

use trem_engine::schema::TableId;

use crate::target::part::Quotes;

/// As others write statements with it.
pub(super) const QUOTES: Quotes = Quotes { ident, table, literal };

/// A name, quoted.
pub fn ident(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    out.push('"');
    for c in name.chars() {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A table's qualified name, quoted.
pub fn table(id: &TableId) -> String {
    format!("{}.{}", ident(&id.schema), ident(&id.table))
}

/// A string literal, read the same whatever `standard_conforming_strings` is.
pub fn literal(text: &str) -> String {
    let escaped = text.contains('\\');
    let mut out = String::with_capacity(text.len() + 4);
    out.push_str(if escaped { " E'" } else { "'" });
    for c in text.chars() {
        if c == '\'' || c == '\\' {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
    out
}

/// Names, quoted and separated by commas.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'"), " E'a\\\\'''");
        assert_eq!(table(&TableId::new("S x", "Größe")), "\"S x\".\"Größe\"");
        assert_eq!(list(["a", "b"]), "\"a\", \"b\"");
    }
}
