//! How a command ends: exit codes, and why one ends early.

use std::fmt;
use std::process::ExitCode;

use trem_engine::Error;

use crate::config::Problems;

/// The exit codes, for `--help`.
pub const CODES: &str = "\
Exit codes:
  0  done
  1  a task stopped on an error, a check or a plan found one, or an end did not
     answer
  2  bad usage or configuration
  3  done, but tables were left suspended, of a run that ends by itself (with
     --until-current, or because its tasks only load): it says which, why, and
     how they come back; so does `trem status`";

/// The exit codes; scripts depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// A task stopped on an error, or a check found one.
    Failed = 1,
    /// Bad usage or configuration.
    Misused = 2,
    /// Done, but for tables that were left suspended.
    Suspended = 3,
}

impl Exit {
    /// Failed or done.
    pub fn of(failed: bool) -> Self {
        if failed { Self::Failed } else { Self::Done }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or the command line is wrong.
    Config(Problems),
    /// Something around the command is wrong, such as an environment variable.
    Usage(String),
    /// An endpoint refused or failed.
    Engine(Error),
    /// The machine did not give what the program needs.
    System(String),
    /// A daemon refuses.
    Daemon(String, Exit),
}

impl Failure {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Usage(_) => Exit::Misused,
            Self::Engine(_) | Self::System(_) => Exit::Failed,
            Self::Daemon(_, exit) => *exit,
        }
    }

    /// Says what a refusal of a daemon is about.
    pub fn about(self, subject: &str) -> Self {
        match self {
            Self::Daemon(message, exit) => Self::Daemon(format!("{subject}: {message}"), exit),
            other => other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => problems.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::Usage(message) | Self::System(message) | Self::Daemon(message, _) => f.write_str(message),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever writes a script finds the codes wherever they look.
    #[test]
    fn every_code_is_documented() {
        for exit in [Exit::Done, Exit::Failed, Exit::Misused, Exit::Suspended] {
            let code = exit as u8;
            assert!(CODES.contains(&format!("\n  {code}  ")), "{exit:?}");
            for document in [include_str!("../../README.md"), include_str!("../../docs/OPERATIONS.md")] {
                assert!(document.contains(&format!("\n| {code} | ")), "{exit:?}");
            }
        }
    }
}
