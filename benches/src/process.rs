//! Processes whose time, processor time and peak memory are known at their end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of /proc/PID/stat; the same on every Linux that Rust supports.
const TICKS_PER_SECOND: u64 = 100;
/// How long a measured step may take.
pub const PATIENCE: Duration = Duration::from_secs(1800);

/// Between two looks at a process or a target; each takes processor time from what is measured.
pub const LOOK: Duration = Duration::from_millis(5);

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Program {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Peak resident memory in KiB.
    pub peak_kib: u64,
}

impl Program {
    /// What a living process has used so far; the peak never falls.
    pub fn look(&mut self, pid: u32) {
        if let Some(stat) = Stat::of(pid) {
            self.cpu = self.cpu.max(stat.own);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
        self.peak_kib = self.peak_kib.max(kib.unwrap_or(0));
    }
}

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
    used: Program,
}

impl Running {
    /// Starts a command whose messages go to the file `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        command.stderr(fs::File::create(log).expect("a log file"));
        let name = command.get_program().to_owned();
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", name.display()));
        Self { child, log: log.to_owned(), used: Program::default() }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its output, for another command to read.
    pub fn take_stdout(&mut self) -> Stdio {
        self.child.stdout.take().map_or_else(Stdio::null, Stdio::from)
    }

    /// What it has used so far.
    pub fn used(&mut self) -> Program {
        self.used.look(self.child.id());
        self.used
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|s| s.is_none())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// How it ended and the last of what it said, when it did not end well.
    pub fn wait(mut self) -> Result<Program, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.used.look(self.child.id());
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(self.used),
                Ok(Some(status)) => return Err(format!("{status}: {}", last_lines(&self.said()))),
                Ok(None) if Instant::now() > deadline => return Err(format!("goes on after {PATIENCE:?}")),
                Ok(None) => std::thread::sleep(LOOK),
                Err(e) => return Err(e.to_string()),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(4)..].join(" | ")
}

/// The processor time of a server. A process that ends while it is looked for is missed, and found the next time.
pub(crate) fn server_cpu(folder: &Path) -> Duration {
    let looks = (0..3).map(|n| {
        std::thread::sleep(Duration::from_millis(10 * n));
        server_cpu_seen(folder)
    });
    looks.max().unwrap_or_default()
}

/// Its postmaster, the children that ended and those that live.
fn server_cpu_seen(folder: &Path) -> Duration {
    let file = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    let Some(postmaster) = file.lines().next().and_then(|l| l.trim().parse::<u32>().ok()) else {
        return Duration::ZERO;
    };
    let mut sum = Stat::of(postmaster).map_or(Duration::ZERO, |s| s.own + s.ended_children);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok());
        let Some(stat) = pid.and_then(Stat::of) else { continue };
        if stat.parent == postmaster {
            sum += stat.own;
        }
    }
    sum
}

struct Stat {
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command's name comes before, in parentheses, and may hold anything.
        let fields: Vec<u64> =
            text.rsplit_once(')')?.1.split_whitespace().skip(1).map(|f| f.parse().unwrap_or(0)).collect();
        let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
        let sum = |from: usize| Some(time(fields.get(from)? + fields.get(from + 1)?));
        Some(Self { parent: u32::try_from(*fields.first()?).ok()?, own: sum(10)?, ended_children: sum(12)? })
    }
}
