//! The engine of trem: the vocabulary of change data, the ports that endpoints implement and the runner that
//! moves rows from one to the other. No driver, no HTTP, no SQL.
//!
//! Inside this crate dependencies go one way: vocabulary (`position`, `types`, `schema`, `change`, `route`, `record`,
//! `error`, `remedy`, `task`), then [`ports`], then [`runner`]. `docs/ARCHITECTURE.md` is the map.

pub mod budget;
pub mod change;
pub mod chunk;
pub mod condition;
pub mod error;
pub mod ledger;
pub mod metrics;
pub mod name;
pub mod ports;
pub mod position;
pub mod progress;
pub mod quarantine;
pub mod record;
pub mod remedy;
pub mod route;
pub mod routes;
pub mod runner;
pub mod schema;
pub mod side;
pub mod task;
pub mod template;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod time;
pub mod type_name;
pub mod types;

pub use error::{Class, Error, Result};
pub use remedy::Remedy;
