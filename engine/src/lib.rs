//! The engine of trem: the vocabulary of change data, the ports that endpoints implement and the runner that
//! moves rows from one to the other. No driver, no HTTP, no SQL.
//!
//! Inside this crate dependencies go one way: vocabulary (`position`, `schema`, `change`, `route`, `error`, `task`), then
//! [`ports`], then [`runner`]. `docs/ARCHITECTURE.md` is the map.

pub mod change;
pub mod error;
pub mod ports;
pub mod position;
pub mod progress;
pub mod route;
pub mod runner;
pub mod schema;
pub mod task;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod time;

pub use error::{Class, Error, Result};
