//! The list of a task's rules, and what it makes of a table.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use trem_engine::ports::{Rules, Unmatched};
use trem_engine::route::Route;
use trem_engine::schema::TableSchema;
use trem_engine::task::Pattern;
use trem_engine::{Error, Result};

use crate::action::Action;
use crate::entry::TableEntry;
use crate::near;
use crate::working::Working;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What messages call it, such as `rule 1`.
    pub label: String,
    /// The tables it covers, by the names that the rules before it have made: those that any of these covers. Captures
    /// are those of the first that does.
    pub matches: Vec<Pattern>,
    /// What it does to them.
    pub action: Action,
    /// Several tables of the source may become one by it.
    pub merge: bool,
}

/// What becomes of a row that a rule cannot be applied to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRowError {
    /// Its table is suspended.
    #[default]
    Stop,
    /// It is set aside, and counted.
    Quarantine,
}

/// The rules of a task, in order: a later one sees what an earlier one made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleList {
    task: String,
    rules: Vec<Rule>,
    entries: Vec<TableEntry>,
    on_row_error: OnRowError,
}

impl RuleList {
    /// In this order, after what the entries of `tables` say. `task`: the task's name.
    pub fn new(task: &str, rules: Vec<Rule>, entries: Vec<TableEntry>, on_row_error: OnRowError) -> Self {
        Self { task: task.to_owned(), rules, entries, on_row_error }
    }

    /// What all rules make of a table.
    fn apply<'a>(&'a self, table: &'a Arc<TableSchema>) -> Result<Applied<'a>> {
        let sets_aside = self.on_row_error == OnRowError::Quarantine;
        let mut applied = Applied { working: Working::new(table, &self.task, sets_aside), covering: Vec::new() };
        self.enter(&mut applied.working, table).map_err(|e| e.table(&table.id))?;
        for (number, rule) in self.rules.iter().enumerate() {
            if let Some(pattern) = rule.matches.iter().find(|pattern| pattern.matches(&applied.working.id)) {
                let found = rule.action.apply(&mut applied.working, pattern);
                let found = found.map_err(|e| self.error(number, table, e))?;
                let losses = std::mem::take(&mut applied.working.losses);
                applied.covering.push(Covering { number, found, losses });
                applied.working.merges |= rule.merge;
            }
        }
        Ok(applied)
    }

    /// What its entry in `tables` and each rule does to a table, in order, for people.
    ///
    /// # Errors
    /// See [`Rules::route`].
    pub fn said(&self, table: &Arc<TableSchema>) -> Result<Vec<String>> {
        let mut said = Vec::new();
        if let Some(entry) = self.entry(table)? {
            said.extend(entry.columns.iter().map(|columns| format!("columns {columns}")));
            said.extend(entry.exclude_columns.iter().map(|columns| format!("columns but {columns}")));
            said.extend(entry.filter.iter().map(|filter| format!("filter {filter}")));
        }
        for Covering { number, found, losses } in self.apply(table)?.covering {
            let missing = if found { "" } else { ", which the table has not" };
            let losses: String = losses.iter().map(|loss| format!("; {loss}")).collect();
            let rule = &self.rules[number];
            said.push(format!("{}: {}{missing}{losses}", rule.label, rule.said()));
        }
        Ok(said)
    }

    /// The entry of a table and each rule that covers it, as [`RuleList::said`] has them, with the list that ends
    /// there.
    ///
    /// # Errors
    /// See [`Rules::route`].
    pub fn stages(&self, table: &Arc<TableSchema>) -> Result<Vec<(String, Self)>> {
        let up_to = |count: usize| Self { rules: self.rules[..count].to_vec(), ..self.clone() };
        let mut stages = Vec::new();
        let of_entry = up_to(0);
        let entry = of_entry.said(table)?;
        if !entry.is_empty() {
            stages.push((entry.join("; "), of_entry));
        }
        for Covering { number, .. } in self.apply(table)?.covering {
            let rule = &self.rules[number];
            stages.push((format!("{}: {}", rule.label, rule.said()), up_to(number + 1)));
        }
        Ok(stages)
    }

