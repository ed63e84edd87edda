//! End-to-end tests on real servers and the real binary, and the tidy test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod backlog;
mod bad_input;
mod bank;
mod beside;
mod catalogue;
mod changes;
mod check;
mod commands;
mod conserved;
mod contract;
mod crash;
mod daemon;
mod daemon_clients;
mod daemon_kills;
mod daemon_schema;
mod documents;
mod existing;
mod expressions;
mod failing;
mod failure;
mod harness;
mod interference;
mod left_behind;
mod lineage;
mod manual;
mod mariadb;
mod mariadb_target;
mod mariadb_types;
mod merge;
mod one_table;
mod past;
mod pushed;
mod quarantine;
mod random;
mod random_rules;
mod refused_rules;
mod remedies;
mod resume;
mod rules;
mod schema_changes;
mod secondary;
mod security;
mod source_traps;
mod takeover;
mod tidy;
mod types;
mod unharmed;
mod words;

/// How long anything may take that must happen.
const PATIENCE: std::time::Duration = trem_tests::world::PATIENCE;

/// A number that decides everything that is random in a test: `TREM_SEED`, or else a new one, which is printed.
fn seed() -> u64 {
    let seed = std::env::var("TREM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("TREM_SEED={seed}");
    seed
}
