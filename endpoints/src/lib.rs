//! Sources and targets of trem: every database driver lives in this crate, one folder for each database.

pub mod address;
pub mod datetime;
pub(crate) mod failpoint;
pub mod kind;
pub mod kinds;
pub mod mysql;
pub mod null;
pub mod postgres;
pub(crate) mod target;
pub(crate) mod view;
