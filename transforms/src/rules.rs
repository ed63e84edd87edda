//! The list of a task's rules, and what it makes of a table.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use trem_engine::ports::Rules;
use trem_engine::route::Route;
use trem_engine::schema::{TableId, TableSchema, Type};
use trem_engine::task::Glob;
use trem_engine::{Error, Result};

use crate::formula::Formula;
use crate::working::Working;

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
    /// Adds a column whose values are computed from the others.
    CreateColumn {
        /// Its name.
        column: String,
        /// Its type.
        ty: Type,
        /// The expression, over the columns as the rules before have made them.
        value: Formula,
    },
    /// Puts other values into a column. Tables without such a column stay as they are.
    SetValue {
        /// The column, by the name that the rules before have made.
        column: String,
        /// The expression, over the columns as the rules before have made them.
        value: Formula,
    },
    /// Leaves a column out. Tables without such a column stay as they are.
    DropColumn {
        /// The column, by the name that the rules before have made.
        column: String,
    },
    /// Tells rows apart on the target by other columns. Tables without one of them stay as they are.
    SetKey {
        /// The columns, by the names that the rules before have made.
        columns: Vec<String>,
    },
}

/// Which rows of some tables are let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFilter {
    /// The tables, by their names at the source.
    pub include: Vec<Glob>,
    /// But not these.
    pub exclude: Vec<Glob>,
    /// An expression over the columns as the source has them.
    pub expression: Formula,
}

impl RowFilter {
    fn covers(&self, id: &TableId) -> bool {
        self.include.iter().any(|glob| glob.matches(id)) && !self.exclude.iter().any(|glob| glob.matches(id))
    }
}

/// The rules of a task, in order: a later one sees what an earlier one made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleList {
    rules: Vec<Rule>,
    filters: Vec<RowFilter>,
}

impl RuleList {
    /// In this order, after these filters.
    pub fn new(rules: Vec<Rule>, filters: Vec<RowFilter>) -> Self {
        Self { rules, filters }
    }

    /// What all rules make of a table.
    fn apply<'a>(&self, table: &'a Arc<TableSchema>) -> Result<Applied<'a>> {
        let mut applied = Applied { working: Working::new(table), covering: Vec::new() };
        self.filter(&mut applied.working, table).map_err(|e| e.table(&table.id).context("filter"))?;
        for (number, rule) in self.rules.iter().enumerate() {
            if rule.matches.matches(&applied.working.id) {
                let found = rule.action.apply(&mut applied.working).map_err(|e| self.error(number, table, e))?;
                applied.covering.push((number, found));
            }
        }
        Ok(applied)
    }

    /// What the filter and each rule does to a table, in order, for people.
    ///
    /// # Errors
    /// See [`Rules::route`].
    pub fn said(&self, table: &Arc<TableSchema>) -> Result<Vec<String>> {
        let filter = self.filters.iter().find(|filter| filter.covers(&table.id));
        let mut said: Vec<String> = filter.map(|f| format!("filter {}", f.expression)).into_iter().collect();
        for (number, found) in self.apply(table)?.covering {
            let missing = if found { "" } else { ", which the table has not" };
            said.push(format!("rule {}: {}{missing}", number + 1, self.rules[number].action.said()));
        }
        Ok(said)
    }

    /// Two filters for one table would be two answers.
    fn filter(&self, working: &mut Working<'_>, table: &TableSchema) -> Result<()> {
        let mut own = self.filters.iter().filter(|filter| filter.covers(&table.id));
        let Some(first) = own.next() else { return Ok(()) };
        if let Some(other) = own.find(|filter| filter.expression != first.expression) {
            let what = format!("{} and {} are both of this table", first.expression, other.expression);
            return Err(Error::refused(what).remedy("exclude it from one of the two entries of `tables`"));
        }
        working.filter(&first.expression)
    }

    fn error(&self, number: usize, table: &TableSchema, error: Error) -> Error {
        error.table(&table.id).context(format_args!("rule {} ({})", number + 1, self.rules[number]))
    }
}

