//! Specifications as JSON: written as one TOML text, so that both forms have one reader, with the JSON pointer of every
//! place in it.

use std::fmt::Write;
use std::ops::Range;

use serde_json::{Map, Value};

use super::secret;

/// An object of the configuration, such as an endpoint or a task, as JSON.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its keys, which are those of the file.
    pub spec: Map<String, Value>,
    /// What messages call it; empty for what a request is about, where a pointer says all.
    pub label: String,
}

/// Items of a section of the file, such as `endpoints`.
pub struct Section {
    /// Its key.
    pub key: &'static str,
    /// What is in it.
    pub items: Vec<Item>,
}

/// The TOML text of some sections.
#[derive(Debug, Default)]
pub struct Document {
    /// The text.
    pub text: String,
    /// Where each key and value stands, and what it is called.
    pub places: Vec<(Range<usize>, String)>,
    /// Values that TOML has no form for: their place, and what is wrong.
    pub unfit: Vec<(String, &'static str)>,
}

impl Document {
    /// Writes the sections down.
    pub fn of(sections: &[Section]) -> Self {
        let mut document = Self::default();
        for section in sections {
            document.key(section.key);
            document.text.push_str(" = {");
            for (n, item) in section.items.iter().enumerate() {
                document.text.push_str(if n > 0 { ", " } else { "" });
                let start = document.text.len();
                document.key(&item.name);
                document.text.push_str(" = ");
                document.object(&item.spec, &item.label);
                document.places.push((start..document.text.len(), item.label.clone()));
            }
            document.text.push_str("}\n");
        }
        document
    }

    fn key(&mut self, key: &str) {
        self.string(key);
    }

    /// A basic string of TOML is one of JSON, but for one character.
    fn string(&mut self, text: &str) {
        let quoted = Value::String(text.to_owned()).to_string();
        self.text.push_str(&quoted.replace('\u{7f}', "\\u007f"));
    }

    fn object(&mut self, object: &Map<String, Value>, at: &str) {
        self.text.push('{');
        for (n, (key, value)) in object.iter().enumerate() {
            self.text.push_str(if n > 0 { ", " } else { "" });
            let at = format!("{at}/{}", token(key));
            let start = self.text.len();
            self.key(key);
            self.places.push((start..self.text.len(), at.clone()));
            self.text.push_str(" = ");
            self.value(value, &at);
        }
        self.text.push('}');
    }

    fn value(&mut self, value: &Value, at: &str) {
        let start = self.text.len();
        match value {
            Value::Null => self.unfit(at, "null is no value: leave the key out"),
            Value::Bool(flag) => self.put(flag),
            Value::Number(number) if number.is_i64() => self.put(number),
            Value::Number(number) if number.is_u64() => self.unfit(at, "the number is too large"),
            Value::Number(number) => match number.as_f64() {
                Some(float) => self.put(format_args!("{float:?}")),
                None => self.unfit(at, "the number is too large"),
            },
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.text.push('[');
                for (n, item) in items.iter().enumerate() {
                    self.text.push_str(if n > 0 { ", " } else { "" });
                    self.value(item, &format!("{at}/{n}"));
                }
                self.text.push(']');
            }
            Value::Object(object) => self.object(object, at),
        }
        self.places.push((start..self.text.len(), at.to_owned()));
    }

    fn put(&mut self, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{value}");
    }

    /// Something has to stand there for the rest to be read.
    fn unfit(&mut self, at: &str, what: &'static str) {
        self.text.push_str("false");
        self.unfit.push((at.to_owned(), what));
    }
}

/// A key as a token of a JSON pointer (RFC 6901, section 3).
fn token(key: &str) -> String {
    if secret::suspect(key) {
        return secret::HIDDEN.to_owned();
    }
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn written(spec: &Value) -> Document {
        let item = Item { name: "a.b \"c\"".to_owned(), spec: spec.as_object().unwrap().clone(), label: String::new() };
        Document::of(&[Section { key: "tasks", items: vec![item] }])
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What is written in one form reads the same in the other.
        #[test]
        fn toml_says_what_json_said(map in proptest::collection::btree_map(any::<String>(), any_value(), 0..4)) {
            let spec = Value::Object(map.into_iter().collect());
            let document = written(&spec);
            let read: toml::Value = toml::from_str(&document.text).unwrap();
            let read = serde_json::to_value(&read["tasks"]["a.b \"c\""]).unwrap();
            prop_assert_eq!(read, spec);
        }
    }

    #[test]
    fn every_place_has_its_pointer() {
        let document =
            written(&serde_json::json!({"tables": [{"include": "a", "x/y~z": null}], "n": 18446744073709551615u64}));
        let at = |pointer: &str| document.places.iter().any(|(_, at)| at == pointer);
        assert!(at("/tables/0/include") && at("/tables/0"), "{:?}", document.places);
        let unfit: Vec<&str> = document.unfit.iter().map(|(at, _)| at.as_str()).collect();
        assert_eq!(unfit, ["/n", "/tables/0/***"]);
    }
}
