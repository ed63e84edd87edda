//! The real binary: a configuration file, processes that run it, their logs and their ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::binaries;
use crate::cluster::{PASSWORD, PASSWORD_IN_URL, signal};

/// One task of a configuration file.
#[derive(Clone, Debug)]
pub struct TaskConfig {
    /// The task's name.
    pub name: String,
    /// The URL of the source.
    pub source: String,
    /// The URL of the target.
    pub target: String,
    /// Globs of the tables.
    pub include: Vec<String>,
    /// Globs of tables left out.
    pub exclude: Vec<String>,
    /// Further keys of the task, as TOML lines.
    pub keys: Vec<String>,
    /// Further sections, as TOML; `TASK` stands for the task's table.
    pub sections: String,
}

impl TaskConfig {
    /// A task called `t` of all tables in `public`.
    pub fn new(source: String, target: String) -> Self {
        let include = vec!["public.*".to_owned()];
        let (keys, sections) = (Vec::new(), String::new());
        Self { name: "t".into(), source, target, include, exclude: Vec::new(), keys, sections }
    }

    /// The file's text.
    pub fn toml(&self) -> String {
        let Self { name, source, target, include, exclude, keys, sections } = self;
        let sections = sections.replace("TASK", &format!("tasks.{name}"));
        // Debug formatting of these strings is TOML's basic string.
        format!(
            "[endpoints.source]\nkind = {:?}\nurl = {source:?}\n\n\
             [endpoints.target]\nkind = {:?}\nurl = {target:?}\n\n\
             [tasks.{name}]\nsource = \"source\"\ntarget = \"target\"\nrediscover = \"1s\"\n{}\n\n\
             [[tasks.{name}.tables]]\ninclude = {include:?}\nexclude = {exclude:?}\n\n\
             [tasks.{name}.retry]\ninitial = \"50ms\"\nmax = \"500ms\"\n\n{sections}\n",
            kind(source),
            kind(target),
            keys.join("\n")
        )
    }
}

/// The kind of endpoint that a URL is of.
pub fn kind(url: &str) -> &str {
    url.split(':').next().unwrap_or_default()
}

/// A folder with a configuration file and the log of the processes that ran it.
#[derive(Debug)]
pub struct Trem {
    dir: TempDir,
    bin: PathBuf,
    env: Vec<(String, String)>,
    /// The next run is the first: what a check calls ready must start.
    first: AtomicBool,
}

