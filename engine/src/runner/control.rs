//! What is asked of a running task from outside.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::schema::TableId;

/// What a running task is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Load this table (its name at the source) again, from its start.
    Reload(TableId),
    /// Look at once for tables that are new at the source, and for requests that were written down.
    Rediscover,
}

/// A handle on a running task; clones share it. Commands given before the task runs are taken up when it does.
#[derive(Clone, Debug)]
pub struct Control {
    stop: CancellationToken,
    paused: Arc<watch::Sender<bool>>,
    sender: mpsc::UnboundedSender<Command>,
    inbox: Arc<Mutex<mpsc::UnboundedReceiver<Command>>>,
}

impl Default for Control {
    fn default() -> Self {
        Self::stopped_by(CancellationToken::new())
    }
}

impl Control {
    /// A handle on a task that also stops when `stop` is cancelled.
    pub fn stopped_by(stop: CancellationToken) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        let paused = Arc::new(watch::channel(false).0);
        Self { stop, paused, sender, inbox: Arc::new(Mutex::new(inbox)) }
    }

    /// Ends the task: what is being applied is finished first.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Moves no more rows until [`Control::resume`]. Connections and what the source retains stay.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Goes on.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Tells the task something.
    pub fn send(&self, command: Command) {
        // The receiver lives as long as this handle.
        let _ = self.sender.send(command);
    }

    pub(super) fn token(&self) -> &CancellationToken {
        &self.stop
    }

    pub(super) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Waits until the task is not paused.
    pub(super) async fn resumed(&self) {
        let mut paused = self.paused.subscribe();
        // The sender lives as long as this handle.
        let _ = paused.wait_for(|paused| !paused).await;
    }

    /// Waits until pausing or resuming changes something.
    pub(super) fn pauses(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    /// The next command. Cancel-safe.
    pub(super) async fn command(&self) -> Command {
        match self.inbox.lock().await.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }
}
