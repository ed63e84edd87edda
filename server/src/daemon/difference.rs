//! What has changed between two specifications, place by place.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A place at which two specifications differ.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Change {
    /// A JSON pointer (RFC 6901).
    pub pointer: String,
    /// What was there; null where there was nothing.
    #[schema(value_type = Value)]
    pub before: Value,
    /// What is there now; null where there is nothing.
    #[schema(value_type = Value)]
    pub after: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
        write!(f, "{}: {} -> {}", self.pointer, shown(&self.before), shown(&self.after))
    }
}

/// All of them. Lists are compared as a whole where their lengths differ.
pub fn difference(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", before, after, &mut changes);
    changes
}

fn compare(at: &str, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                compare(&at, one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null), changes);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (n, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{at}/{n}"), one, other, changes);
            }
        }
        (one, other) if one == other => {}
        (one, other) => {
            changes.push(Change { pointer: at.to_owned(), before: one.clone(), after: other.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_place_is_told() {
        let before = json!({"a": 1, "b": [1, {"c": 2}], "d": [1], "e/f": true});
        let after = json!({"a": 1, "b": [1, {"c": 3}], "d": [1, 2], "g": {"h": null}});
        let told: Vec<(String, Value, Value)> =
            difference(&before, &after).into_iter().map(|c| (c.pointer, c.before, c.after)).collect();
        let expected = [
            ("/b/1/c", json!(2), json!(3)),
            ("/d", json!([1]), json!([1, 2])),
            ("/e~1f", json!(true), Value::Null),
            ("/g", Value::Null, json!({"h": null})),
        ];
        assert_eq!(told, expected.map(|(at, before, after)| (at.to_owned(), before, after)));
        assert!(difference(&before, &before).is_empty());
    }
}
