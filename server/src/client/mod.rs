//! The daemon as its clients see it: requests over HTTP, and what its refusals say.

mod apply;
mod connection;

pub use apply::{Step, Wanted, shown};
pub use connection::{Client, segment};
