//! The command line.

mod client;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit;
use crate::store::Role;

pub use client::{Apply, Completion, EndpointCommand, EndpointTables, Export, OfServer, Server, TaskCommand, Top};

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
    Plan(Plan),
    /// Show one row: at the source, what each rule does to it, and on the target. Changes nothing.
    Explain(Explain),
    /// Show the state of each table, why any is suspended, and how far the target is behind. Changes nothing.
    Status(Shown),
    /// Remove everything a task created at its ends, except the replicated tables and their rows. Stop the task first.
    Drop(Drop),
    /// Load a table again, from its start: a running task begins within `rediscover`, a stopped one when it starts.
    Reload(Reload),
    /// Write a configuration to stdout from the rules of another program.
    #[command(subcommand)]
    Import(Import),
    /// Run as a daemon: many tasks, an HTTP API, and a state file that says what should run.
    Serve(Serve),
    /// Tokens for the daemon's API.
    #[command(subcommand)]
    Token(Token),
    /// Make a daemon's endpoints, rule sets and tasks those of a configuration: show what differs, and do it.
    Apply(Apply),
    /// Write a daemon's endpoints, rule sets and tasks to stdout, as a configuration.
    Export(Export),
    /// The tasks of a daemon.
    #[command(subcommand)]
    Task(TaskCommand),
    /// The endpoints of a daemon.
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Watch the tasks of a daemon: lag, rates and states, as they change.
    Top(Top),
    /// Print a script that lets a shell complete command lines.
    Completion(Completion),
    /// Changes that a rule could not be applied to, of tasks with on-row-error = "quarantine".
    #[command(subcommand)]
    Quarantine(Quarantine),
}

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Where the API is served. Another address than one of this machine's own needs TLS, or `--insecure-listen`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8736")]
    pub listen: SocketAddr,
    /// The state file.
    #[command(flatten)]
    pub state: State,
    /// Put the endpoints, rule sets and tasks of a configuration before anything is started. Tasks that are new run.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Bytes of row buffers for all tasks together, such as 1GiB.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub memory: String,
    /// The daemon's certificate, as PEM, with those between it and an authority. Read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The authorities, as PEM, that certificates of clients must be of; without it clients need no certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Listen where other machines can reach the API, without TLS.
    #[arg(long)]
    pub insecure_listen: bool,
    /// Need no token. Only on an address of this machine's own.
    #[arg(long)]
    pub no_auth: bool,
    /// A name by which the daemon is called, beside localhost; may be given several times.
    #[arg(long, value_name = "HOST")]
    pub allow_host: Vec<String>,
    /// How log lines on stderr look: text on a terminal, otherwise JSON. What is logged: TREM_LOG, such as `debug`.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// The state file of a daemon.
#[derive(Args, Debug)]
pub struct State {
    /// The state file (SQLite): endpoints, tasks, runs, events, tokens.
    #[arg(long = "state", value_name = "FILE", default_value = "trem.db")]
    pub state: PathBuf,
    /// The file with the key that secrets in the state file are sealed with: 64 hexadecimal digits. Without it the
    /// variable TREM_KEY, or a file beside the state file, which is made.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make one, and print it: it cannot be shown again.
    Create(CreateToken),
    /// List them, without themselves.
    Ls(ListTokens),
    /// Take one back.
    Revoke(RevokeToken),
}

/// Arguments of `token create`.
#[derive(Args, Debug)]
pub struct CreateToken {
    /// Of which daemon.
    #[command(flatten)]
    pub state: State,
    /// What it may do.
    #[arg(long, value_enum)]
    pub role: Role,
    /// Whose it is, as the audit will say; without it the role.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// Arguments of `token ls`.
#[derive(Args, Debug)]
pub struct ListTokens {
    /// Of which daemon.
    #[command(flatten)]
    pub state: State,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `token revoke`.
#[derive(Args, Debug)]
pub struct RevokeToken {
    /// Of which daemon.
    #[command(flatten)]
    pub state: State,
    /// The number, as `trem token ls` has it.
    pub id: i64,
}

/// Whose rules to read.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// Table mappings of AWS DMS, as JSON. What is not carried over is said on stderr, and in the configuration.
    Dms(ImportDms),
}

/// Arguments of `import dms`.
#[derive(Args, Debug)]
pub struct ImportDms {
    /// The table mappings, or what `aws dms describe-replication-tasks` prints.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The name of the task.
    #[arg(long, value_name = "NAME", default_value = "imported")]
    pub task: String,
}

/// What to do with changes that are set aside.
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// List them.
    Ls(OfTask),
    /// Show one, with its row.
    Show(Show),
    /// Bring their rows as they are at the source now, by the rules as they are now, and forget them.
    Retry(Picked),
    /// Forget them.
    Drop(Picked),
}

/// Arguments of what is about one task.
#[derive(Args, Debug)]
pub struct OfTask {
    /// The configuration, such as tasks.toml.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The task.
    #[arg(long, value_name = "NAME")]
    pub task: String,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `quarantine show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Of which task.
    #[command(flatten)]
    pub of: OfTask,
    /// The number, as `trem quarantine ls` has it.
    pub number: i64,
}

/// Arguments of `quarantine retry` and `quarantine drop`.
#[derive(Args, Debug)]
pub struct Picked {
    /// The configuration, such as tasks.toml.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The task.
    #[arg(long, value_name = "NAME")]
    pub task: String,
    /// The numbers, as `trem quarantine ls` has them.
    #[arg(required_unless_present = "all")]
    pub numbers: Vec<i64>,
    /// All of them.
    #[arg(long, conflicts_with = "numbers")]
    pub all: bool,
}

/// Arguments of `plan`.
#[derive(Args, Debug)]
pub struct Plan {
    /// What to show.
    #[command(flatten)]
    pub shown: Shown,
    /// Show so many rows of each table too, at the source and as they get to the target.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub sample: u16,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// The configuration, such as tasks.toml.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The task.
    #[arg(value_name = "TASK")]
    pub task: String,
    /// The table at the source: schema.table, without quotes, as it is stored; a dot, `*`, `?` or backslash inside a
    /// name has a backslash before it.
    #[arg(value_name = "SCHEMA.TABLE")]
    pub table: String,
    /// The values of the key, in its order; behind `--` where one begins with a hyphen.
    #[arg(value_name = "KEY", required = true, allow_negative_numbers = true)]
    pub key: Vec<String>,
    /// One JSON document on stdout.
    #[arg(long)]
    pub json: bool,
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
