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
    #[serde(default)]
    pub rules: Vec<Spanned<Rule>>,
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
