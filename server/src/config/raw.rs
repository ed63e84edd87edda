//! The file as the user wrote it. Leaves stay untyped and keep their place, so that `resolve` can say exactly
//! what was expected where; the shapes here only refuse unknown keys and miss required ones.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

/// A value and its place in the file.
pub type Leaf = Spanned<Value>;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    pub memory: Option<Leaf>,
    #[serde(default)]
    pub endpoints: BTreeMap<String, Spanned<Endpoint>>,
    #[serde(default)]
    pub rule_sets: BTreeMap<String, Spanned<RuleSet>>,
    #[serde(default)]
    pub tasks: BTreeMap<String, Spanned<Task>>,
}

/// `[endpoints.NAME]`: which keys it has is its kind's affair.
pub type Endpoint = BTreeMap<Spanned<String>, Leaf>;

/// `[tasks.NAME]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Task {
    pub source: Leaf,
    pub target: Leaf,
    pub mode: Option<Leaf>,
    pub on_existing: Option<Leaf>,
    pub after_load: Option<Leaf>,
    pub tables: Option<Spanned<Vec<Spanned<Tables>>>>,
    pub rule_sets: Option<Leaf>,
    #[serde(default)]
    pub rules: Vec<Spanned<Rule>>,
    pub on_row_error: Option<Leaf>,
    #[serde(default)]
    pub batch: Batch,
    #[serde(default)]
    pub load: Load,
    pub memory: Option<Leaf>,
    #[serde(default)]
    pub retry: Retry,
    pub rediscover: Option<Leaf>,
}

/// `[[tasks.NAME.tables]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tables {
    pub include: Leaf,
    pub exclude: Option<Leaf>,
    pub filter: Option<Leaf>,
    pub columns: Option<Leaf>,
    pub exclude_columns: Option<Leaf>,
}

/// `[rule-sets.NAME]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RuleSet {
    pub rules: Vec<Spanned<Rule>>,
}

/// `[[tasks.NAME.rules]]`, with the keys of every action.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    pub r#match: Leaf,
    pub action: Leaf,
    pub column: Option<Leaf>,
    pub to: Option<Leaf>,
    pub r#type: Option<Leaf>,
    pub value: Option<Leaf>,
    pub columns: Option<Leaf>,
    pub add_prefix: Option<Leaf>,
    pub add_suffix: Option<Leaf>,
    pub remove_prefix: Option<Leaf>,
    pub remove_suffix: Option<Leaf>,
    pub case: Option<Leaf>,
    pub mask: Option<Leaf>,
    pub salt: Option<Leaf>,
    pub keep: Option<Leaf>,
    pub on_misfit: Option<Leaf>,
    pub prefix: Option<Leaf>,
    pub beside_suffix: Option<Leaf>,
    pub merge: Option<Leaf>,
}

impl Rule {
    /// All keys but `match` and `action`.
    pub fn keys(&self) -> [(&'static str, Option<&Leaf>); 17] {
        [
            ("column", &self.column),
            ("columns", &self.columns),
            ("to", &self.to),
            ("type", &self.r#type),
            ("value", &self.value),
            ("add-prefix", &self.add_prefix),
            ("add-suffix", &self.add_suffix),
            ("remove-prefix", &self.remove_prefix),
            ("remove-suffix", &self.remove_suffix),
            ("case", &self.case),
            ("mask", &self.mask),
            ("salt", &self.salt),
            ("keep", &self.keep),
            ("on-misfit", &self.on_misfit),
            ("prefix", &self.prefix),
            ("beside-suffix", &self.beside_suffix),
            ("merge", &self.merge),
        ]
        .map(|(key, leaf)| (key, leaf.as_ref()))
    }
}

/// `[tasks.NAME.batch]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Batch {
    pub max_rows: Option<Leaf>,
    pub max_bytes: Option<Leaf>,
    pub linger: Option<Leaf>,
}

/// `[tasks.NAME.load]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Load {
    pub workers: Option<Leaf>,
    pub chunk_bytes: Option<Leaf>,
    pub resume_above_bytes: Option<Leaf>,
}

/// `[tasks.NAME.retry]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Retry {
    pub initial: Option<Leaf>,
    pub max: Option<Leaf>,
    pub give_up_after: Option<Leaf>,
    pub tell_after: Option<Leaf>,
}
