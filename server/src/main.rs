//! The trem binary.

fn main() {}
