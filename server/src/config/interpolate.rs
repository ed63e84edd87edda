//! `${NAME}` in strings: replaced by the environment variable, `$${` is a literal `${`.

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
        if !is_name(name) {
            return Err(
                "between `${` and `}` stands the name of an environment variable, such as ${DB_PASSWORD}".into()
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

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
