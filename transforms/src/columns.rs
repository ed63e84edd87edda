//! Which columns of a table a rule is about.

use std::fmt;

use trem_engine::schema::{Column, Native};
use trem_engine::task::{NameGlob, NameRegex};

/// A pattern on columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnPattern {
    /// On their names, with wildcards.
    Glob(NameGlob),
    /// On their names, which have to match as a whole.
    Regex(NameRegex),
    /// On their types: as trem calls them or as their database does, with or without what stands in parentheses.
    Type(NameGlob),
}

impl ColumnPattern {
    /// The one name it covers, if it names a column.
    pub(crate) fn exact(&self) -> Option<String> {
        match self {
            Self::Glob(glob) => glob.exact(),
            Self::Regex(_) | Self::Type(_) => None,
        }
    }

    /// `template` with what a regular expression has found in a name.
    pub(crate) fn fill(&self, name: &str, template: &str) -> String {
        match self {
            Self::Regex(regex) => regex.fill(name, template),
            Self::Glob(_) | Self::Type(_) => template.to_owned(),
        }
    }

    fn matches_name(&self, name: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(name),
            Self::Regex(regex) => regex.matches(name),
            Self::Type(_) => false,
        }
    }

    fn matches_type(&self, canonical: Option<&str>, native: &Native) -> bool {
        let Self::Type(glob) = self else { return false };
        let names = canonical.into_iter().chain([native.name.as_str()]);
        names.flat_map(|name| [name, bare(name)]).any(|name| glob.matches(name))
    }

    pub(crate) fn covers(&self, column: &Column) -> bool {
        self.matches_name(&column.name) || self.matches_type(Some(&column.ty.to_string()), &column.native)
    }

    /// Whether it covers a column that the target computes.
    pub(crate) fn covers_generated(&self, name: &str, native: &Native) -> bool {
        self.matches_name(name) || self.matches_type(None, native)
    }
}

/// A type's name without what stands in parentheses.
fn bare(name: &str) -> &str {
    name.split_once('(').map_or(name, |(bare, _)| bare.trim_end())
}

impl fmt::Display for ColumnPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glob(glob) => glob.fmt(f),
            Self::Regex(regex) => regex.fmt(f),
            Self::Type(glob) => write!(f, "of type {glob}"),
        }
    }
}

/// Those that one of these patterns covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(pub Vec<ColumnPattern>);

impl Columns {
    /// All of a table.
    pub fn all() -> Self {
        Self(NameGlob::parse("*").map(ColumnPattern::Glob).into_iter().collect())
    }

    /// The pattern that covers a column.
    pub(crate) fn pattern(&self, covers: impl Fn(&ColumnPattern) -> bool) -> Option<&ColumnPattern> {
        self.0.iter().find(|pattern| covers(pattern))
    }

    pub(crate) fn cover(&self, column: &Column) -> bool {
        self.pattern(|p| p.covers(column)).is_some()
    }

    pub(crate) fn cover_generated(&self, name: &str, native: &Native) -> bool {
        self.pattern(|p| p.covers_generated(name, native)).is_some()
    }

    /// The names, if it names its columns one by one.
    pub(crate) fn exact(&self) -> Option<Vec<String>> {
        self.0.iter().map(ColumnPattern::exact).collect()
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}
