//! One task while it runs: started again after what is nobody's doing, told of when it changes, and given up loudly.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use trem_engine::progress::{Phase, Reporter, Trouble};
use trem_engine::runner::{Command, Control, Task, Until};
use trem_engine::{Class, Error};

use super::views::remedy;
use crate::config::TaskConfig;
use crate::progress::changes;
use crate::store::{Event, Outcome, Store};

/// A run that ends by a fault of the program is begun again so often.
const MOST_RESTARTS: u32 = 5;
/// Before the first of them; each pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A run that has gone well for so long has not been one of a series that fails.
const WELL: Duration = Duration::from_secs(600);

/// A task that runs, or has run.
pub struct Running {
    revision: i64,
    config: TaskConfig,
    task: Task,
    control: Mutex<Control>,
    run: AtomicI64,
    stop: CancellationToken,
    paused: AtomicBool,
    ended: watch::Sender<bool>,
}

/// What all tasks share: where what happens is told, and how many may start at a time.
#[derive(Clone)]
pub struct News {
    pub(super) store: Store,
    pub(super) events: broadcast::Sender<Event>,
    /// Hundreds of tasks that all look at their databases at once would find none that answers in time.
    pub(super) starts: Arc<Semaphore>,
}

impl News {
    /// Writes an event down and tells it. A state file that cannot be written stops no task.
    pub fn tell(&self, task: Option<&str>, kind: &str, data: serde_json::Value) {
        match self.store.add_event(task, kind, data) {
            // Nobody may be listening.
            Ok(event) => drop(self.events.send(event)),
            Err(error) => tracing::warn!(task, kind, "an event is lost: {error}"),
        }
    }
}

impl Running {
    /// Starts a task, paused if it is to be.
    pub(super) fn start(
        (config, task): (TaskConfig, Task),
        revision: i64,
        until: Until,
        paused: bool,
        news: &News,
    ) -> Arc<Self> {
        let stop = CancellationToken::new();
        let running = Arc::new(Self {
            control: Mutex::new(Control::stopped_by(stop.clone())),
            run: AtomicI64::new(begin(news, &task.plan.name, revision)),
            stop,
            paused: AtomicBool::new(paused),
            ended: watch::channel(false).0,
            revision,
            config,
            task,
        });
        tokio::spawn(Arc::clone(&running).supervise(until, news.clone()));
        running
    }

    /// The revision that runs.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The number of the run.
    pub fn run(&self) -> i64 {
        self.run.load(Ordering::Relaxed)
    }

    /// Where its progress is.
    pub fn reporter(&self) -> &Reporter {
        &self.task.reporter
    }

    /// What it was started with.
    pub fn config(&self) -> &TaskConfig {
        &self.config
    }

    /// What it is made of.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Whether it runs no more.
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Whether it is to move no rows.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether it was told to end.
    pub fn was_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn control(&self) -> Control {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it: what is being applied is finished first.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Moves no rows, or moves them again.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        let control = self.control();
        if paused {
            control.pause()
        } else {
            control.resume()
        }
        self.task.reporter.tell();
    }

    /// Has it look at once for requests and new tables.
    pub fn look(&self) {
        self.control().send(Command::Rediscover);
    }

    /// Waits until it has ended.
    pub async fn end(&self) {
        // The sender lives as long as this.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    async fn supervise(self: Arc<Self>, until: Until, news: News) {
        let (mut restarts, mut pause) = (0, FIRST_PAUSE);
        loop {
            let began = Instant::now();
            let ended = self.once(until, &news).await;
            let Err(error) = ended else { break };
            if self.was_stopped() || !is_a_fault(&error) {
                break;
            }
            if began.elapsed() > WELL {
                (restarts, pause) = (0, FIRST_PAUSE);
            }
            let task = &self.task.plan.name;
            if restarts >= MOST_RESTARTS {
                tracing::error!(%task, restarts, "given up: it has failed again each time it was started: {error}");
                news.tell(Some(task), "task-given-up", json!({ "restarts": restarts, "reason": error.reason() }));
                break;
            }
            restarts += 1;
            tracing::warn!(%task, restarts, pause_seconds = pause.as_secs(), "is started again after: {error}");
            self.task.reporter.update(|p| p.phase = Phase::Retrying(Trouble::from(&error)));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
            let control = Control::stopped_by(self.stop.clone());
            *self.control.lock().unwrap_or_else(PoisonError::into_inner) = control;
            self.run.store(begin(&news, task, self.revision), Ordering::Relaxed);
            pause *= 2;
        }
        self.ended.send_replace(true);
    }

    /// Keeps its turn until the task has started.
    async fn started(&self, _turn: Option<OwnedSemaphorePermit>) {
        let mut changes = self.task.reporter.changes();
        while self.task.reporter.snapshot().phase == Phase::Starting {
            // The sender lives as long as the task.
            let _ = changes.changed().await;
        }
    }

    /// One run to its end, which is written down.
    async fn once(&self, until: Until, news: &News) -> Result<(), Error> {
        let name = &self.task.plan.name;
        let run = self.run();
        let control = self.control();
        if self.paused.load(Ordering::Relaxed) {
            control.pause();
        }
        self.task.reporter.update(|p| p.phase = Phase::Starting);
        let turn = tokio::select! {
            turn = Arc::clone(&news.starts).acquire_owned() => turn.ok(),
            () = self.stop.cancelled() => None,
        };
        let task = self.task.clone();
        let mut running = tokio::spawn(async move { task.run(until, &control).await });
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = self.started(turn) => running.await,
        };
        let ended = ended.unwrap_or_else(|panic| {
            let error = Error::fatal("the task panicked: this is a fault of trem").cause(panic);
            Err(error.remedy("report it, with the daemon's log"))
        });
        let stopped = self.was_stopped();
        if let Err(error) = &ended {
            tracing::error!(task = %name, class = ?error.class(), run, "failed: {error}");
        }
        let progress = self.task.reporter.snapshot();
        let outcome = Outcome {
            outcome: match (&ended, stopped) {
                (Err(_), false) => "failed",
                (_, true) => "stopped",
                (Ok(()), false) => "done",
            },
            reason: ended.as_ref().err().map(Error::reason),
            remedy: ended.as_ref().err().and_then(Error::advice).map(|r| remedy(name, r)),
            rows_loaded: progress.rows_loaded(),
            changes: changes(&progress),
        };
        let Outcome { outcome: how, rows_loaded, changes, .. } = outcome;
        tracing::info!(task = %name, run, rows_loaded, changes, "{how}");
        if let Err(error) = news.store.end_run(run, &outcome) {
            tracing::warn!(task = %name, "the end of a run is not written down: {error}");
        }
        // What is told is kept: a daemon that is killed from here on comes back with the same answer.
        if !stopped {
            self.task.reporter.ended(&ended);
        }
        ended
    }
}

/// Writes down that a run begins; its number.
fn begin(news: &News, task: &str, revision: i64) -> i64 {
    news.store.begin_run(task, revision).unwrap_or_else(|error| {
        tracing::warn!(%task, "the beginning of a run is not written down: {error}");
        0
    })
}

/// Whether it may go well when it is begun again without anybody doing something: a fault of the program, or what has
/// not healed in the time that the task gives it.
fn is_a_fault(error: &Error) -> bool {
    matches!(error.class(), Class::Fatal)
}
