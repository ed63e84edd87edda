//! `trem completion`: what lets a shell complete command lines.

use clap::CommandFactory;

use crate::cli::{Cli, Completion};
use crate::exit::Exit;

/// To stdout.
pub fn completion(args: &Completion) -> Exit {
    clap_complete::generate(args.shell, &mut Cli::command(), "trem", &mut std::io::stdout());
    Exit::Done
}
