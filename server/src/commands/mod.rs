//! The commands, one file each.

pub mod check;
pub mod drop;
pub mod plan;
pub mod reload;
pub mod run;
pub mod status;
