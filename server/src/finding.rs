//! Findings as people and programs see them.

use serde::Serialize;
use trem_engine::ports::Severity;
use trem_engine::runner::Found;
use trem_engine::side::Side;

use crate::layout::{fold, width};
use crate::output;
use crate::remedy::Commands;

/// Where a finding's text begins, behind its severity.
const INDENT: usize = 9;

/// A finding with its remedy written out. The names of the fields are documented in docs/OPERATIONS.md.
#[derive(Clone, Debug, Serialize)]
pub struct FindingView {
    /// How bad.
    pub severity: Severity,
    /// At which end, unless it is about neither.
    pub side: Option<Side>,
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What mends it.
    pub remedy: Option<String>,
    /// All but the remedy, in a sentence.
    #[serde(skip)]
    said: String,
}

impl FindingView {
    /// The view of findings about one task.
    pub fn all(findings: impl IntoIterator<Item = Found>, commands: &Commands<'_>) -> Vec<Self> {
        let one = |f: Found| Self {
            said: f.said(),
            severity: f.finding.severity,
            side: f.side,
            subject: f.finding.subject,
            message: f.finding.message,
            remedy: f.finding.remedy.map(|r| commands.remedy(&r)),
        };
        findings.into_iter().map(one).collect()
    }

    /// Whether a task can start in spite of it.
    pub fn allows(&self) -> bool {
        self.severity != Severity::Error
    }

    /// Lines that are not longer than this, the remedy below the message.
    fn lines(&self, width: usize) -> String {
        let label = match self.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "ERROR",
        };
        let mut text = fold(&format!("{label:INDENT$}"), &self.said, width);
        if let Some(remedy) = &self.remedy {
            text.push('\n');
            text.push_str(&fold(&format!("{:INDENT$}remedy: ", ""), remedy, width));
        }
        text
    }
}

/// Findings to stdout, worst first.
pub fn print<'a>(findings: impl Iterator<Item = &'a FindingView>) {
    let mut sorted: Vec<&FindingView> = findings.collect();
    sorted.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let width = width();
    for finding in sorted {
        output::say(finding.lines(width));
    }
}

/// A look at both ends in one line.
pub fn verdict<'a>(tables: usize, findings: impl Iterator<Item = &'a FindingView> + Clone) -> String {
    let of = |severity| findings.clone().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let ready = if errors == 0 { "ready to run" } else { "refused until the errors are mended" };
    format!("{ready}: tables {tables}, errors {errors}, warnings {warnings}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use trem_engine::Remedy;
    use trem_engine::ports::Finding;

    #[test]
    fn a_finding_fits_a_terminal_and_its_remedy_stands_below() {
        let sql = "ALTER TABLE \"public\".\"a rather long name\" REPLICA IDENTITY FULL";
        let finding = Finding {
            severity: Severity::Error,
            subject: "public.t".to_owned(),
            message: "has no primary key: once published, its UPDATE and DELETE statements would fail".to_owned(),
            remedy: Some(Remedy::Sql(sql.to_owned())),
        };
        let commands = Commands::of_file(Path::new("t.toml"), "t");
        let found = FindingView::all([Found::at(Side::Source, finding)], &commands);
        let text = found[0].lines(80);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ERROR    source, public.t: has no primary key: once published, its UPDATE and");
        assert_eq!(lines[1], "         DELETE statements would fail");
        assert_eq!(lines[2], "         remedy: run `ALTER TABLE \"public\".\"a rather long name\" REPLICA IDENTITY");
        assert_eq!(lines[3], "                 FULL` at the source");
    }
}
