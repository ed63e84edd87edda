//! End-to-end tests on real servers and the real binary, and the tidy test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;
mod tidy;
