//! The engine's tests that need whole worlds.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod memory_conformance;
mod random_worlds;
mod sharing_memory;
mod taking_up;
