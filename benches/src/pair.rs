//! A pair of private servers, alike for everybody who is measured on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use trem_tests::binaries::PgBinaries;
use trem_tests::{Db, PgCluster, PgOptions};

use crate::process::{Program, Running};

/// Settings of both servers, the same for all that is measured. Commits wait for the disk; checkpoints and
/// vacuum happen between the steps and not inside of them; a subscription need not wait five seconds to start again.
pub const SETTINGS: &[&str] = &[
    "fsync=on",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=1h",
    "autovacuum=off",
    "max_worker_processes=16",
    "wal_retrieve_retry_interval=10ms",
    // trem asks for as much, and so may whoever builds the key behind a pipe.
    "maintenance_work_mem=256MB",
];

/// The source's database.
pub const SOURCE: &str = "shop";

/// Two servers and a folder for files.
#[derive(Debug)]
pub struct Pair {
    /// Where rows come from.
    pub source: PgCluster,
    /// Where they go.
    pub target: PgCluster,
    dir: TempDir,
    trem: PathBuf,
    bin: PathBuf,
}

impl Pair {
    /// Starts both, with these settings beside [`SETTINGS`], or instead of theirs.
    pub fn start(trem: &Path, more: &[&str]) -> Self {
        let options = || {
            let options = PgOptions { fsync: true, ..PgOptions::default() };
            SETTINGS.iter().chain(more).fold(options, |o, line| o.conf(line))
        };
        let (source, target) = PgCluster::pair(options(), options());
        let dir = tempfile::Builder::new().prefix("trem-bench-").tempdir().expect("a temporary folder");
        Self { source, target, dir, trem: trem.to_owned(), bin: PgBinaries::packaged().bin }
    }

    /// Both write what they hold, so that no step pays for the one before; and the source's log is read once, so that
    /// the first to want it does not pay for bringing it into memory.
    pub async fn settle(&self) {
        self.source.connect("postgres").await.exec("CHECKPOINT").await;
        self.target.connect("postgres").await.exec("CHECKPOINT").await;
        let log = self.source.path().join("data/pg_wal");
        for file in std::fs::read_dir(log).into_iter().flatten().flatten() {
            // A segment may be recycled meanwhile, and is of no use then.
            let _ = std::fs::read(file.path());
        }
    }

    /// A new, empty database at the target.
    pub async fn fresh(&self, name: &str) -> Db {
        let db = self.target.connect("postgres").await;
        db.exec(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        self.target.create_database(name).await
    }

    /// A path for a file of this name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A PostgreSQL client program.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Writes a configuration with one task, and returns the command `trem run` for it.
    pub fn trem(&self, task: &Task) -> Command {
        let file = self.file(&format!("{}.toml", task.name));
        std::fs::write(&file, task.toml(self)).expect("a configuration file");
        let mut command = if let Some(profile) = &task.profile {
            let mut perf = Command::new("perf");
            // The whole machine: what limits trem may be a server, or nobody.
            perf.args(["record", "-q", "-a", "-e", "cpu-clock", "-F", "997", "-o"]).arg(profile).arg("--");
            perf.arg(&self.trem);
            perf
        } else {
            Command::new(&self.trem)
        };
        command.arg("run").arg(file).args(task.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs `psql -c SQL` at `url` to its end.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn psql(&self, url: &str, sql: &str) -> Result<Program, String> {
        let mut command = self.client("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
        Running::start(&mut command, &self.file("psql.log")).wait()
    }
}

/// A task of trem, with the defaults in everything that is not named here.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name.
    pub name: &'static str,
    /// `full-load`, `cdc` or `full-load-and-cdc`.
    pub mode: &'static str,
    /// The target's database; none: rows are counted and discarded.
    pub target: Option<String>,
    /// Further arguments of `trem run`.
    pub arguments: &'static [&'static str],
    /// Further settings, as TOML; `TASK` stands for the task's table.
    pub settings: String,
    /// Where a profile of the run is to be written.
    pub profile: Option<PathBuf>,
}

impl Task {
    fn toml(&self, pair: &Pair) -> String {
        let Self { name, mode, target, settings, .. } = self;
        let source = pair.source.url(SOURCE);
        let target = match target {
            Some(database) => format!("kind = \"postgres\"\nurl = {:?}", pair.target.url(database)),
            None => "kind = \"null\"".to_owned(),
        };
        let settings = settings.replace("TASK", &format!("tasks.{name}"));
        format!(
            "[endpoints.source]\nkind = \"postgres\"\nurl = {source:?}\n\n[endpoints.target]\n{target}\n\n\
             [tasks.{name}]\nsource = \"source\"\ntarget = \"target\"\nmode = \"{mode}\"\n{settings}\n\n\
             [[tasks.{name}.tables]]\ninclude = \"public.*\"\n"
        )
    }
}
