//! New names made of old ones.

use std::fmt;

use heck::ToSnakeCase;

/// How a new name comes from the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// This one. Of what a regular expression covers, with what its groups have found in the place of `$1` or `$name`.
    To(String),
    /// With this in front.
    AddPrefix(String),
    /// With this behind.
    AddSuffix(String),
    /// Without this in front; a name that does not begin so stays.
    RemovePrefix(String),
    /// Without this behind; a name that does not end so stays.
    RemoveSuffix(String),
    /// In capitals.
    Upper,
    /// In small letters.
    Lower,
    /// `OrderId` becomes `order_id`.
    Snake,
}

impl Naming {
    /// The new name; `fill` puts into a template what a regular expression has found.
    pub(crate) fn of(&self, name: &str, fill: &dyn Fn(&str) -> String) -> String {
        let stripped = |rest: Option<&str>| rest.unwrap_or(name).to_owned();
        match self {
            Self::To(template) => fill(template),
            Self::AddPrefix(prefix) => format!("{prefix}{name}"),
            Self::AddSuffix(suffix) => format!("{name}{suffix}"),
            Self::RemovePrefix(prefix) => stripped(name.strip_prefix(prefix.as_str())),
            Self::RemoveSuffix(suffix) => stripped(name.strip_suffix(suffix.as_str())),
            Self::Upper => name.to_uppercase(),
            Self::Lower => name.to_lowercase(),
            Self::Snake => name.to_snake_case(),
        }
    }
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(to) => write!(f, "to {to}"),
            Self::AddPrefix(text) => write!(f, "by adding the prefix {text}"),
            Self::AddSuffix(text) => write!(f, "by adding the suffix {text}"),
            Self::RemovePrefix(text) => write!(f, "by removing the prefix {text}"),
            Self::RemoveSuffix(text) => write!(f, "by removing the suffix {text}"),
            Self::Upper => f.write_str("to upper case"),
            Self::Lower => f.write_str("to lower case"),
            Self::Snake => f.write_str("to snake case"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_names() {
        let of = |naming: Naming, name: &str| naming.of(name, &|template| template.replace("$1", "seen"));
        let text = |text: &str| text.to_owned();
        assert_eq!(of(Naming::To(text("a_$1")), "x"), "a_seen");
        assert_eq!(of(Naming::AddPrefix(text("a_")), "x"), "a_x");
        assert_eq!(of(Naming::AddSuffix(text("_a")), "x"), "x_a");
        assert_eq!(of(Naming::RemovePrefix(text("a_")), "a_a_x"), "a_x");
        assert_eq!(of(Naming::RemoveSuffix(text("_a")), "x"), "x");
        assert_eq!(of(Naming::Upper, "größe"), "GRÖSSE");
        assert_eq!(of(Naming::Lower, "OrderID"), "orderid");
        assert_eq!(of(Naming::Snake, "OrderID"), "order_id");
        assert_eq!(of(Naming::Snake, "HTTPServer v2"), "http_server_v2");
    }
}
