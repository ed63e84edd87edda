//! The adapters on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mysql;
mod postgres;
mod rig;
