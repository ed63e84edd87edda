//! What the benches share: a pair of private servers with the disk's real cost, measured processes, workloads,
//! and results with everything that is needed to read them.
//!
//! As in the tests, everything here panics with a message when the machine does not play along; what a measured
//! program does wrong is a result and never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod machine;
pub mod pair;
pub mod process;
pub mod report;
pub mod stopwatch;
pub mod workload;
