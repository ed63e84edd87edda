//! The daemon: many tasks over months, by what the state file says people want of them.

mod difference;
mod fleet;
mod refusal;
mod specs;
mod status;
mod supervise;
mod views;
mod watch;

pub use difference::{Change, difference};
pub use fleet::{Fleet, Outdated, TaskPut};
pub use refusal::{Code, Refusal};
pub use views::{EndpointView, RuleSetView, TableStatus, TaskStatus, TaskView};
