//! The trem binary: command line, configuration and what people see. All moving of rows is in `trem-engine`.

mod api;
mod cli;
mod client;
mod commands;
mod config;
mod daemon;
mod dms;
mod exit;
mod finding;
mod layout;
mod logging;
mod output;
mod overlap;
mod progress;
mod remedy;
mod rows;
mod store;
mod table;
mod task;
mod top;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::complain(&failure);
            failure.exit().into()
        }
    }
}

fn start(cli: Cli) -> Result<Exit, Failure> {
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
            Command::Explain(args) => commands::explain::explain(args).await,
            Command::Import(command) => commands::import::import(command),
            Command::Quarantine(command) => commands::quarantine::quarantine(command).await,
            Command::Reload(args) => commands::reload::reload(args).await,
            Command::Apply(args) => commands::apply::apply(&args),
            Command::Export(args) => commands::apply::export(&args),
            Command::Task(command) => commands::task::task(&command),
            Command::Endpoint(command) => commands::endpoint::endpoint(&command),
            Command::Top(args) => commands::top::top(&args),
            Command::Completion(args) => Ok(commands::completion::completion(&args)),
            Command::Serve(args) => commands::serve::serve(args).await,
            Command::Token(command) => commands::token::token(command),
        }
    })
}
