//! The daemon: many tasks over months, by what the state file says people want of them.

mod fleet;
mod refusal;
mod specs;
mod status;
mod supervise;
mod views;
mod watch;

pub use fleet::Fleet;
pub use refusal::{Code, Refusal};
pub use views::{EndpointView, TableStatus, TaskStatus, TaskView};
