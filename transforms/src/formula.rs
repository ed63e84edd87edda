//! Expressions as they are written, and how errors speak of them.

use std::fmt;

use trem_engine::Error;

/// An expression as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Formula {
    text: String,
    secret: bool,
}

impl Formula {
    /// `secret`: it holds the value of a variable, and is never shown.
    pub fn new(text: impl Into<String>, secret: bool) -> Self {
        Self { text: text.into(), secret }
    }

    /// What is hashed of it, and never shown.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// An error about it. What is said of a text may quote it.
    pub(crate) fn error(&self, error: Error) -> Error {
        if !self.secret {
            return error.context(format_args!("expression {self}"));
        }
        let what = format!("expression {self}: what is wrong with it is not shown, as it might show the variable");
        Error::new(error.class(), what).remedy("try it with another value in the place of the variable")
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.char_indices().nth(200) {
            _ if self.secret => f.write_str("(with a variable)"),
            Some((end, _)) => write!(f, "`{}...`", &self.text[..end]),
            None => write!(f, "`{}`", self.text),
        }
    }
}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
