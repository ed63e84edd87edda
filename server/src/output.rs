//! What goes to stdout and stderr: plain writes whose failure (a closed pipe) is nobody's error.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::exit::Failure;

/// A line to stdout.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{text}");
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

/// A table with a header; not wider than the terminal, as wide as it likes otherwise.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    table
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}
