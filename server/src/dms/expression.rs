//! Expressions of `add-column`, which are SQLite's, as ours.

use super::text::quoted;

/// Functions that are called otherwise here, or the same.
const FUNCTIONS: &[(&str, &str)] = &[
    ("abs", "abs"),
    ("coalesce", "coalesce"),
    ("hash_sha256", "sha256"),
    ("ifnull", "coalesce"),
    ("instr", "strpos"),
    ("length", "length"),
    ("lower", "lower"),
    ("ltrim", "ltrim"),
    ("max", "greatest"),
    ("min", "least"),
    ("nullif", "nullif"),
    ("replace", "replace"),
    ("round", "round"),
    ("rtrim", "rtrim"),
    ("substr", "substr"),
    ("substring", "substr"),
    ("trim", "btrim"),
    ("upper", "upper"),
];

/// What is written in capitals and followed by a parenthesis, and no function.
const WORDS: &[&str] =
    &["and", "or", "not", "in", "when", "then", "else", "case", "like", "between", "cast", "is", "as"];

/// What is known of a row beside its columns.
const HEADERS: &[(&str, &str)] = &[
    ("AR_H_OPERATION", "CASE operation() WHEN 'update' THEN 'UPDATE' WHEN 'delete' THEN 'DELETE' ELSE 'INSERT' END"),
    ("AR_H_TIMESTAMP", "commit_time()"),
    ("AR_H_COMMIT_TIMESTAMP", "commit_time()"),
    ("AR_H_STREAM_POSITION", "commit_position()"),
    ("AR_H_TRANSACTION_ID", "transaction_id()"),
    ("AR_M_SOURCE_SCHEMA", "source_schema()"),
    ("AR_M_SOURCE_TABLE_NAME", "source_table()"),
];

/// The expression in our words; the error names what has none.
pub fn carried(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\'' | '"' => quote(rest, c).ok_or_else(|| format!("the expression has a {c} that is not closed"))?,
            '$' => {
                let name = word(&rest[1..]);
                out.push_str(&column(name)?);
                rest = &rest[1 + name.len()..];
                continue;
            }
            c if c.is_alphabetic() || c == '_' => {
                let name = word(rest);
                out.push_str(&called(name, rest[name.len()..].trim_start().starts_with('('))?);
                rest = &rest[name.len()..];
                continue;
            }
            c => &rest[..c.len_utf8()],
        };
        out.push_str(taken);
        rest = &rest[taken.len()..];
    }
    Ok(out)
}

/// What begins with a quote, to its end; a doubled one does not end it.
fn quote(text: &str, mark: char) -> Option<&str> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == mark && chars.next_if(|(_, next)| *next == mark).is_none() {
            return Some(&text[..=at]);
        }
    }
    None
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn column(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("the expression has a `$` without a name".to_owned());
    }
    match HEADERS.iter().find(|(header, _)| *header == name) {
        Some((_, ours)) => Ok((*ours).to_owned()),
        None if name.starts_with("AR_") => Err(format!("nothing here tells what ${name} does")),
        None => Ok(quoted(name)),
    }
}

fn called(name: &str, is_call: bool) -> Result<String, String> {
    let lower = name.to_lowercase();
    if !is_call || WORDS.contains(&lower.as_str()) {
        return Ok(name.to_owned());
    }
    match FUNCTIONS.iter().find(|(theirs, _)| *theirs == lower) {
        Some((_, ours)) => Ok((*ours).to_owned()),
        None if ["date", "time", "datetime", "julianday", "strftime"].contains(&lower.as_str()) => {
            Err(format!("{lower}() of SQLite has no counterpart: commit_time() is when the transaction committed"))
        }
        None => Err(format!("the function {lower}() has no counterpart that is known")),
    }
}
