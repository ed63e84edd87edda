//! Names and texts as TOML and SQL have them.

/// A key of TOML.
pub fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { name.to_owned() } else { string(name) }
}

/// A string of TOML, in which nothing is a variable.
pub fn string(text: &str) -> String {
    toml::Value::String(text.replace("${", "$${")).to_string()
}

/// A name in an expression.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
