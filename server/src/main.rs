//! The trem binary.

mod config;

fn main() {}