    /// Two different entries for one table would be two answers.
    fn entry(&self, table: &TableSchema) -> Result<Option<&TableEntry>> {
        let mut own = self.entries.iter().filter(|entry| entry.covers(&table.id));
        let Some(first) = own.next() else { return Ok(None) };
        let Some(other) = own.find(|entry| !entry.agrees(first)) else { return Ok(Some(first)) };
        let what = match (&first.filter, &other.filter) {
            (Some(one), Some(two)) if one != two => format!("{one} and {two} are both its filter"),
            _ => "two entries of `tables` say different things of its columns".to_owned(),
        };
        Err(Error::refused(what).remedy("exclude it from one of the two entries of `tables`"))
    }

    fn enter(&self, working: &mut Working<'_>, table: &TableSchema) -> Result<()> {
        let Some(entry) = self.entry(table)? else { return Ok(()) };
        if let Some(filter) = &entry.filter {
            working.filter(filter).map_err(|e| e.context("filter"))?;
        }
        if let Some(columns) = &entry.columns {
            working.keep(columns).map_err(|e| e.context("columns"))?;
        }
        if let Some(columns) = &entry.exclude_columns {
            working.drop(columns).map_err(|e| e.context("exclude-columns"))?;
        }
        Ok(())
    }

    fn error(&self, number: usize, table: &TableSchema, error: Error) -> Error {
        error.table(&table.id).context(&self.rules[number])
    }
}

/// What rules made of one table.
struct Applied<'a> {
    working: Working<'a>,
    /// The rules that cover the table.
    covering: Vec<Covering>,
}

/// A rule that covers a table.
struct Covering {
    /// Its place in the list.
    number: usize,
    /// The table has what it is about.
    found: bool,
    /// What values lose by it, for people.
    losses: Vec<String>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<String> = self.matches.iter().map(ToString::to_string).collect();
        write!(f, "{} ({} of {})", self.label, self.action.name(), patterns.join(", "))
    }
}

impl Rule {
    /// What it does, for people.
    fn said(&self) -> String {
        format!("{}{}", self.action.said(), if self.merge { ", where others may be" } else { "" })
    }

    /// Whether it names its tables one by one.
    fn is_exact(&self) -> bool {
        self.matches.iter().all(|pattern| pattern.exact().is_some())
    }
}

impl Rules for RuleList {
    fn route(&self, table: &Arc<TableSchema>) -> Result<Route> {
        self.apply(table)?.working.route().map_err(|e| e.table(&table.id))
    }

    fn check(&self, table: &Arc<TableSchema>) -> Result<()> {
        let applied = self.apply(table)?;
        for Covering { number, .. } in applied.covering.iter().filter(|covering| !covering.found) {
            let rule = &self.rules[*number];
            // A pattern may cover tables that have the column and others that have not.
            let Some(needs) = rule.action.needs().filter(|_| rule.is_exact()) else { continue };
            let near = needs.iter().find_map(|name| near::to(name, applied.working.names()));
            let needs = needs.iter().map(|column| format!("{column:?}")).collect::<Vec<_>>().join(" and ");
            let meant = near.map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default();
            let error = Error::refused(format!("the table has no column {needs}{meant}"))
                .remedy("correct `column`: names are case-sensitive, and are those that earlier rules have made");
            return Err(self.error(*number, table, error));
        }
        Ok(())
    }

    fn unmatched(&self, tables: &[Arc<TableSchema>]) -> Vec<Unmatched> {
        let applied: Vec<Applied<'_>> = tables.iter().filter_map(|table| self.apply(table).ok()).collect();
        let covering: HashSet<usize> =
            applied.iter().flat_map(|a| &a.covering).map(|covering| covering.number).collect();
        let names: Vec<String> = applied
            .iter()
            .flat_map(|a| [a.working.source_id(), &a.working.id])
            .map(|id| format!("{}.{}", id.schema, id.table))
            .collect();
        let one = |(_, rule): (usize, &Rule)| {
            let near = rule.matches.iter().find_map(|p| near::to(&p.to_string(), names.iter().map(String::as_str)));
            Unmatched { rule: rule.to_string(), nearest: near.map(str::to_owned) }
        };
        self.rules.iter().enumerate().filter(|(number, _)| !covering.contains(number)).map(one).collect()
    }
}

#[cfg(test)]
mod tests;
