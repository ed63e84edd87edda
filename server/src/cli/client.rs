//! The command line of what talks to a daemon.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit;

/// Which daemon.
#[derive(Args, Debug)]
pub struct Server {
    /// Where the daemon is; without it the variable TREM_SERVER, or http://127.0.0.1:8736.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The file with the token; without it the variable TREM_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The authorities that the daemon's certificate may be of, as PEM; without it those of this machine.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// Which daemon, and how its answer is shown.
#[derive(Args, Debug)]
pub struct OfServer {
    /// Which daemon.
    #[command(flatten)]
    pub server: Server,
    /// The answer as one JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// One thing of a daemon.
#[derive(Args, Debug)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Of which daemon.
    #[command(flatten)]
    pub of: OfServer,
}

/// Arguments of `apply`.
#[derive(Args, Debug)]
pub struct Apply {
    /// The configuration, such as tasks.toml.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Of which daemon.
    #[command(flatten)]
    pub server: Server,
    /// Show what differs, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Delete what the configuration does not have; a task that runs is not deleted.
    #[arg(long)]
    pub prune: bool,
}

/// Arguments of `export`.
#[derive(Args, Debug)]
pub struct Export {
    /// Of which daemon.
    #[command(flatten)]
    pub server: Server,
}

/// Arguments of `top`.
#[derive(Args, Debug)]
pub struct Top {
    /// Of which daemon.
    #[command(flatten)]
    pub server: Server,
    /// Ask again after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub every: f64,
}

/// Arguments of `completion`.
#[derive(Args, Debug)]
pub struct Completion {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// What to do with the tasks of a daemon.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// List them, with what they do.
    Ls(OfServer),
    /// Show one, with its tables.
    Show(Named),
    /// Run one, also when the daemon starts again. One that is paused goes on.
    #[command(after_help = exit::CODES)]
    Start(StartTask),
    /// End one. What is being applied is finished first.
    Stop(Named),
    /// Move no more rows of one that runs.
    Pause(Named),
    /// Go on with one that is paused.
    Resume(Named),
    /// Have both ends forget one that does not run: its next start loads everything anew.
    Reset(Named),
    /// Load a table again, from its start.
    Reload(ReloadTable),
    /// Show the last log lines of one.
    Logs(TaskLogs),
    /// Show what happens, one JSON text a line, until stopped.
    Events(TaskEvents),
    /// Delete one that does not run. Rows that it has brought stay.
    Rm(RemoveTask),
}

/// Arguments of `task start`.
#[derive(Args, Debug)]
pub struct StartTask {
    /// Its name.
    pub name: String,
    /// End it once every change that has committed by now is on the target, and wait for that.
    #[arg(long)]
    pub until_current: bool,
    /// Of which daemon.
    #[command(flatten)]
    pub of: OfServer,
}

/// Arguments of `task reload`.
#[derive(Args, Debug)]
pub struct ReloadTable {
    /// The task.
    pub name: String,
    /// The table at the source: schema.table, without quotes, upper and lower case as they are stored.
    #[arg(value_name = "SCHEMA.TABLE")]
    pub table: String,
    /// Of which daemon.
    #[command(flatten)]
    pub of: OfServer,
}

/// Arguments of `task logs`.
#[derive(Args, Debug)]
pub struct TaskLogs {
    /// The task.
    pub name: String,
    /// So many lines.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub lines: u32,
    /// Of which daemon.
    #[command(flatten)]
    pub of: OfServer,
}

/// Arguments of `task events`.
#[derive(Args, Debug)]
pub struct TaskEvents {
    /// Only those of this task.
    pub name: Option<String>,
    /// Of which daemon.
    #[command(flatten)]
    pub of: OfServer,
}

/// Arguments of `task rm`.
#[derive(Args, Debug)]
pub struct RemoveTask {
    /// Its name.
    pub name: String,
    /// Drop what it has created at its ends, too.
    #[arg(long)]
    pub drop: bool,
    /// Of which daemon.
    #[command(flatten)]
    pub of: OfServer,
}

/// What to ask of the endpoints of a daemon.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// List them.
    Ls(OfServer),
    /// Show one.
    Show(Named),
    /// Connect to one; fails if it does not answer.
    Test(Named),
    /// List the tables that a task could select.
    Tables(EndpointTables),
}

/// Arguments of `endpoint tables`.
#[derive(Args, Debug)]
pub struct EndpointTables {
    /// Its name.
    pub name: String,
    /// Only those of this schema.
    #[arg(long, value_name = "SCHEMA")]
    pub schema: Option<String>,
    /// Only those whose name has this in it; with a `%`, those whose name is like it, as SQL says it.
    #[arg(long, value_name = "TEXT")]
    pub like: Option<String>,
    /// Of which daemon.
    #[command(flatten)]
    pub of: OfServer,
}
