//! Which tables a task replicates: globs on `schema.table`.

use std::fmt;

use crate::schema::TableId;

/// A pattern on `schema.table`: `*` stands for any run of characters, `?` for one. A name that itself has one of
/// these characters or a dot is written with a backslash before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    schema: Vec<Piece>,
    table: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(char),
    One,
    Any,
}

impl Glob {
    /// Parses a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = vec![Vec::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                '.' => {
                    parts.push(Vec::new());
                    continue;
                }
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => Piece::Literal(chars.next().ok_or("a backslash at the end escapes nothing")?),
                c => Piece::Literal(c),
            };
            if let Some(part) = parts.last_mut() {
                part.push(piece);
            }
        }
        match <[Vec<Piece>; 2]>::try_from(parts) {
            Ok([schema, table]) if !schema.is_empty() && !table.is_empty() => {
                Ok(Self { text: text.to_owned(), schema, table })
            }
            _ => Err(format!("`{text}` is not of the form schema.table, such as public.*")),
        }
    }

    /// The pattern that covers this table alone.
    pub fn exactly(id: &TableId) -> Self {
        let pieces = |name: &str| name.chars().map(Piece::Literal).collect();
        Self { text: id.to_string(), schema: pieces(&id.schema), table: pieces(&id.table) }
    }

    /// Whether the pattern covers this table.
    pub fn matches(&self, id: &TableId) -> bool {
        covers(&self.schema, &id.schema) && covers(&self.table, &id.table)
    }

    /// The one table this pattern names, if it has no wildcard.
    pub fn exact(&self) -> Option<TableId> {
        Some(TableId::new(literal(&self.schema)?, literal(&self.table)?))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn literal(pieces: &[Piece]) -> Option<String> {
    pieces.iter().map(|p| if let Piece::Literal(c) = p { Some(*c) } else { None }).collect()
}

fn covers(pattern: &[Piece], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Piece::Any) => {
                retry = Some((p, t));
                p += 1;
                continue;
            }
            Some(Piece::One) => {
                p += 1;
                t += 1;
                continue;
            }
            Some(Piece::Literal(c)) if *c == text[t] => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        let Some((star, from)) = retry else { return false };
        p = star + 1;
        t = from + 1;
        retry = Some((star, from + 1));
    }
    pattern[p..].iter().all(|p| *p == Piece::Any)
}

/// One `[[tables]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRule {
    /// A table is taken if one of these covers it,
    pub include: Vec<Glob>,
    /// and none of these does.
    pub exclude: Vec<Glob>,
}

/// The tables of a task: those that at least one rule takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The rules.
    pub rules: Vec<TableRule>,
}

impl Selection {
    /// Whether the table is selected.
    pub fn takes(&self, id: &TableId) -> bool {
        self.rules.iter().any(|r| r.include.iter().any(|g| g.matches(id)) && !r.exclude.iter().any(|g| g.matches(id)))
    }

    /// Whether a pattern without wildcards names exactly this table.
    pub fn names(&self, id: &TableId) -> bool {
        self.rules.iter().flat_map(|r| &r.include).any(|g| g.exact().as_ref() == Some(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, schema: &str, table: &str) -> bool {
        Glob::parse(pattern).expect("pattern").matches(&TableId::new(schema, table))
    }

    #[test]
    fn wildcards() {
        assert!(takes("public.*", "public", "a"));
        assert!(!takes("public.*", "publicx", "a"));
        assert!(takes("*.audit_*", "s", "audit_log"));
        assert!(takes("*.*a*b?", "s", "xxaxxabc"));
        assert!(!takes("*.*a*b?", "s", "xxaxxab"));
        assert!(takes("my\\.schema.t\\*", "my.schema", "t*"));
        assert!(takes("Größe.表", "Größe", "表"));
    }

    #[test]
    fn the_pattern_of_one_table_names_it() {
        let id = TableId::new("my.schema", "a\\*?b");
        assert_eq!(Glob::exactly(&id).to_string(), "my\\.schema.a\\\\\\*\\?b");
        assert_eq!(Glob::parse(&Glob::exactly(&id).to_string()), Ok(Glob::exactly(&id)));
    }

    #[test]
    fn malformed_patterns_say_why() {
        for bad in ["public", "a.b.c", ".t", "s.", "a.b\\"] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
    }
}
