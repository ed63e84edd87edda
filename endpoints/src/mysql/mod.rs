//! MySQL and MariaDB.

mod binlog;
mod catalog;
mod charset;
pub mod config;
mod connect;
pub mod error;
pub mod kind;
mod quote;
mod row;
pub mod source;
mod types;

pub use source::MysqlSource;
