//! What is found at an end.

use serde::{Deserialize, Serialize};

use crate::remedy::Remedy;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be, worth saying.
    Ok,
    /// Works, but the operator should know.
    Warning,
    /// The task is refused until this is mended.
    Error,
}

/// One result of looking at an endpoint before anything is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The setting, privilege or table looked at.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What mends it.
    pub remedy: Option<Remedy>,
}
