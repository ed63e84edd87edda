//! PostgreSQL as a source and as a target.

mod catalog;
pub mod config;
pub mod connect;
mod counterpart;
mod decode;
pub mod kind;
pub mod numeric;
mod others;
pub mod quote;
mod reach;
mod row;
pub mod source;
pub mod sqlstate;
pub mod target;
pub mod tls;
pub mod transport;
mod types;
mod wire;

pub use source::PostgresSource;
pub use target::PostgresTarget;
