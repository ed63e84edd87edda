//! Patterns of DMS as ours: `%` is any run of characters, `[_]` an underscore, `[ab]` one of these.

use super::mapping::Locator;
use super::text::string;
use super::types::type_name;

/// A pattern as a glob of ours; `None` if it takes a regular expression.
pub fn glob(pattern: &str) -> Option<String> {
    let pattern = pattern.replace("[_]", "_");
    if pattern.contains(['[', ']']) {
        return None;
    }
    let one = |c: char| match c {
        '%' => "*".to_owned(),
        '*' | '?' | '\\' | '.' => format!("\\{c}"),
        c => c.to_string(),
    };
    Some(pattern.chars().map(one).collect())
}

/// A pattern as a regular expression of ours.
pub fn regex(pattern: &str) -> String {
    let mut out = String::new();
    let mut in_set = false;
    for c in pattern.replace("[_]", "_").chars() {
        match c {
            '[' | ']' => {
                in_set = c == '[';
                out.push(c);
            }
            '%' if !in_set => out.push_str(".*"),
            c if c.is_alphanumeric() || c == '_' || (in_set && c == '^') => out.push(c),
            c => out.extend(['\\', c]),
        }
    }
    out
}

/// `{ regex = '...' }`
pub fn regex_value(text: &str) -> String {
    format!("{{ regex = {} }}", string(text))
}

impl Locator {
    fn schema(&self) -> &str {
        self.schema_name.as_deref().unwrap_or("%")
    }

    fn table(&self) -> &str {
        self.table_name.as_deref().unwrap_or("%")
    }

    /// The tables, as `match` and `include` take them.
    pub fn tables(&self) -> String {
        match (glob(self.schema()), glob(self.table())) {
            (Some(schema), Some(table)) => string(&format!("{schema}.{table}")),
            _ => regex_value(&format!("{}\\.{}", regex(self.schema()), regex(self.table()))),
        }
    }

    /// The tables, with a regular expression for the name of the schema or of the table that has a group.
    pub fn tables_by(&self, schema: Option<&str>, table: Option<&str>) -> String {
        let of = |own: Option<&str>, pattern: &str| own.map_or_else(|| regex(pattern), str::to_owned);
        regex_value(&format!("{}\\.{}", of(schema, self.schema()), of(table, self.table())))
    }

    /// The columns, as `column` takes them.
    pub fn columns(&self) -> Result<String, String> {
        match (&self.column_name, &self.data_type) {
            (Some(name), None) => Ok(glob(name).map_or_else(|| regex_value(&regex(name)), |name| string(&name))),
            (None, Some(ty)) => Ok(format!("{{ type = {} }}", string(&type_name(ty)?))),
            (Some(_), Some(_)) => Err("columns by name and type at once have no counterpart".to_owned()),
            (None, None) => Err("it names no column".to_owned()),
        }
    }

    /// The one column that it names.
    pub fn column(&self) -> Option<String> {
        self.column_name.as_ref().map(|name| name.replace("[_]", "_")).filter(|name| !name.contains(['%', '[', ']']))
    }
}
