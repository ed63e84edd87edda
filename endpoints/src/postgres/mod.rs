//! PostgreSQL as a source and as a target.

pub mod config;
pub mod connect;
pub mod datetime;
pub mod numeric;
pub mod quote;
pub mod sqlstate;
pub mod target;
pub mod tls;
