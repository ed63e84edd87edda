//! What a step costs: its time, and the work of the measured program and of both servers.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::pair::Pair;
use crate::process::{Program, server_cpu};

/// What a step cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From its start to its end.
    pub wall: Duration,
    /// From its start to the end of the process, where what was measured ends before.
    pub exit: Option<Duration>,
    /// Processor time of the measured program, user and system.
    pub cpu: Duration,
    /// Peak resident memory of the measured program, in KiB.
    pub peak_kib: u64,
    /// Processor time of the source's server.
    pub source_cpu: Duration,
    /// Processor time of the target's server.
    pub target_cpu: Duration,
}

/// Times a step, and how much of it the servers worked.
pub struct Stopwatch<'a> {
    pair: &'a Pair,
    source: Duration,
    target: Duration,
    started: Instant,
}

impl<'a> Stopwatch<'a> {
    /// Starts now.
    pub fn start(pair: &'a Pair) -> Self {
        let (source, target) = (server_cpu(pair.source.path()), server_cpu(pair.target.path()));
        Self { pair, source, target, started: Instant::now() }
    }

    /// The time since its start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the step has cost up to now; `program` is what the measured program itself took.
    pub fn stop(&self, program: Program) -> Cost {
        let wall = self.elapsed();
        let since = |path: &Path, before: Duration| server_cpu(path).saturating_sub(before);
        Cost {
            wall,
            exit: None,
            cpu: program.cpu,
            peak_kib: program.peak_kib,
            source_cpu: since(self.pair.source.path(), self.source),
            target_cpu: since(self.pair.target.path(), self.target),
        }
    }
}