/// What rules made of one table.
struct Applied<'a> {
    working: Working<'a>,
    /// The rules that cover the table, and whether it has the column they name.
    covering: Vec<(usize, bool)>,
}

impl Action {
    /// As the configuration calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RenameSchema { .. } => "rename-schema",
            Self::RenameTable { .. } => "rename-table",
            Self::RenameColumn { .. } => "rename-column",
            Self::CreateColumn { .. } => "create-column",
            Self::SetValue { .. } => "set-value",
            Self::DropColumn { .. } => "drop-column",
            Self::SetKey { .. } => "set-key",
        }
    }

    /// Whether the table has what it is about.
    fn apply(&self, table: &mut Working<'_>) -> Result<bool> {
        if self.made().is_some_and(str::is_empty) {
            return Err(Error::refused("a name must not be empty").remedy("give it a name"));
        }
        match self {
            Self::RenameSchema { to } => table.id.schema.clone_from(to),
            Self::RenameTable { to } => table.id.table.clone_from(to),
            Self::RenameColumn { column, to } => return table.rename(column, to),
            Self::CreateColumn { column, ty, value } => table.create(column, ty, value)?,
            Self::SetValue { column, value } => return table.set(column, value),
            Self::DropColumn { column } => return table.drop(column),
            Self::SetKey { columns } => return table.set_key(columns),
        }
        Ok(true)
    }

    /// What it does, for people.
    fn said(&self) -> String {
        let name = self.name();
        match self {
            Self::RenameSchema { to } | Self::RenameTable { to } => format!("{name} to {to}"),
            Self::RenameColumn { column, to } => format!("{name} {column} to {to}"),
            Self::CreateColumn { column, ty, value } => format!("{name} {column} {ty} = {value}"),
            Self::SetValue { column, value } => format!("{name} {column} = {value}"),
            Self::DropColumn { column } => format!("{name} {column}"),
            Self::SetKey { columns } => format!("{name} {}", columns.join(", ")),
        }
    }

    /// The name that it gives.
    fn made(&self) -> Option<&str> {
        match self {
            Self::RenameSchema { to } | Self::RenameTable { to } | Self::RenameColumn { to, .. } => Some(to),
            Self::CreateColumn { column, .. } => Some(column),
            Self::SetValue { .. } | Self::DropColumn { .. } | Self::SetKey { .. } => None,
        }
    }

    /// The columns that it is about, if the table has to have them.
    fn needs(&self) -> &[String] {
        match self {
            Self::RenameColumn { column, .. } | Self::SetValue { column, .. } | Self::DropColumn { column } => {
                std::slice::from_ref(column)
            }
            Self::SetKey { columns } => columns,
            Self::RenameSchema { .. } | Self::RenameTable { .. } | Self::CreateColumn { .. } => &[],
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
        self.apply(table)?.working.route().map_err(|e| e.table(&table.id))
    }

    fn check(&self, table: &Arc<TableSchema>) -> Result<()> {
        let lacking = self.apply(table)?.covering.into_iter().filter(|(_, found)| !found);
        for (number, _) in lacking {
            let rule = &self.rules[number];
            // A pattern may cover tables that have the column and others that have not.
            let needs = rule.action.needs();
            if rule.matches.exact().is_none() || needs.is_empty() {
                continue;
            }
            let needs = needs.iter().map(|column| format!("{column:?}")).collect::<Vec<_>>().join(" and ");
            let error = Error::refused(format!("the table has no column {needs}"))
                .remedy("correct `column`: names are case-sensitive, and are those that earlier rules have made");
            return Err(self.error(number, table, error));
        }
        Ok(())
    }

    fn unmatched(&self, tables: &[Arc<TableSchema>]) -> Vec<String> {
        let applied = tables.iter().filter_map(|table| self.apply(table).ok());
        let covering: HashSet<usize> = applied.flat_map(|a| a.covering).map(|(number, _)| number).collect();
        let unmatched = self.rules.iter().enumerate().filter(|(number, _)| !covering.contains(number));
        unmatched.map(|(number, rule)| format!("rule {} ({rule})", number + 1)).collect()
    }
}

#[cfg(test)]
mod tests;
