//! `[[tasks.NAME.rules]]`: each action with the keys it needs and no others.

use toml::{Spanned, Value};
use trem_engine::task::{NameRegex, Pattern};
use trem_engine::type_name;
use trem_engine::types::{Dialect, Type};
use trem_transforms::{
    Action, ColumnPattern, Columns, Formula, Masking, Naming, OnMisfit, OnRowError, Rule, RuleList, Salt, TableEntry,
    To, check_expression,
};

use super::raw::{self, Leaf};
use super::resolve::{Resolver, list};
use super::secret::{self, shown};

/// An action, and its keys beside `match` and `action`.
struct Keys {
    action: &'static str,
    needs: &'static [&'static str],
    may: &'static [&'static str],
}

const NAMING: &[&str] = &["to", "add-prefix", "add-suffix", "remove-prefix", "remove-suffix", "case"];

const NAMING_TABLES: &[&str] = &["to", "add-prefix", "add-suffix", "remove-prefix", "remove-suffix", "case", "merge"];

const ACTIONS: [Keys; 10] = [
    Keys { action: "rename-schema", needs: &[], may: NAMING_TABLES },
    Keys { action: "rename-table", needs: &[], may: NAMING_TABLES },
    Keys {
        action: "rename-column",
        needs: &[],
        may: &["column", "to", "add-prefix", "add-suffix", "remove-prefix", "remove-suffix", "case"],
    },
    Keys { action: "create-column", needs: &["column", "type", "value"], may: &[] },
    Keys { action: "set-value", needs: &["column"], may: &["value", "mask", "salt", "keep", "to"] },
    Keys { action: "change-type", needs: &["column", "to"], may: &["on-misfit"] },
    Keys { action: "drop-column", needs: &["column"], may: &[] },
    Keys { action: "set-key", needs: &["columns"], may: &[] },
    Keys { action: "soft-delete", needs: &["column"], may: &[] },
    Keys { action: "history", needs: &[], may: &["prefix", "beside-suffix"] },
];

const MASKS: [&str; 6] = ["hash", "keep-last", "fixed", "null", "email", "format"];
const ON_MISFIT: [(&str, OnMisfit); 3] =
    [("error", OnMisfit::Error), ("null", OnMisfit::Null), ("clamp", OnMisfit::Clamp)];
const ON_ROW_ERROR: [(&str, OnRowError); 2] = [("stop", OnRowError::Stop), ("quarantine", OnRowError::Quarantine)];
/// What the names of a history's columns begin with.
const PREFIX: &str = "trem_";

