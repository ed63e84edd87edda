//! How a command ends: exit codes, and why one ends early.

use std::fmt;
use std::process::ExitCode;

use trem_engine::Error;

use crate::config::Problems;

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
}

impl Failure {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Usage(_) => Exit::Misused,
            Self::Engine(_) | Self::System(_) => Exit::Failed,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => problems.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::Usage(message) | Self::System(message) => f.write_str(message),
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