/// How a process ended and what it wrote.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error: messages and log lines.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Fails unless the process ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        let Self { code: got, stdout, stderr, .. } = &self;
        assert!(*got == Some(code), "trem ended with {got:?} instead of {code}:\n{stdout}\n{}", tail(stderr));
        self
    }

    /// Fails unless both outputs together hold every fragment, wherever lines are folded.
    #[track_caller]
    pub fn says(self, fragments: &[&str]) -> Self {
        let said = unfolded(&format!("{}\n{}", self.stdout, self.stderr));
        for fragment in fragments {
            let there = said.contains(&unfolded(fragment));
            assert!(there, "`{fragment}` is not in what trem said:\n{}\n{}", self.stdout, self.stderr);
        }
        self
    }

    /// Fails if either output holds this, wherever lines are folded.
    #[track_caller]
    pub fn never_says(self, fragment: &str) -> Self {
        let said = unfolded(&format!("{}\n{}", self.stdout, self.stderr));
        assert!(
            !said.contains(&unfolded(fragment)),
            "`{fragment}` is in what trem said:\n{}\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// A text in one line.
fn unfolded(text: &str) -> String {
    text.replace(" \\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Trem {
    /// A folder with this configuration.
    pub fn new(config: &TaskConfig) -> Self {
        Self::with_text(&config.toml())
    }

    /// A folder with a configuration of any text.
    pub fn with_text(text: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("trem-run-").tempdir().expect("a temporary folder");
        let trem = Self { dir, bin: binaries::trem(), env: Vec::new(), first: AtomicBool::new(false) };
        trem.rewrite(text);
        trem
    }

    /// Replaces the configuration.
    pub fn rewrite(&self, text: &str) {
        fs::write(self.config(), text).expect("tasks.toml");
    }

    /// An environment variable for processes started from here on.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("tasks.toml")
    }

    /// The first run is not held against a check before it: the test changes the world in between.
    pub fn unchecked(&self) {
        self.first.store(false, Ordering::Relaxed);
    }

    /// Starts `trem run`, until it is stopped.
    pub fn start(&self) -> Running {
        self.spawn(&["run"], &[])
    }

    /// Starts `trem run` with a failpoint set: `name` or `name:N`.
    pub fn start_with_failpoint(&self, failpoint: &str) -> Running {
        self.spawn(&["run"], &[("TREM_FAILPOINT", failpoint)])
    }

    /// Runs `trem run --until-current` to its end.
    pub fn until_current(&self) -> Outcome {
        self.spawn(&["run", "--until-current"], &[]).wait(Duration::from_secs(180))
    }

    /// Runs a subcommand on the configuration file to its end.
    pub fn command(&self, args: &[&str]) -> Outcome {
        self.spawn(args, &[]).wait(Duration::from_secs(60))
    }

    /// Starts a subcommand on the configuration file: `args` come after the file, save for the first. Before the first
    /// run a check is made, and the run fails the test if it is refused although the check called it ready.
    pub fn spawn(&self, args: &[&str], env: &[(&str, &str)]) -> Running {
        let ready = args[0] == "run" && self.first.swap(false, Ordering::Relaxed) && self.is_ready(args);
        let mut running = self.launch(args, env);
        running.ready = ready;
        running
    }

    fn is_ready(&self, args: &[&str]) -> bool {
        let tasks = args.windows(2).filter(|a| a[0] == "--task").flatten();
        let check: Vec<&str> = ["check"].iter().chain(tasks).copied().collect();
        self.launch(&check, &[]).wait(Duration::from_secs(60)).code == Some(0)
    }

    fn launch(&self, args: &[&str], env: &[(&str, &str)]) -> Running {
        let number = fs::read_dir(self.dir.path()).map_or(0, Iterator::count);
        let stdout = self.dir.path().join(format!("{number}.out"));
        let stderr = self.dir.path().join(format!("{number}.err"));
        let mut command = Command::new(&self.bin);
        // The file comes behind the names of the command.
        let (names, rest) = args.split_at(if args[0] == "quarantine" { 2 } else { 1 });
        command.args(names).arg(self.config()).args(rest).stdin(Stdio::null());
        command.stdout(fs::File::create(&stdout).expect("output")).stderr(fs::File::create(&stderr).expect("output"));
        command.envs(self.env.iter().map(|(k, v)| (k, v))).envs(env.iter().copied());
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.bin.display()));
        Running { child, stdout, stderr, started: Instant::now(), told: false, ready: false }
    }
}

/// A process; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    started: Instant,
    told: bool,
    /// A check has called it ready.
    ready: bool,
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read(&self.stderr)
    }

    /// The last of it.
    pub fn log_tail(&self) -> String {
        tail(&self.log()).to_owned()
    }

    /// How it ended, if it has; the code is `None` when a signal ended it.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().expect("our child").map(|s| s.code())
    }

    /// kill -9.
    pub fn kill(mut self) -> String {
        self.told = true;
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.keeps_what_check_said();
        self.log()
    }

    /// Fails if the run was refused before it had done anything, and a check had called it ready.
    fn keeps_what_check_said(&self) {
        let log = self.log();
        let refused = ["class=Refused", "class=Fatal", r#""class":"Refused""#].iter().any(|c| log.contains(c));
        let refused = self.ready && refused && !log.contains("table loaded");
        assert!(!refused, "the check called the task ready, and the run was refused:\n{}", tail(&log));
    }

    /// SIGTERM, and the end that follows within `limit`.
    pub fn stop(mut self, limit: Duration) -> Outcome {
        signal(self.child.id(), "TERM");
        self.finish(limit)
    }

    /// The end, within `limit`.
    pub fn wait(mut self, limit: Duration) -> Outcome {
        self.finish(limit)
    }

    fn finish(&mut self, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                self.told = true;
                self.keeps_what_check_said();
                let (stdout, stderr) = (read(&self.stdout), read(&self.stderr));
                let shown = [PASSWORD, PASSWORD_IN_URL].iter().find(|s| stdout.contains(**s) || stderr.contains(**s));
                assert_eq!(shown, None, "a password was shown:\n{stdout}\n{stderr}");
                return Outcome { code: status.code(), stdout, stderr, took: self.started.elapsed() };
            }
            assert!(Instant::now() < deadline, "trem goes on after {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the log holds a text.
    pub async fn wait_log(&mut self, text: &str, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.log().contains(text) {
            let ended = self.ended();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no `{text}` in the log within {limit:?} (end: {ended:?})"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() && !self.told {
            eprintln!("--- trem logged ---\n{}", self.log_tail());
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(6000);
    let from = (from..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    &text[from..]
}
