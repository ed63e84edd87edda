//! The commands, one file each.

pub mod apply;
pub mod check;
pub mod completion;
pub mod drop;
pub mod endpoint;
pub mod explain;
pub mod import;
pub mod plan;
pub mod quarantine;
pub mod reload;
pub mod run;
pub mod serve;
pub mod status;
pub mod task;
pub mod token;
pub mod top;
