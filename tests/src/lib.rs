//! What the end-to-end tests, the demo and the benches share: private servers, a handle on the real binary,
//! a comparison of both sides, a proxy that breaks connections, and workloads.
//!
//! Everything here panics with a message when the machine does not play along: to a test that is a failure, and
//! there is nobody else to handle it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod binaries;
pub mod cluster;
pub mod compare;
pub mod daemon;
pub mod db;
pub mod maria;
pub mod pooler;
pub mod proxy;
pub mod shop;
pub mod tls;
pub mod trem;
pub mod workload;
pub mod world;

pub use cluster::{Auth, PgCluster, PgOptions, Shutdown};
pub use compare::{assert_equal, differences, wait_equal};
pub use db::Db;
pub use maria::{MariaCluster, My};
pub use pooler::Pooler;
pub use proxy::Proxy;
pub use trem::{Outcome, Running, TaskConfig, Trem};
pub use world::World;
