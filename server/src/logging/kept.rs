//! Log lines that name a task, on their way into the state file. A thread of their own writes them down, so that
//! whoever logs never waits for a disk; what it cannot keep up with is lost, and counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::store::{Line, Store};

/// Lines that may wait to be written.
const WAITING: usize = 10_000;
/// Lines that come within this time are written together.
const TOGETHER: Duration = Duration::from_millis(200);
/// How many of them at most.
const MOST: usize = 1000;

/// How long a flush may take.
const FLUSH: Duration = Duration::from_secs(5);

enum Message {
    Line(Box<Line>),
    /// All lines before are to be written; then this is told.
    Flush(SyncSender<()>),
}

/// Has lines written down that still wait.
#[derive(Clone)]
pub(super) struct Flush(SyncSender<Message>);

impl Flush {
    /// Waits until they are.
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.0.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH);
        }
    }
}

/// Takes lines in.
pub(super) struct Keeper {
    lines: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Keeper {
    /// With a thread that writes.
    pub(super) fn start(store: Store) -> Result<Self, String> {
        let (lines, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || write(&store, &waiting, &counted))
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(Self { lines, lost })
    }

    /// What has them written down at the end.
    pub(super) fn flush(&self) -> Flush {
        Flush(self.lines.clone())
    }
}

fn write(store: &Store, waiting: &Receiver<Message>, lost: &AtomicU64) {
    while let Ok(first) = waiting.recv() {
        if matches!(first, Message::Line(_)) {
            std::thread::sleep(TOGETHER);
        }
        let (mut lines, mut flushed) = (Vec::new(), Vec::new());
        for message in std::iter::once(first).chain(waiting.try_iter().take(MOST)) {
            match message {
                Message::Line(line) => lines.push(*line),
                Message::Flush(done) => flushed.push(done),
            }
        }
        if let (count @ 1.., Some(last)) = (lost.swap(0, Ordering::Relaxed), lines.last()) {
            lines.push(of_lost(last, count));
        }
        if !lines.is_empty() && store.add_lines(&lines).is_err() {
            // Said nowhere: it would come here again. Whoever asks for the lines is told of the state file.
            lost.fetch_add(lines.len() as u64, Ordering::Relaxed);
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}

fn of_lost(like: &Line, count: u64) -> Line {
    let message = format!("{count} log lines of all tasks are not kept: there were too many, or the disk is full");
    Line { level: "WARN".to_owned(), message, fields: json!({}), ..like.clone() }
}

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let Some(Value::String(task)) = said.fields.remove("task") else { return };
        let line = Line {
            id: 0,
            at: humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
            task,
            level: event.metadata().level().to_string(),
            message: said.message,
            fields: Value::Object(said.fields),
        };
        if self.lines.try_send(Message::Line(Box::new(line))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            _ => self.put(field, text.into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}
