//! Errors inside a set: a violated unique constraint has a way out that no other error has.

use tokio_postgres::error::SqlState;
use trem_engine::Error;

use crate::postgres::sqlstate;

/// What to do first about rows that are not there and should be.
pub(super) const CHANGED: &str = "see who else changes the target";

/// Why a statement failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A unique or exclusion constraint stood against an order of steps, or against the rows themselves.
    Unique(Error),
    /// Anything else.
    Other(Error),
}

/// Shorthand for results inside a set.
pub(super) type Tried<T> = Result<T, Failure>;

impl From<tokio_postgres::Error> for Failure {
    fn from(e: tokio_postgres::Error) -> Self {
        let unique =
            matches!(e.code(), Some(c) if *c == SqlState::UNIQUE_VIOLATION || *c == SqlState::EXCLUSION_VIOLATION);
        let error = sqlstate::error(e);
        if unique { Self::Unique(error) } else { Self::Other(error) }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Other(e)
    }
}

impl From<Failure> for Error {
    fn from(f: Failure) -> Self {
        match f {
            Failure::Unique(e) | Failure::Other(e) => e,
        }
    }
}
