//! Patterns on tables and on columns: globs, `{ regex = '...' }`, and lists of them.

use toml::Value;
use trem_engine::task::{Glob, NameGlob, NameRegex, Pattern};
use trem_transforms::{ColumnPattern, Columns};

use super::interpolate::interpolate;
use super::raw::Leaf;
use super::resolve::Resolver;
use super::secret::{self, shown};

const TABLES: &str = "a pattern such as \"public.*\" or { regex = 'shop_(\\d+)\\..*' }, or a list of such";
const COLUMNS: &str =
    "a column such as \"email\" or \"*_at\", { regex = '...' }, { type = \"json\" }, or a list of such";

impl Resolver<'_> {
    /// Patterns on tables.
    pub(super) fn patterns(&mut self, leaf: &Leaf) -> Option<Vec<Pattern>> {
        let problems = self.problems.len();
        let found = items(leaf).filter_map(|item| self.pattern(leaf, item)).collect();
        (self.problems.len() == problems).then_some(found)
    }

    fn pattern(&mut self, leaf: &Leaf, item: &Value) -> Option<Pattern> {
        match written(item) {
            Written::Glob(text) => {
                let pattern = self.filled(leaf, text)?;
                match Glob::parse(&pattern) {
                    Ok(glob) if !secret::is_url(&pattern) => return Some(Pattern::Glob(glob)),
                    Err(e) if !text.contains("${") && !pattern.contains(['@', ':']) => {
                        self.problem(leaf.span(), format!("bad pattern: {e}"));
                    }
                    _ => self.problem(leaf.span(), format!("bad pattern, which is not shown: expected {TABLES}")),
                }
                None
            }
            Written::Key("regex", text) => self.regex(leaf, text).map(Pattern::Regex),
            _ => self.unexpected(leaf, item, TABLES),
        }
    }

    /// Patterns on columns.
    pub(super) fn columns(&mut self, leaf: &Leaf) -> Option<Columns> {
        if leaf.get_ref().as_array().is_some_and(Vec::is_empty) {
            self.problem(leaf.span(), format!("expected {COLUMNS}, found an empty list"));
        }
        let problems = self.problems.len();
        let found = items(leaf).filter_map(|item| self.column(leaf, item)).collect();
        (self.problems.len() == problems).then_some(Columns(found))
    }

    fn column(&mut self, leaf: &Leaf, item: &Value) -> Option<ColumnPattern> {
        let (text, of): (&str, fn(NameGlob) -> ColumnPattern) = match written(item) {
            Written::Glob(text) => (text, ColumnPattern::Glob),
            Written::Key("type", text) => (text, ColumnPattern::Type),
            Written::Key("regex", text) => return self.regex(leaf, text).map(ColumnPattern::Regex),
            _ => return self.unexpected(leaf, item, COLUMNS),
        };
        let name = self.filled(leaf, text)?;
        match NameGlob::parse(&name) {
            Ok(glob) if !secret::is_url(&name) => return Some(of(glob)),
            Ok(_) => self.problem(leaf.span(), format!("expected {COLUMNS}, found a URL")),
            Err(e) => self.problem(leaf.span(), format!("expected {COLUMNS}: {e}")),
        }
        None
    }

    fn regex(&mut self, leaf: &Leaf, text: &str) -> Option<NameRegex> {
        let expression = self.filled(leaf, text)?;
        match NameRegex::parse(&expression) {
            Ok(regex) if !secret::is_url(&expression) => return Some(regex),
            Ok(_) => self.problem(leaf.span(), "expected a regular expression, found a URL"),
            Err(_) if text.contains("${") => {
                self.problem(leaf.span(), "bad regular expression, which is not shown, as it has a variable");
            }
            Err(e) => self.problem(leaf.span(), format!("bad regular expression: {e}")),
        }
        None
    }

    fn filled(&mut self, leaf: &Leaf, text: &str) -> Option<String> {
        interpolate(text, self.env).map_err(|e| self.problem(leaf.span(), e)).ok()
    }

    fn unexpected<T>(&mut self, leaf: &Leaf, item: &Value, expected: &str) -> Option<T> {
        self.problem(leaf.span(), format!("expected {expected}, found {}", shown(item)));
        None
    }
}

/// One pattern as it is written.
enum Written<'v> {
    Glob(&'v str),
    /// `{ key = "text" }`
    Key(&'v str, &'v str),
    Other,
}

fn written(item: &Value) -> Written<'_> {
    match item {
        Value::String(text) => Written::Glob(text),
        Value::Table(keys) => match keys.iter().next() {
            Some((key, Value::String(text))) if keys.len() == 1 => Written::Key(key, text),
            _ => Written::Other,
        },
        _ => Written::Other,
    }
}

/// The values of a list, or the one that is none.
fn items(leaf: &Leaf) -> impl Iterator<Item = &Value> {
    match leaf.get_ref() {
        Value::Array(items) => items.iter(),
        other => std::slice::from_ref(other).iter(),
    }
}
