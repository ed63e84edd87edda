//! `${NAME}` in strings: replaced by the environment variable; `${file:PATH}` by what the file holds, without the end
//! of its last line. `$${` is a literal `${`.

/// Replaces every variable; the error says what is wrong and never holds a value.
pub fn interpolate(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            return Err("`${` has no closing `}` (write `$${` for a literal `${`)".to_owned());
        };
        if let Some(path) = name.strip_prefix("file:") {
            out.push_str(&held(path)?);
            rest = tail;
            continue;
        }
        if !is_name(name) {
            return Err(
                "between `${` and `}` stands the name of an environment variable, such as ${DB_PASSWORD}, or `file:`"
                    .into(),
            );
        }
        let value = env(name).ok_or_else(|| {
            format!("the environment variable {name} is not set (set it, or write `$${{` for a literal `${{`)")
        })?;
        out.push_str(&value);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// A secret as orchestrators put them there. The path is named, its content never.
fn held(path: &str) -> Result<String, String> {
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("the file of ${{file:{path}}} cannot be read: {e}"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
