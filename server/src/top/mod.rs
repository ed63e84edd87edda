//! The live view of a daemon: what is shown, and how.

mod model;
mod view;

pub use model::{Act, Key, Model};
pub use view::draw;