impl Resolver<'_> {
    /// Those of the sets that the task uses, then its own. `dialect`: the target's.
    pub(super) fn rules(
        &mut self,
        name: &str,
        task: &raw::Task,
        entries: Vec<TableEntry>,
        dialect: Option<&Dialect>,
    ) -> RuleList {
        let mut rules = Vec::new();
        for set in task.rule_sets.as_ref().map(|leaf| self.sets(leaf)).unwrap_or_default() {
            let Some(known) = self.rule_sets.get(&set).copied() else { continue };
            rules.extend(self.rule_list(&known.rules, &format!(" of rule set {set}"), dialect));
        }
        rules.extend(self.rule_list(&task.rules, "", dialect));
        let on_row_error = self.word(task.on_row_error.as_ref(), &ON_ROW_ERROR);
        RuleList::new(name, rules, entries, on_row_error)
    }

    /// The names of rule sets that a task uses.
    fn sets(&mut self, leaf: &Leaf) -> Vec<String> {
        let known = list(self.rule_sets.keys().map(String::as_str).filter(|name| !secret::is_url(name)));
        let expected = format!("a list of rule sets, each {known}");
        let Some(items) = leaf.get_ref().as_array() else {
            self.problem(leaf.span(), format!("expected {expected}, found {}", shown(leaf.get_ref())));
            return Vec::new();
        };
        let mut sets = Vec::new();
        for item in items {
            match item.as_str().filter(|name| self.rule_sets.contains_key(*name)) {
                Some(name) => sets.push(name.to_owned()),
                None => self.problem(leaf.span(), format!("expected {expected}, found {}", shown(item))),
            }
        }
        sets
    }

    /// `of`: where they are, for messages.
    pub(super) fn rule_list(&mut self, raw: &[Spanned<raw::Rule>], of: &str, dialect: Option<&Dialect>) -> Vec<Rule> {
        let one = |(number, rule): (usize, &Spanned<raw::Rule>)| {
            let (matches, action) = self.rule(rule, dialect)?;
            let merge = self.flag(rule.get_ref().merge.as_ref());
            Some(Rule { label: format!("rule {}{of}", number + 1), matches, action, merge })
        };
        raw.iter().enumerate().filter_map(one).collect()
    }

    fn rule(&mut self, raw: &Spanned<raw::Rule>, dialect: Option<&Dialect>) -> Option<(Vec<Pattern>, Action)> {
        let rule = raw.get_ref();
        let matches = self.patterns(&rule.r#match);
        let expected = list(ACTIONS.iter().map(|keys| keys.action));
        let name = self.text(&rule.action, &expected)?;
        let Some(keys) = ACTIONS.iter().find(|keys| keys.action == name) else {
            let written = shown(rule.action.get_ref());
            let message = format!("action {written} is not supported by this version: expected {expected}");
            self.problem(rule.action.span(), message);
            return None;
        };
        let problems = self.problems.len();
        self.keys(raw, keys);
        if self.problems.len() > problems {
            return None;
        }
        let action = match keys.action {
            "rename-schema" => Action::RenameSchema(self.naming(raw, &regexes(matches.as_deref()?))?),
            "rename-table" => Action::RenameTable(self.naming(raw, &regexes(matches.as_deref()?))?),
            "rename-column" => {
                let columns = match &rule.column {
                    Some(leaf) => self.columns(leaf)?,
                    None => Columns::all(),
                };
                let naming = self.naming(raw, &regexes_of_columns(&columns))?;
                Action::RenameColumn { columns, naming }
            }
            "create-column" => Action::CreateColumn {
                column: self.name(rule.column.as_ref()?)?,
                ty: self.type_of(rule.r#type.as_ref()?)?,
                value: self.expression(rule.value.as_ref()?)?,
            },
            "set-value" => self.set_value(raw)?,
            "change-type" => Action::ChangeType {
                columns: self.columns(rule.column.as_ref()?)?,
                to: self.changed_type(rule.to.as_ref()?, dialect)?,
                on_misfit: self.word(rule.on_misfit.as_ref(), &ON_MISFIT),
            },
            "drop-column" => Action::DropColumn { columns: self.columns(rule.column.as_ref()?)? },
            "set-key" => Action::SetKey { columns: self.names(rule.columns.as_ref()?)? },
            "soft-delete" => Action::SoftDelete { column: self.name(rule.column.as_ref()?)? },
            _ => Action::History {
                prefix: rule.prefix.as_ref().map_or(Some(PREFIX.to_owned()), |leaf| self.name(leaf))?,
                beside: rule.beside_suffix.as_ref().map(|leaf| self.name(leaf).ok_or(())).transpose().ok()?,
            },
        };
        Some((matches?, action))
    }

    /// `true` or `false`, which is what it is if nothing is said.
    fn flag(&mut self, leaf: Option<&Leaf>) -> bool {
        let Some(leaf) = leaf else { return false };
        let flag = leaf.get_ref().as_bool();
        if flag.is_none() {
            self.problem(leaf.span(), format!("expected true or false, found {}", shown(leaf.get_ref())));
        }
        flag.unwrap_or_default()
    }

    /// All that it needs, and nothing that it has no use for.
    fn keys(&mut self, raw: &Spanned<raw::Rule>, keys: &Keys) {
        let action = keys.action;
        for (key, leaf) in raw.get_ref().keys() {
            match leaf {
                None if keys.needs.contains(&key) => {
                    self.problem(raw.span(), format!("the key `{key}` is missing, which {action} needs"));
                }
                Some(leaf) if !keys.needs.contains(&key) && !keys.may.contains(&key) => {
                    self.problem(leaf.span(), format!("{action} has no use for `{key}`: leave the key out"));
                }
                _ => {}
            }
        }
    }

    /// Exactly one of the keys that make a name. `regexes`: whose groups the name may use.
    fn naming(&mut self, raw: &Spanned<raw::Rule>, regexes: &[&NameRegex]) -> Option<Naming> {
        let rule = raw.get_ref();
        let written: Vec<(&str, &Leaf)> = rule
            .keys()
            .into_iter()
            .filter(|(key, _)| NAMING.contains(key))
            .filter_map(|(k, l)| Some((k, l?)))
            .collect();
        let [(key, leaf)] = written[..] else {
            let found = if written.is_empty() { "none of them" } else { "several" };
            self.problem(
                raw.span(),
                format!("expected one of the keys {}, found {found}", list(NAMING.iter().copied())),
            );
            return None;
        };
        if key == "case" {
            const CASES: [(&str, Naming); 3] =
                [("upper", Naming::Upper), ("lower", Naming::Lower), ("snake", Naming::Snake)];
            let expected = list(CASES.iter().map(|(word, _)| *word));
            let text = self.text(leaf, &expected)?;
            let case = CASES.into_iter().find(|(word, _)| *word == text);
            if case.is_none() {
                self.problem(leaf.span(), format!("expected {expected}, found {}", shown(leaf.get_ref())));
            }
            return case.map(|(_, naming)| naming);
        }
        let name = self.name(leaf)?;
        if let Some((regex, group)) = regexes.iter().find_map(|regex| Some((regex, regex.lacks(&name)?))) {
            let message = format!("{regex} has no group {group}: write `$1` or `$name`, and `$$` for a dollar");
            self.problem(leaf.span(), message);
            return None;
        }
        Some(match key {
            "to" => Naming::To(name),
            "add-prefix" => Naming::AddPrefix(name),
            "add-suffix" => Naming::AddSuffix(name),
            "remove-prefix" => Naming::RemovePrefix(name),
            _ => Naming::RemoveSuffix(name),
        })
    }

    fn set_value(&mut self, raw: &Spanned<raw::Rule>) -> Option<Action> {
        let rule = raw.get_ref();
        let columns = self.columns(rule.column.as_ref()?)?;
        match (&rule.value, &rule.mask) {
            (Some(value), None) => {
                for (key, leaf) in [("salt", &rule.salt), ("keep", &rule.keep), ("to", &rule.to)] {
                    if let Some(leaf) = leaf {
                        let message = format!("an expression has no use for `{key}`: leave the key out");
                        self.problem(leaf.span(), message);
                    }
                }
                Some(Action::SetValue { columns, value: self.expression(value)? })
            }
            (None, Some(mask)) => Some(Action::Mask { columns, masking: self.masking(raw, mask)? }),
            _ => {
                let found = if rule.mask.is_some() { "both" } else { "none" };
                self.problem(raw.span(), format!("set-value needs one of `value` and `mask`, found {found}"));
                None
            }
        }
    }

    fn masking(&mut self, raw: &Spanned<raw::Rule>, mask: &Leaf) -> Option<Masking> {
        let rule = raw.get_ref();
        let expected = list(MASKS.into_iter());
        let name = self.text(mask, &expected)?;
        let needs = match name.as_str() {
            "hash" | "email" | "format" => Some("salt"),
            "keep-last" => Some("keep"),
            "fixed" => Some("to"),
            "null" => None,
            _ => {
                self.problem(mask.span(), format!("expected {expected}, found {}", shown(mask.get_ref())));
                return None;
            }
        };
        for (key, leaf) in [("salt", &rule.salt), ("keep", &rule.keep), ("to", &rule.to)] {
            match leaf {
                None if needs == Some(key) => {
                    self.problem(raw.span(), format!("the key `{key}` is missing, which mask {name} needs"));
                }
                Some(leaf) if needs != Some(key) => {
                    self.problem(leaf.span(), format!("mask {name} has no use for `{key}`: leave the key out"));
                }
                _ => {}
            }
        }
        Some(match name.as_str() {
            "hash" => Masking::Hash(self.salt(rule.salt.as_ref()?)?),
            "email" => Masking::Email(self.salt(rule.salt.as_ref()?)?),
            "format" => Masking::Format(self.salt(rule.salt.as_ref()?)?),
            "keep-last" => Masking::KeepLast(self.count(rule.keep.as_ref(), 1, 1000) as usize),
            "fixed" => Masking::Fixed(self.text(rule.to.as_ref()?, "a value, such as \"n/a\"")?),
            _ => Masking::Null,
        })
    }

    fn salt(&mut self, leaf: &Leaf) -> Option<Salt> {
        const EXPECTED: &str = "a secret, such as \"${MASK_SALT}\"";
        let text = self.text(leaf, EXPECTED)?;
        if text.is_empty() {
            self.problem(leaf.span(), format!("expected {EXPECTED}, found an empty one"));
            return None;
        }
        Some(Salt::new(text))
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
        let formula = Formula::new(text, secret);
        if let Err(error) = check_expression(&formula) {
            self.problem(leaf.span(), error.reason());
            return None;
        }
        Some(formula)
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

    /// A type, or `{ native = "..." }`, one of the target's own.
    fn changed_type(&mut self, leaf: &Leaf, dialect: Option<&Dialect>) -> Option<To> {
        let Value::Table(keys) = leaf.get_ref() else { return self.type_of(leaf).map(To::Canonical) };
        let native = keys.get("native").filter(|_| keys.len() == 1);
        let Some(native) = native else {
            let expected =
                format!("a type such as \"text\", or {{ native = \"citext\" }}, found {}", shown(leaf.get_ref()));
            self.problem(leaf.span(), format!("expected {expected}"));
            return None;
        };
        let name = self.name(&Spanned::new(leaf.span(), native.clone()))?;
        let Some(dialect) = dialect else {
            self.problem(leaf.span(), "the target has no types of its own: name one of trem's");
            return None;
        };
        Some(To::Native { dialect: dialect.clone(), name })
    }

    /// Names of columns.
    fn names(&mut self, leaf: &Leaf) -> Option<Vec<String>> {
        const EXPECTED: &str = "a list of names, such as [\"id\"]";
        let items = leaf.get_ref().as_array().filter(|items| !items.is_empty());
        let Some(items) = items else {
            self.problem(leaf.span(), format!("expected {EXPECTED}, found {}", shown(leaf.get_ref())));
            return None;
        };
        items.iter().map(|item| self.name(&Spanned::new(leaf.span(), item.clone()))).collect()
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

fn regexes<'p>(patterns: &'p [Pattern]) -> Vec<&'p NameRegex> {
    let regex = |pattern: &'p Pattern| if let Pattern::Regex(regex) = pattern { Some(regex) } else { None };
    patterns.iter().filter_map(regex).collect()
}

fn regexes_of_columns<'c>(columns: &'c Columns) -> Vec<&'c NameRegex> {
    let regex = |pattern: &'c ColumnPattern| if let ColumnPattern::Regex(regex) = pattern { Some(regex) } else { None };
    columns.0.iter().filter_map(regex).collect()
}

#[cfg(test)]
#[path = "rules/tests.rs"]
mod tests;
