//! The list of a task's rules, and what it makes of a table.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use trem_engine::ports::Rules;
use trem_engine::route::Route;
use trem_engine::schema::TableSchema;
use trem_engine::task::Glob;
use trem_engine::{Error, Result};

use crate::names::Renamed;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The tables it covers, by the names that the rules before it have made.
    pub matches: Glob,
    /// What it does to them.
    pub action: Action,
}

/// What a rule does. Names are as the target is to store them, not quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Puts tables into another schema.
    RenameSchema {
        /// Its name.
        to: String,
    },
    /// Gives a table another name in its schema.
    RenameTable {
        /// The name.
        to: String,
    },
    /// Gives a column another name, one that is computed too. Tables without such a column stay as they are.
    RenameColumn {
        /// The column, by the name that the rules before have made.
        column: String,
        /// The name.
        to: String,
    },
}

/// The rules of a task, in order: a later one sees what an earlier one made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleList(Vec<Rule>);

impl RuleList {
    /// In this order.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// What all rules make of a table.
    fn apply<'a>(&self, table: &'a Arc<TableSchema>) -> Result<Applied<'a>> {
        let mut applied = Applied { names: Renamed::new(table), covering: Vec::new() };
        for (number, rule) in self.0.iter().enumerate() {
            let names = &mut applied.names;
            if !rule.matches.matches(&names.id) {
                continue;
            }
            rule.name_is_usable().map_err(|e| self.error(number, table, e))?;
            let found = match &rule.action {
                Action::RenameSchema { to } => {
                    names.id.schema.clone_from(to);
                    true
                }
                Action::RenameTable { to } => {
                    names.id.table.clone_from(to);
                    true
                }
                Action::RenameColumn { column, to } => {
                    names.column(column, to).map_err(|e| self.error(number, table, e))?
                }
            };
            applied.covering.push((number, found));
        }
        Ok(applied)
    }

    fn error(&self, number: usize, table: &TableSchema, error: Error) -> Error {
        error.table(&table.id).context(format_args!("rule {} ({})", number + 1, self.0[number]))
    }
}

/// What rules made of one table.
struct Applied<'a> {
    names: Renamed<'a>,
    /// The rules that cover the table, and whether it has the column they name.
    covering: Vec<(usize, bool)>,
}

impl Rule {
    fn name_is_usable(&self) -> Result<()> {
        if self.action.to().is_empty() {
            return Err(Error::refused("a name must not be empty").remedy("give `to` a name"));
        }
        Ok(())
    }
}

impl Action {
    /// As the configuration calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RenameSchema { .. } => "rename-schema",
            Self::RenameTable { .. } => "rename-table",
            Self::RenameColumn { .. } => "rename-column",
        }
    }

    fn to(&self) -> &str {
        match self {
            Self::RenameSchema { to } | Self::RenameTable { to } | Self::RenameColumn { to, .. } => to,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.action.name(), self.matches)
    }
}

impl Rules for RuleList {
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route> {
        self.apply(table)?.names.route()
    }

    fn check(&self, table: &Arc<TableSchema>) -> Result<()> {
        let lacking = self.apply(table)?.covering.into_iter().filter(|(_, found)| !found);
        for (number, _) in lacking {
            let rule = &self.0[number];
            // A pattern may cover tables that have the column and others that have not.
            let (Some(_), Action::RenameColumn { column, .. }) = (rule.matches.exact(), &rule.action) else { continue };
            let error = Error::refused(format!("the table has no column {column:?}"))
                .remedy("correct `column`: names are case-sensitive, and are those that earlier rules have made");
            return Err(self.error(number, table, error));
        }
        Ok(())
    }

    fn unmatched(&self, tables: &[Arc<TableSchema>]) -> Vec<String> {
        let applied = tables.iter().filter_map(|table| self.apply(table).ok());
        let covering: HashSet<usize> = applied.flat_map(|a| a.covering).map(|(number, _)| number).collect();
        let unmatched = self.0.iter().enumerate().filter(|(number, _)| !covering.contains(number));
        unmatched.map(|(number, rule)| format!("rule {} ({rule})", number + 1)).collect()
    }
}

#[cfg(test)]
mod tests;
