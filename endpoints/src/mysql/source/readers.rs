//! Who reads a snapshot.

use tokio::sync::{Mutex, Semaphore};
use trem_engine::{Error, Result};

use crate::mysql::connect::Session;

/// Sessions that see the snapshot, and are not reading.
pub(super) struct Readers {
    idle: Mutex<Vec<Session>>,
    turns: Semaphore,
}

impl Readers {
    pub(super) fn new(sessions: Vec<Session>) -> Self {
        let turns = Semaphore::new(sessions.len());
        Self { idle: Mutex::new(sessions), turns }
    }

    pub(super) async fn give_back(&self, session: Session) {
        self.idle.lock().await.push(session);
        self.turns.add_permits(1);
    }

    pub(super) async fn take(&self) -> Result<Session> {
        let turn = self.turns.acquire().await.map_err(|e| Error::fatal("internal: turns of readers").cause(e))?;
        turn.forget();
        let session = self.idle.lock().await.pop();
        session.ok_or_else(|| Error::fatal("internal: a turn without a reader"))
    }
}
