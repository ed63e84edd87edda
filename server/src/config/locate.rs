//! From a place in the file to its line and key.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::secret;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Line and column, from 1, where the place is known.
    pub place: Option<(usize, usize)>,
    /// The dotted key, where there is one.
    pub key: String,
    /// What is wrong, what was expected.
    pub message: String,
}

impl Problem {
    /// A problem with the file as a whole.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.display().to_string(), place: None, key: String::new(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            if let Some((line, column)) = self.place {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Knows where every key of one file, or of one document, stands.
pub struct Locator<'a> {
    file: String,
    /// Of a file, whose lines are told.
    text: Option<&'a str>,
    keys: Vec<(Range<usize>, String)>,
}

impl<'a> Locator<'a> {
    /// Reads the keys of a file; a file that is not TOML is a problem.
    pub fn new(file: &Path, text: &'a str) -> Result<Self, Problem> {
        let mut locator = Self { file: file.display().to_string(), text: Some(text), keys: Vec::new() };
        let root = DeTable::parse(text).map_err(|e| locator.of_toml(&e))?;
        collect(root.get_ref(), "", &mut locator.keys);
        Ok(locator)
    }

    /// Of a document, in which a place has a pointer instead of a line.
    pub fn of_document(document: &Document) -> Locator<'static> {
        Locator { file: String::new(), text: None, keys: document.places.clone() }
    }

    /// Whether it is a whole configuration that is read.
    pub fn is_file(&self) -> bool {
        self.text.is_some()
    }

    /// A problem at a place.
    pub fn at(&self, span: Range<usize>, message: impl Into<String>) -> Problem {
        let key = self.key(&span);
        Problem { file: self.file.clone(), place: self.place(span.start), key, message: message.into() }
    }

    /// A problem with the file as a whole.
    pub fn of_file(&self, message: impl Into<String>) -> Problem {
        Problem { file: self.file.clone(), place: None, key: String::new(), message: message.into() }
    }

    /// What the TOML reader says. Its own rendering quotes the line, which may hold a password, so only its
    /// message is taken.
    pub fn of_toml(&self, error: &toml::de::Error) -> Problem {
        let message = secret::of_serde(&error.message().trim().replace('\n', ", "));
        match error.span() {
            Some(span) => self.at(span, message),
            None => self.of_file(message),
        }
    }

    fn place(&self, offset: usize) -> Option<(usize, usize)> {
        let text = self.text?;
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }

    fn key(&self, span: &Range<usize>) -> String {
        let covers = |range: &Range<usize>| range.start <= span.start && span.start < range.end.max(range.start + 1);
        let found = self.keys.iter().filter(|(range, _)| covers(range));
        found.min_by_key(|(range, _)| range.len()).map(|(_, key)| key.clone()).unwrap_or_default()
    }
}

fn collect(table: &DeTable<'_>, path: &str, keys: &mut Vec<(Range<usize>, String)>) {
    for (key, value) in table.iter() {
        let name = quoted(key.get_ref());
        let path = if path.is_empty() { name } else { format!("{path}.{name}") };
        keys.push((key.span(), path.clone()));
        collect_value(value, &path, keys);
    }
}

fn collect_value(value: &Spanned<DeValue<'_>>, path: &str, keys: &mut Vec<(Range<usize>, String)>) {
    keys.push((value.span(), path.to_owned()));
    match value.get_ref() {
        DeValue::Table(table) => collect(table, path, keys),
        DeValue::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                collect_value(item, &format!("{path}[{n}]"), keys);
            }
        }
        _ => {}
    }
}

fn quoted(key: &str) -> String {
    if secret::suspect(key) {
        return format!("\"{}\"", secret::HIDDEN);
    }
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { key.to_owned() } else { format!("{key:?}") }
}

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
