//! The commands, one file each.

pub mod check;
pub mod drop;
pub mod explain;
pub mod import;
pub mod plan;
pub mod quarantine;
pub mod reload;
pub mod run;
pub mod serve;
pub mod status;
pub mod token;
