//! What goes to stdout and stderr: plain writes whose failure (a closed pipe) is nobody's error.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use crate::exit::Failure;
use crate::layout::{fold, width};

/// A line to stdout.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A text to stdout behind its label, folded.
pub fn tell(label: &str, text: impl Display) {
    say(fold(label, &text.to_string(), width()));
}

/// A line to stderr, beside what goes to stdout.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Why a command ended early, to stderr.
pub fn complain(failure: &Failure) {
    let _ = writeln!(io::stderr().lock(), "trem: {failure}");
}

/// A JSON document to stdout.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    say(text.map_err(|e| Failure::System(format!("cannot write JSON: {e}")))?);
    Ok(())
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}
