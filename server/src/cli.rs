//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit;

/// Replicates relational tables from one database to another: full load, then every change, exactly once.
#[derive(Debug, Parser)]
#[command(name = "trem", version, arg_required_else_help = true, max_term_width = 80, after_help = exit::CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the tasks until stopped (SIGINT or SIGTERM); a task that only loads ends by itself.
    #[command(after_help = exit::CODES)]
    Run(Run),
    /// Look for everything that could stop the tasks, and say what mends it. Changes nothing.
    Check(Pick),
    /// Show what a run would do: tables, columns, types, keys and the statements for the target. Changes nothing.
    Plan(Shown),
    /// Show the state of each table, why any is suspended, and how far the target is behind. Changes nothing.
    Status(Shown),
    /// Remove everything a task created at its ends, except the replicated tables and their rows. Stop the task first.
    Drop(Drop),
    /// Load a table again, from its start: a running task begins within `rediscover`, a stopped one when it starts.
    Reload(Reload),
}

/// A configuration, and which of its tasks.
#[derive(Args, Debug)]
pub struct Pick {
    /// The configuration, such as tasks.toml.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only this task; may be given several times.
    #[arg(long = "task", value_name = "NAME")]
    pub tasks: Vec<String>,
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// Which tasks.
    #[command(flatten)]
    pub pick: Pick,
    /// End once every change that had committed at the sources when the command started is on the targets: with exit
    /// code 0, or 3 if tables were left suspended.
    #[arg(long)]
    pub until_current: bool,
    /// How log lines on stderr look. What is logged: TREM_LOG, such as `debug` or `trem_engine=debug`.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// Arguments of what prints for people or for programs.
#[derive(Args, Debug)]
pub struct Shown {
    /// Which tasks.
    #[command(flatten)]
    pub pick: Pick,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `drop`.
#[derive(Args, Debug)]
pub struct Drop {
    /// The configuration, such as tasks.toml.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The task.
    #[arg(long, value_name = "NAME")]
    pub task: String,
    /// Forget the task on the target even when the source cannot be cleaned up (it is gone for good).
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `reload`.
#[derive(Args, Debug)]
pub struct Reload {
    /// The configuration, such as tasks.toml.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The task.
    #[arg(long, value_name = "NAME")]
    pub task: String,
    /// The table, as `trem status` names it: schema.table, without quotes, upper and lower case as they are stored; a
    /// dot, `*`, `?` or backslash inside a name has a backslash before it.
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub table: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
