//! `[[tasks.NAME.rules]]`: each action with the keys it needs and no others.

use toml::Spanned;
use trem_engine::task::Glob;
use trem_transforms::{Action, Rule, RuleList};

use super::raw::{self, Leaf};
use super::resolve::{Resolver, list};
use super::secret::{self, shown};

/// The actions, and the keys that each needs beside `match` and `action`.
const ACTIONS: [(&str, &[&str]); 3] =
    [("rename-schema", &["to"]), ("rename-table", &["to"]), ("rename-column", &["column", "to"])];

impl Resolver<'_> {
    pub(super) fn rules(&mut self, raw: &[Spanned<raw::Rule>]) -> RuleList {
        RuleList::new(raw.iter().filter_map(|rule| self.rule(rule)).collect())
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
        let written = [("column", &rule.column), ("to", &rule.to), ("type", &rule.r#type), ("value", &rule.value)];
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
        let column = rule.column.as_ref().filter(|_| keys.contains(&"column")).map(|leaf| self.name(leaf));
        let to = self.name(rule.to.as_ref()?)?;
        let action = match *action {
            "rename-schema" => Action::RenameSchema { to },
            "rename-table" => Action::RenameTable { to },
            _ => Action::RenameColumn { column: column??, to },
        };
        Some(Rule { matches: matches?, action })
    }

    fn match_of(&mut self, leaf: &Leaf) -> Option<Glob> {
        const EXPECTED: &str = "a pattern such as \"public.*\"";
        let pattern = self.text(leaf, EXPECTED)?;
        let written = leaf.get_ref().as_str().unwrap_or_default();
        self.pattern(leaf, written, &pattern, EXPECTED)
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
