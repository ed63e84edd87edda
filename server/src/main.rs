//! The trem binary: command line, configuration and what people see. All moving of rows is in `trem-engine`.

mod cli;
mod commands;
mod config;
mod logging;
mod output;
mod overlap;
mod progress;
mod task;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use task::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(code) => code,
        Err(failure) => {
            output::complain(&failure);
            failure.code()
        }
    }
}

fn start(cli: Cli) -> Result<ExitCode, Failure> {
    // Two libraries bring a provider each, so rustls refuses to choose one by itself.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err(Failure::System("a TLS provider was installed before the program began".to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::System(format!("cannot start the runtime: {e}")))?;
    runtime.block_on(async {
        match cli.command {
            Command::Run(args) => commands::run::run(args).await,
            Command::Check(args) => commands::check::check(args).await,
            Command::Plan(args) => commands::plan::plan(args).await,
            Command::Status(args) => commands::status::status(args).await,
            Command::Drop(args) => commands::drop::drop_task(args).await,
            Command::Reload(args) => commands::reload::reload(args).await,
        }
    })
}
