//! What a message may repeat of a configuration: a password can stand at any place by mistake.

use toml::Value;

/// Stands where something is not shown.
pub const HIDDEN: &str = "***";
/// A value longer than this is no mistyped word.
const LONGEST_WORD: usize = 40;

/// Whether a text may hold a password or come from a variable: everything but a few plain words may.
pub fn suspect(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '+' | '*' | '?' | '\\');
    // One character is no password: what a TOML reader expects at a place may be a comma.
    let length = text.chars().count();
    length > 1 && (length > LONGEST_WORD || !text.chars().all(plain))
}

/// Whether a text holds a URL.
pub fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// A value as a message shows it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains("${") => "a value with a variable in it, which is not shown".to_owned(),
        Value::String(text) if suspect(text) => "a value that is not shown, as it may hold a password".to_owned(),
        Value::String(text) => format!("\"{text}\""),
        Value::Integer(n) => format!("the integer {n}"),
        Value::Float(n) => format!("the number {n}"),
        Value::Boolean(b) => format!("the boolean {b}"),
        Value::Datetime(_) => "a date or time".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// What serde says, in the words of the file and without the values that it repeats.
pub fn of_serde(message: &str) -> String {
    // Structures can be read from lists too, by place.
    if message.starts_with("invalid length ") {
        return "expected a table of keys, found a list".to_owned();
    }
    for start in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = message.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected ")) {
            let kind = match found.split(['"', '`']).next().unwrap_or_default().trim() {
                "map" => "a table",
                "sequence" => "a list",
                "string" => "a string",
                "integer" => "an integer",
                "boolean" => "a boolean",
                _ => "another kind of value",
            };
            let expected = match expected {
                "a sequence" => "a list of tables ([[...]])",
                e if e.starts_with("struct ") || e.contains("map") => "a table of keys",
                _ => "another kind of value",
            };
            return format!("expected {expected}, found {kind}");
        }
    }
    let message = message.replacen("unknown field", "unknown key", 1).replacen("missing field", "missing key", 1);
    without_suspects(&message)
}

/// The message, less everything between backticks that may hold a password.
pub fn without_suspects(message: &str) -> String {
    let parts = message.split('`').enumerate();
    let hidden = |n: usize, part: &str| (n % 2 == 1 && suspect(part)) || is_url(part) || part.contains('@');
    let kept = parts.map(|(n, part)| if hidden(n, part) { HIDDEN } else { part });
    kept.collect::<Vec<_>>().join("`")
}

/// A text without the password of a URL. References to the environment are no secrets.
pub fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    // A password may have an @ in it, the host has none.
    let Some(at) = rest[..end].rfind('@').or_else(|| rest.rfind('@')) else { return text.to_owned() };
    let (user, host) = rest.split_at(at);
    match user.split_once(':') {
        Some((user, password)) if !is_reference(password) => format!("{scheme}://{user}:{HIDDEN}{host}"),
        _ => text.to_owned(),
    }
}

fn is_reference(text: &str) -> bool {
    text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(|name| !name.contains(['{', '}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_references_are_not() {
        for (text, expected) in [
            ("postgres://u:hunter2@h:5432/d?sslmode=require", "postgres://u:***@h:5432/d?sslmode=require"),
            ("postgres://u:hunt/er@2@h/d", "postgres://u:***@h/d"),
            ("postgres://u:p@ss@h/d", "postgres://u:***@h/d"),
            ("postgres://u:${PASSWORD}@h/d", "postgres://u:${PASSWORD}@h/d"),
            ("postgres://u:${A}x${B}@h/d", "postgres://u:***@h/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres", "postgres"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
