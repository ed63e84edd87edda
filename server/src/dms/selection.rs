//! Selection rules: which tables, which of their rows.

use serde_json::Value;

use super::mapping::{Condition, Filter, Rule};
use super::text::{quoted, string};

/// The tables that are selected.
#[derive(Debug, Default)]
pub struct Selection {
    /// Patterns, with their filters.
    include: Vec<(String, Vec<String>)>,
    exclude: Vec<String>,
}

impl Selection {
    /// Takes a rule in; the error says what of it is not.
    pub fn take(&mut self, rule: &Rule) -> Result<(), String> {
        let tables = rule.object_locator.tables();
        match rule.rule_action.as_str() {
            "include" | "explicit" => {
                let filters: Vec<Result<String, String>> = rule.filters.iter().map(condition).collect();
                let wrong: Vec<&String> = filters.iter().filter_map(|f| f.as_ref().err()).collect();
                if let Some(wrong) = wrong.first() {
                    // More rows than were asked for would be a leak.
                    return Err(format!("its tables are not taken, as its filter is not carried over: {wrong}"));
                }
                self.include.push((tables, filters.into_iter().filter_map(Result::ok).collect()));
                Ok(())
            }
            "exclude" => {
                self.exclude.push(tables);
                Ok(())
            }
            other => Err(format!("the action {other:?} of a selection is not known")),
        }
    }

    /// The entries of `tables`, without their headers.
    pub fn entries(&self) -> Vec<String> {
        let entry = |(include, filters): &(String, Vec<String>)| {
            let mut out = format!("include = {include}\n");
            if !self.exclude.is_empty() {
                out.push_str(&format!("exclude = [{}]\n", self.exclude.join(", ")));
            }
            if !filters.is_empty() {
                out.push_str(&format!("filter = {}\n", string(&filters.join(" AND "))));
            }
            out
        };
        self.include.iter().map(entry).collect()
    }
}

/// Conditions on one column are alternatives.
fn condition(filter: &Filter) -> Result<String, String> {
    let column = quoted(&filter.column_name);
    let conditions =
        filter.filter_conditions.iter().map(|c| one(&column, c)).collect::<Result<Vec<String>, String>>()?;
    match conditions.len() {
        0 => Err(format!("the filter on {column} has no condition")),
        1 => Ok(conditions.concat()),
        _ => Ok(format!("({})", conditions.join(" OR "))),
    }
}

fn one(column: &str, condition: &Condition) -> Result<String, String> {
    let value = |value: &Option<Value>, key: &str| {
        value.as_ref().map(literal).ok_or_else(|| format!("{} has no `{key}`", condition.filter_operator))
    };
    let plain = |sign: &str| Ok(format!("{column} {sign} {}", value(&condition.value, "value")?));
    let range = |not: &str| {
        let (from, to) = (value(&condition.start_value, "start-value")?, value(&condition.end_value, "end-value")?);
        Ok(format!("{column} {not}BETWEEN {from} AND {to}"))
    };
    match condition.filter_operator.as_str() {
        "eq" => plain("="),
        "noteq" => plain("<>"),
        "ste" => plain("<="),
        "gte" => plain(">="),
        "between" => range(""),
        "notbetween" => range("NOT "),
        "null" => Ok(format!("{column} IS NULL")),
        "notnull" => Ok(format!("{column} IS NOT NULL")),
        other => Err(format!("the operator {other:?} is not known")),
    }
}

/// A number as it is, anything else in quotes: the mappings have texts for both.
fn literal(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let number = !digits.is_empty() && digits.starts_with(|c: char| c.is_ascii_digit());
    let number = number && digits.chars().all(|c| c.is_ascii_digit() || c == '.') && digits.matches('.').count() <= 1;
    // One with zeros in front is a code, mostly.
    let code = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if number && !code { text } else { format!("'{}'", text.replace('\'', "''")) }
}
