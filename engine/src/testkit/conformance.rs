//! The suite that every adapter pair runs: the same cases through the same runner.
