//! `[[tasks.NAME.rules]]`: each action with the keys it needs and no others.

use toml::Spanned;
use trem_engine::task::Glob;
use trem_engine::type_name;
use trem_engine::types::Type;
use trem_transforms::{Action, Formula, RowFilter, Rule, RuleList};

use super::raw::{self, Leaf};
use super::resolve::{Resolver, list};
use super::secret::{self, shown};

/// The actions, and the keys that each needs beside `match` and `action`.
const ACTIONS: [(&str, &[&str]); 7] = [
    ("rename-schema", &["to"]),
    ("rename-table", &["to"]),
    ("rename-column", &["column", "to"]),
    ("create-column", &["column", "type", "value"]),
    ("set-value", &["column", "value"]),
    ("drop-column", &["column"]),
    ("set-key", &["columns"]),
];

impl Resolver<'_> {
    pub(super) fn rules(&mut self, raw: &[Spanned<raw::Rule>], filters: Vec<RowFilter>) -> RuleList {
        RuleList::new(raw.iter().filter_map(|rule| self.rule(rule)).collect(), filters)
    }

    /// An expression, which messages show unless it holds a variable.
    pub(super) fn expression(&mut self, leaf: &Leaf) -> Option<Formula> {
        const EXPECTED: &str = "a SQL expression, such as \"country = 'BR'\"";
        let text = self.text(leaf, EXPECTED)?;
        if text.trim().is_empty() || secret::is_url(&text) {
            let found = if text.trim().is_empty() { "an empty one" } else { "a URL" };
            self.problem(leaf.span(), format!("expected {EXPECTED}, found {found}"));
            return None;
        }
        // A variable may be a secret.
        let secret = leaf.get_ref().as_str().is_none_or(|written| written.replace("$${", "").contains("${"));
        Some(Formula::new(text, secret))
    }

    fn type_of(&mut self, leaf: &Leaf) -> Option<Type> {
        let text = self.text(leaf, type_name::NAMES)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let written = shown(leaf.get_ref());
            self.problem(leaf.span(), format!("no type is called {written}: expected one of {}", type_name::NAMES));
        }
        parsed
    }

    fn rule(&mut self, raw: &Spanned<raw::Rule>) -> Option<Rule> {
        let rule = raw.get_ref();
        let matches = self.match_of(&rule.r#match);
        let expected = list(ACTIONS.iter().map(|(name, _)| *name));
        let name = self.text(&rule.action, &expected)?;
        let Some((action, keys)) = ACTIONS.iter().find(|(action, _)| *action == name) else {
            let written = shown(rule.action.get_ref());
            let message = format!("action {written} is not supported by this version: expected {expected}");
            self.problem(rule.action.span(), message);
            return None;
        };
        let written = [
            ("column", &rule.column),
            ("columns", &rule.columns),
            ("to", &rule.to),
            ("type", &rule.r#type),
            ("value", &rule.value),
        ];
        for (key, leaf) in written {
            match leaf {
                None if keys.contains(&key) => {
                    self.problem(raw.span(), format!("the key `{key}` is missing, which {action} needs"));
                }
                Some(leaf) if !keys.contains(&key) => {
                    self.problem(leaf.span(), format!("{action} has no use for `{key}`: leave the key out"));
                }
                _ => {}
            }
        }
        let used = |key: &str| keys.contains(&key);
        let column = rule.column.as_ref().filter(|_| used("column")).map(|leaf| self.name(leaf));
        let to = rule.to.as_ref().filter(|_| used("to")).map(|leaf| self.name(leaf));
        let ty = rule.r#type.as_ref().filter(|_| used("type")).map(|leaf| self.type_of(leaf));
        let value = rule.value.as_ref().filter(|_| used("value")).map(|leaf| self.expression(leaf));
        let columns = rule.columns.as_ref().filter(|_| used("columns")).map(|leaf| self.names(leaf));
        let action = match *action {
            "rename-schema" => Action::RenameSchema { to: to?? },
            "rename-table" => Action::RenameTable { to: to?? },
            "rename-column" => Action::RenameColumn { column: column??, to: to?? },
            "create-column" => Action::CreateColumn { column: column??, ty: ty??, value: value?? },
            "set-value" => Action::SetValue { column: column??, value: value?? },
            "drop-column" => Action::DropColumn { column: column?? },
            _ => Action::SetKey { columns: columns?? },
        };
        Some(Rule { matches: matches?, action })
    }

    fn match_of(&mut self, leaf: &Leaf) -> Option<Glob> {
        const EXPECTED: &str = "a pattern such as \"public.*\"";
        let pattern = self.text(leaf, EXPECTED)?;
        let written = leaf.get_ref().as_str().unwrap_or_default();
        self.pattern(leaf, written, &pattern, EXPECTED)
    }

    /// Names of columns.
    fn names(&mut self, leaf: &Leaf) -> Option<Vec<String>> {
        const EXPECTED: &str = "a list of names, such as [\"id\"]";
        let items = leaf.get_ref().as_array().filter(|items| !items.is_empty());
        let Some(items) = items else {
            self.problem(leaf.span(), format!("expected {EXPECTED}, found {}", shown(leaf.get_ref())));
            return None;
        };
        items.iter().map(|item| self.name(&toml::Spanned::new(leaf.span(), item.clone()))).collect()
    }

    /// The name of a schema, a table or a column, which messages show.
    fn name(&mut self, leaf: &Leaf) -> Option<String> {
        const EXPECTED: &str = "a name, such as \"orders\"";
        let name = self.text(leaf, EXPECTED)?;
        if name.is_empty() || secret::is_url(&name) {
            let found = if name.is_empty() { "an empty one" } else { "a URL" };
            self.problem(leaf.span(), format!("expected {EXPECTED}, found {found}"));
            return None;
        }
        Some(name)
    }
}

#[cfg(test)]
#[path = "rules/tests.rs"]
mod tests;
