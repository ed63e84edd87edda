//! Findings as people and programs see them.

use serde::Serialize;
use trem_engine::ports::{Finding, Severity};

use crate::output;
use crate::remedy::Commands;

/// Columns that every terminal has.
const WIDTH: usize = 80;
/// Where a finding's text begins, behind its severity.
const INDENT: usize = 9;

/// A finding with its remedy written out. The names of the fields are documented in docs/OPERATIONS.md.
#[derive(Clone, Debug, Serialize)]
pub struct FindingView {
    /// How bad.
    pub severity: Severity,
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What mends it.
    pub remedy: Option<String>,
}

impl FindingView {
    /// The view of findings about one task.
    pub fn all(findings: impl IntoIterator<Item = Finding>, commands: &Commands<'_>) -> Vec<Self> {
        let one = |f: Finding| Self {
            severity: f.severity,
            subject: f.subject,
            message: f.message,
            remedy: f.remedy.map(|r| commands.remedy(&r)),
        };
        findings.into_iter().map(one).collect()
    }

    /// A line or more: the message is broken to fit, the remedy is not, so that it can be copied.
    fn lines(&self) -> String {
        let label = match self.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "ERROR",
        };
        let mut text = format!("{label:INDENT$}{}", fold(&format!("{}: {}", self.subject, self.message)));
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("\n{:INDENT$}remedy: {remedy}", ""));
        }
        text
    }
}

/// Findings to stdout, worst first.
pub fn print<'a>(findings: impl Iterator<Item = &'a FindingView>) {
    let mut sorted: Vec<&FindingView> = findings.collect();
    sorted.sort_by_key(|f| std::cmp::Reverse(f.severity));
    for finding in sorted {
        output::say(finding.lines());
    }
}

/// A look at both ends in one line.
pub fn verdict<'a>(tables: usize, findings: impl Iterator<Item = &'a FindingView> + Clone) -> String {
    let of = |severity| findings.clone().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let ready = if errors == 0 { "ready to run" } else { "refused until the errors are mended" };
    format!("{ready}: tables {tables}, errors {errors}, warnings {warnings}")
}

/// Breaks a text between words, with the lines after the first indented.
fn fold(text: &str) -> String {
    let mut out = String::new();
    let mut column = INDENT;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > INDENT && column + 1 + length > WIDTH {
            out.push_str(&format!("\n{:INDENT$}", ""));
            column = INDENT;
        } else if column > INDENT {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_fits_a_terminal_and_its_remedy_is_whole() {
        let long = "ALTER TABLE \"public\".\"a rather long name of a table\" REPLICA IDENTITY FULL; then wait";
        let finding = FindingView {
            severity: Severity::Error,
            subject: "public.t".to_owned(),
            message: "has no replica identity: once published, its UPDATE and DELETE statements would fail".to_owned(),
            remedy: Some(long.to_owned()),
        };
        let text = finding.lines();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ERROR    public.t: has no replica identity: once published, its UPDATE and");
        assert_eq!(lines[1], "         DELETE statements would fail");
        assert_eq!(lines[2], format!("         remedy: {long}"));
        assert!(lines[..2].iter().all(|l| l.len() <= WIDTH), "{text}");
    }
}
