//! The binary log: events, taken apart without IO.
//!
//! Formats: MySQL source documentation, "Binary Log Event Structures" (libbinlogevents); MariaDB knowledge base,
//! "Replication Protocol".

pub(super) mod bytes;
pub(super) mod event;
pub(super) mod gtid;
pub(super) mod row;
pub(super) mod table_map;
pub(super) mod temporal;
