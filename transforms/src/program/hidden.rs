//! Errors that do not tell a value which a rule masks or leaves out.

use trem_engine::{Class, Error};

use crate::formula::Formula;

/// What an error of a row says, without the row's value. `formula`: what could not be computed.
pub(super) fn without_value(error: Error, formula: Option<&Formula>) -> Error {
    if error.class() != Class::Table {
        return error;
    }
    let doing = formula.map(|formula| format!("expression {formula}: ")).unwrap_or_default();
    let reason = error.reason();
    let what = without_values(reason.strip_prefix(&doing).unwrap_or(&reason));
    Error::new(Class::Table, format!("{doing}{what}"))
}

/// A message without what may be a value in it: what stands in quotes, and numbers.
fn without_values(message: &str) -> String {
    let mut text = message.to_owned();
    for quote in ['\'', '"', '`'] {
        // From the first to the last: a value may have quotes in it.
        if let (Some(first), Some(last)) = (text.find(quote), text.rfind(quote))
            && first < last
        {
            text.replace_range(first..=last, "(a value)");
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        // A digit behind a letter is part of a name, such as Int32.
        let hidden = c.is_ascii_digit() && !before.is_alphabetic();
        if hidden && before != '#' {
            out.push('#');
        } else if !hidden {
            out.push(c);
        }
        before = if hidden {
            '#'
        } else if c.is_ascii_digit() {
            before
        } else {
            c
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::without_values;

    #[test]
    fn a_message_does_not_tell_the_value() {
        assert_eq!(
            without_values("Cannot cast string 'it's 7' to value of Int32 type"),
            "Cannot cast string (a value) to value of Int32 type"
        );
        assert_eq!(without_values("Can't cast value 4000000000 to type Int32"), "Can't cast value # to type Int32");
        assert_eq!(without_values("Overflow happened on: -12.5 * 100"), "Overflow happened on: -#.# * #");
        assert_eq!(without_values("Divide by zero error"), "Divide by zero error");
    }
}
