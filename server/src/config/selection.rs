//! `[[tasks.NAME.tables]]`: the tables, which of their rows and which of their columns.

use toml::Spanned;
use trem_engine::task::{Selection, TableRule};
use trem_transforms::TableEntry;

use super::raw;
use super::resolve::Resolver;

impl Resolver<'_> {
    /// The tables, and what their entries say beside their names.
    pub(super) fn selection(&mut self, raw: &Spanned<raw::Task>) -> (Selection, Vec<TableEntry>) {
        let expected = "expected at least one [[tasks.NAME.tables]] with include = \"schema.table\"";
        let Some(tables) = &raw.get_ref().tables else {
            self.problem(raw.span(), format!("the task selects no tables: {expected}"));
            return Default::default();
        };
        if tables.get_ref().is_empty() {
            self.problem(tables.span(), format!("the task selects no tables: {expected}"));
        }
        let entries: Vec<TableEntry> = tables.get_ref().iter().map(|entry| self.entry(entry.get_ref())).collect();
        let rule = |entry: &TableEntry| TableRule { include: entry.include.clone(), exclude: entry.exclude.clone() };
        let selection = Selection { rules: entries.iter().map(rule).collect() };
        (selection, entries.into_iter().filter(TableEntry::is_more_than_names).collect())
    }

    fn entry(&mut self, raw: &raw::Tables) -> TableEntry {
        if raw.include.get_ref().as_array().is_some_and(Vec::is_empty) {
            self.problem(raw.include.span(), "the list is empty and selects no tables: expected a pattern");
        }
        TableEntry {
            include: self.patterns(&raw.include).unwrap_or_default(),
            exclude: raw.exclude.as_ref().and_then(|leaf| self.patterns(leaf)).unwrap_or_default(),
            filter: raw.filter.as_ref().and_then(|leaf| self.expression(leaf)),
            columns: raw.columns.as_ref().and_then(|leaf| self.columns(leaf)),
            exclude_columns: raw.exclude_columns.as_ref().and_then(|leaf| self.columns(leaf)),
        }
    }
}
