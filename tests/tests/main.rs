//! End-to-end tests on real servers and the real binary, and the tidy test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bad_input;
mod bank;
mod changes;
mod commands;
mod crash;
mod existing;
mod failure;
mod harness;
mod lineage;
mod resume;
mod schema_changes;
mod security;
mod tidy;
mod types;

/// How long anything may take that must happen.
const PATIENCE: std::time::Duration = trem_tests::world::PATIENCE;
