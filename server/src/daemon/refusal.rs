//! Why the daemon does not do what it was asked.

use trem_engine::{Class, Error};

use super::views::remedy;
use crate::config::Problems;
use crate::store::StoreError;

/// What kind of refusal it is; programs go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// There is nothing of that name.
    NotFound,
    /// What was sent is no valid specification.
    Invalid,
    /// It cannot be done in the state that the thing is in.
    Conflict,
    /// It has been changed since it was read.
    Changed,
    /// A database does not answer, or refuses.
    Endpoint,
    /// The state file cannot be written: its disk is full, say.
    State,
}

/// A refusal, for people and for programs.
#[derive(Debug)]
pub struct Refusal {
    /// What kind.
    pub code: Code,
    /// What is wrong.
    pub detail: String,
    /// What to do.
    pub remedy: Option<String>,
    /// What is wrong with single places of a specification.
    pub problems: Vec<(String, String)>,
}

impl Refusal {
    /// Without a remedy yet.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), remedy: None, problems: Vec::new() }
    }

    /// There is no such thing.
    pub fn not_found(what: &str, name: &str) -> Self {
        let all = format!("GET /api/v1/{what}s lists those that there are");
        Self::new(Code::NotFound, format!("there is no {what} {name}")).remedy(all)
    }

    /// Says what to do.
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// An error of one of a task's ends.
    pub fn of_task(task: &str, error: &Error) -> Self {
        let code = match error.class() {
            Class::Refused | Class::Table => Code::Conflict,
            _ => Code::Endpoint,
        };
        let table = error.table_id().map_or_else(String::new, |table| format!("{table}: "));
        let detail = format!("{table}{}", error.reason());
        Self { remedy: error.advice().map(|r| remedy(task, r)), ..Self::new(code, detail) }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Changed => {
                Self::new(Code::Changed, "it has been changed since it was read, or is there already")
                    .remedy("read it again, and send its ETag in If-Match")
            }
            error => Self::new(Code::State, error.to_string())
                .remedy("make room on the disk of the state file, and see the daemon's log; tasks that run go on"),
        }
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        let detail = match problems.0.len() {
            1 => "the specification is not valid".to_owned(),
            n => format!("the specification is not valid: {n} places are wrong"),
        };
        let problems = problems.0.into_iter().map(|p| (p.key, p.message)).collect();
        Self { problems, ..Self::new(Code::Invalid, detail).remedy("correct what `errors` names") }
    }
}
