//! What goes to stdout and stderr: plain writes whose failure (a closed pipe) is nobody's error.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use trem_engine::ports::{Finding, Severity};

use crate::task::Failure;

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

/// A remedy with the file and the task that endpoints do not know, so that its command can be copied.
pub fn with_names(remedy: &str, file: &Path, task: &str) -> String {
    remedy.replace("<config>", &file.display().to_string()).replace("<task>", task)
}

/// Findings as a table, worst first.
pub fn findings<'a>(findings: impl Iterator<Item = &'a Finding>) {
    let mut sorted: Vec<&Finding> = findings.collect();
    sorted.sort_by_key(|f| std::cmp::Reverse(f.severity));
    if sorted.is_empty() {
        return;
    }
    let mut table = table(&["severity", "subject", "message", "remedy"]);
    for f in sorted {
        table.add_row([severity(f.severity), &f.subject, &f.message, f.remedy.as_deref().unwrap_or_default()]);
    }
    say(table);
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Error => "ERROR",
    }
}

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}
