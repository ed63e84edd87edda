//! Rules of table mappings as they are written.

use serde::Deserialize;
use serde_json::Value;

/// A rule that is not carried over, or not in full.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// Its number, and its name if that is another.
    pub rule: String,
    /// Why.
    pub reason: String,
}

/// A rule of any type, as far as all have the same keys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rule {
    pub rule_type: String,
    #[serde(default)]
    pub rule_id: Value,
    #[serde(default)]
    pub rule_name: Value,
    #[serde(default)]
    pub rule_action: String,
    #[serde(default)]
    pub rule_target: String,
    #[serde(default)]
    pub object_locator: Locator,
    #[serde(default)]
    pub filters: Vec<Filter>,
    #[serde(default)]
    pub value: Option<String>,
    #[serde(default)]
    pub old_value: Option<String>,
    #[serde(default)]
    pub expression: Option<String>,
    #[serde(default)]
    pub data_type: Option<DataType>,
    #[serde(default)]
    pub primary_key_def: Option<KeyDef>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Locator {
    pub schema_name: Option<String>,
    pub table_name: Option<String>,
    pub column_name: Option<String>,
    pub data_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Filter {
    pub column_name: String,
    #[serde(default)]
    pub filter_conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Condition {
    pub filter_operator: String,
    pub value: Option<Value>,
    pub start_value: Option<Value>,
    pub end_value: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataType {
    pub r#type: String,
    pub length: Option<Value>,
    pub precision: Option<Value>,
    pub scale: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub struct KeyDef {
    #[serde(default)]
    pub columns: Vec<String>,
}

impl Rule {
    /// Its number, and its name if that is another.
    pub fn label(&self) -> String {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match (text(&self.rule_id), text(&self.rule_name)) {
            (id, name) if id == name || name == "null" => format!("rule {id}"),
            (id, name) => format!("rule {id} ({name})"),
        }
    }
}
