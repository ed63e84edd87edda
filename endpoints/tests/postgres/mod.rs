//! PostgreSQL.

mod bookkeeping;
mod conformance;
mod connect;
mod definitions;
mod format_1;
mod source_place;
mod source_types;
mod target;
mod target_dialects;
mod target_load;
mod target_random;
mod target_safety;
mod target_types;
