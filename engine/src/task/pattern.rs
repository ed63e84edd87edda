//! Patterns on names: globs and regular expressions.

use std::fmt;

use regex::{Captures, Regex};

use crate::schema::TableId;

/// A pattern on tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `schema.table` with wildcards.
    Glob(Glob),
    /// A regular expression that the whole of `schema.table` matches, names as they are stored.
    Regex(NameRegex),
}

impl Pattern {
    /// A glob; the error says what is wrong with it.
    pub fn glob(text: &str) -> Result<Self, String> {
        Glob::parse(text).map(Self::Glob)
    }

    /// Whether the pattern covers this table.
    pub fn matches(&self, id: &TableId) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(id),
            Self::Regex(regex) => regex.matches(&plain(id)),
        }
    }

    /// The one table this pattern names, if it is a glob without wildcards.
    pub fn exact(&self) -> Option<TableId> {
        match self {
            Self::Glob(glob) => glob.exact(),
            Self::Regex(_) => None,
        }
    }

    /// `template` with the groups that a regular expression has found in the table's name: `$1`, `$name`.
    pub fn fill(&self, id: &TableId, template: &str) -> String {
        match self {
            Self::Glob(_) => template.to_owned(),
            Self::Regex(regex) => regex.fill(&plain(id), template),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glob(glob) => glob.fmt(f),
            Self::Regex(regex) => regex.fmt(f),
        }
    }
}

/// What a regular expression is matched with.
fn plain(id: &TableId) -> String {
    format!("{}.{}", id.schema, id.table)
}

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
        match <[Vec<Piece>; 2]>::try_from(pieces(text, Some('.'))?) {
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

/// A pattern on one name, such as that of a column: as a [`Glob`], but a dot is a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameGlob {
    text: String,
    pieces: Vec<Piece>,
}

impl NameGlob {
    /// Parses a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pieces = pieces(text, None)?.pop().filter(|pieces| !pieces.is_empty()).ok_or("it is empty")?;
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// Whether it covers a name.
    pub fn matches(&self, name: &str) -> bool {
        covers(&self.pieces, name)
    }

    /// The one name it covers, if it has no wildcard.
    pub fn exact(&self) -> Option<String> {
        literal(&self.pieces)
    }
}

impl fmt::Display for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A regular expression that a whole name has to match: the syntax is that of the crate `regex`.
#[derive(Clone, Debug)]
pub struct NameRegex {
    text: String,
    regex: Regex,
}

impl NameRegex {
    /// Parses an expression; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // By itself first, so that an error shows what was written, and a stray parenthesis is one.
        Regex::new(text).map_err(|e| said(&e))?;
        let regex = Regex::new(&format!("^(?:{text})$")).map_err(|e| said(&e))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Whether all of a name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }

    /// `template` with what the groups have found in `name` in the place of `$1`, `$name`, `${1}`; `$$` is a dollar.
    pub fn fill(&self, name: &str, template: &str) -> String {
        let Some(found) = self.regex.captures(name) else { return template.to_owned() };
        let mut out = String::new();
        Captures::expand(&found, template, &mut out);
        out
    }

    /// What a template names that is no group of the expression.
    pub fn lacks(&self, template: &str) -> Option<String> {
        let mut rest = template.replace("$$", "");
        while let Some((_, after)) = rest.split_once('$') {
            let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}').map(|(name, _)| name));
            let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            let name = braced.map_or_else(|| word(after), str::to_owned);
            let known = match name.parse::<usize>() {
                Ok(number) => number < self.regex.captures_len(),
                Err(_) => self.regex.capture_names().flatten().any(|group| group == name),
            };
            if !known && !name.is_empty() {
                return Some(name);
            }
            rest = after.to_owned();
        }
        None
    }
}

/// The last line says what is wrong, those before it draw where.
fn said(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl PartialEq for NameRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NameRegex {}

impl fmt::Display for NameRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

/// The parts between `cut`s, each in pieces.
fn pieces(text: &str, cut: Option<char>) -> Result<Vec<Vec<Piece>>, String> {
    let mut parts = vec![Vec::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let piece = match c {
            c if Some(c) == cut => {
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
    Ok(parts)
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

    #[test]
    fn a_regular_expression_is_of_the_whole_name() {
        let regex = |text: &str| Pattern::Regex(NameRegex::parse(text).expect("regex"));
        let table = |schema: &str, table: &str| TableId::new(schema, table);
        let shops = regex(r"shop_(\d+)\.(?<what>[a-z]+)|b");
        assert!(shops.matches(&table("shop_12", "orders")));
        assert!(!shops.matches(&table("shop_12", "orders2")) && !shops.matches(&table("a", "b")));
        assert_eq!(shops.fill(&table("shop_12", "orders"), "s$1-$what$$"), "s12-orders$");
        assert_eq!(shops.fill(&table("shop_12", "orders"), "s${1}_${what}"), "s12_orders");
    }

    #[test]
    fn what_is_no_group_is_told() {
        let regex = NameRegex::parse(r"(\d+)\.(?<what>.*)").expect("regex");
        for known in ["$1", "${2}", "$what", "x$$9", "$0", "$", "a$-"] {
            assert_eq!(regex.lacks(known), None, "{known}");
        }
        for (unknown, name) in [("$3", "3"), ("a${whit}", "whit"), ("$1_x", "1_x"), ("$1$3", "3")] {
            assert_eq!(regex.lacks(unknown).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_wrong_expression_says_why() {
        assert_eq!(NameRegex::parse("a)").expect_err("wrong"), "unopened group");
        assert!(NameRegex::parse("a)(b").is_err());
    }
}
