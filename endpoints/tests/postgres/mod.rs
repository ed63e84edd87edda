//! PostgreSQL.

mod conformance;
mod connect;
mod target;
mod target_load;
mod target_random;
mod target_safety;
mod target_types;
