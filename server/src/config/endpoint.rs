//! Endpoints: what every kind has in common is looked at here, the values are the kind's own affair.

use std::collections::BTreeMap;

use toml::Spanned;
use trem_endpoints::kind::{Key, Kind};
use trem_endpoints::kinds::{self, KINDS};

use super::resolve::{Resolver, list};
use super::secret::{self, shown};
use super::{Endpoint, raw};

/// The key that says what an endpoint is.
const KIND: &str = "kind";

impl Resolver<'_> {
    /// The endpoint, unless something is wrong with it.
    pub fn endpoint(&mut self, name: &str, raw: &Spanned<raw::Endpoint>) -> Option<Endpoint> {
        let before = self.problems.len();
        let kind = self.kind(raw)?;
        self.unknown_keys(kind, raw.get_ref());
        let mut values = BTreeMap::new();
        for key in kind.keys() {
            match value(raw.get_ref(), key.name) {
                Some(leaf) => values.extend(self.text(leaf, key.expected).map(|text| (key.name, text))),
                None if key.required => {
                    let message = format!("the key `{}` is missing: expected {}", key.name, key.expected);
                    self.problem(raw.span(), message);
                }
                None => {}
            }
        }
        if self.problems.len() > before {
            return None;
        }
        match kind.configure(&values) {
            Ok(configured) => Some(Endpoint { name: name.to_owned(), configured }),
            Err(faults) => {
                for wrong in faults {
                    let span = value(raw.get_ref(), wrong.key).map_or(raw.span(), Spanned::span);
                    self.problem(span, wrong.message);
                }
                None
            }
        }
    }

    fn kind(&mut self, raw: &Spanned<raw::Endpoint>) -> Option<&'static dyn Kind> {
        let expected = list(KINDS.iter().map(|k| k.name()));
        let Some(leaf) = value(raw.get_ref(), KIND) else {
            self.problem(raw.span(), format!("missing key `{KIND}`: expected {expected}"));
            return None;
        };
        let name = self.text(leaf, &format!("the kind of the endpoint: {expected}"))?;
        let kind = kinds::find(&name);
        if kind.is_none() {
            let written = shown(leaf.get_ref());
            self.problem(leaf.span(), format!("kind {written} is not supported by this version: expected {expected}"));
        }
        kind
    }

    fn unknown_keys(&mut self, kind: &dyn Kind, raw: &raw::Endpoint) {
        let known = |key: &str| key == KIND || kind.keys().iter().any(|k| k.name == key);
        for key in raw.keys().filter(|key| !known(key.get_ref())) {
            let has = match kind.keys() {
                [] => "leave it out".to_owned(),
                keys => format!("expected {}", keys_listed(keys)),
            };
            let message = format!("unknown key `{}` in an endpoint of kind {}: {has}", key.get_ref(), kind.name());
            self.problem(key.span(), secret::without_suspects(&message));
        }
    }
}

fn keys_listed(keys: &[Key]) -> String {
    let keys: Vec<String> = [KIND].into_iter().chain(keys.iter().map(|k| k.name)).map(|k| format!("`{k}`")).collect();
    keys.join(", ")
}

fn value<'r>(raw: &'r raw::Endpoint, key: &str) -> Option<&'r raw::Leaf> {
    raw.iter().find(|(k, _)| k.get_ref() == key).map(|(_, leaf)| leaf)
}
