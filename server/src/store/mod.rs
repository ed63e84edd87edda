//! What people want and what has happened, in one SQLite file: endpoints, tasks and their revisions, runs, events, log
//! lines, tokens, audit. What decides which change is applied is not here: that is on the targets (ADR 1).

mod answers;
mod audit;
mod endpoints;
mod error;
mod events;
mod layout;
mod logs;
mod rule_sets;
mod runs;
mod seal;
mod tasks;
mod tokens;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;

pub use answers::Answer;
pub use audit::{By, Entry};
pub use endpoints::StoredEndpoint;
pub use error::{Result, StoreError};
pub use events::Event;
pub use logs::Line;
pub use rule_sets::StoredRuleSet;
pub use runs::{Outcome, Run};
pub use seal::Key;
pub use tasks::{Desired, Revision, StoredTask};
pub use tokens::{Identity, Role};

/// Another process may be writing, to make a token say.
const BUSY: Duration = Duration::from_secs(5);

/// The state file. Clones share it.
#[derive(Clone)]
pub struct Store {
    writer: Arc<Mutex<Connection>>,
    /// Does not wait for who writes.
    reader: Arc<Mutex<Connection>>,
    key: Arc<Key>,
}

impl Store {
    /// Opens the file, or makes it. One of an older version is brought up to date.
    ///
    /// # Errors
    /// A file that is none of ours, is of a newer version, or was sealed with another key.
    pub fn open(file: &Path, key: Key) -> Result<Self> {
        let open = || -> Result<Connection> {
            let connection = Connection::open(file)?;
            connection.busy_timeout(BUSY)?;
            Ok(connection)
        };
        let mut writer = open()?;
        layout::bring_up(&mut writer, file)?;
        seal::check(&writer, &key, file)?;
        let (writer, reader) = (Arc::new(Mutex::new(writer)), Arc::new(Mutex::new(open()?)));
        Ok(Self { writer, reader, key: Arc::new(key) })
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        read(&self.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// In one transaction, which is on the disk on return.
    fn write<T>(&self, write: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        // Others go on while this waits for the disk.
        tokio::task::block_in_place(|| {
            let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let done = write(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// A moment as the file has it: RFC 3339 in UTC, with microseconds, so that texts are in the order of time.
fn stamp(at: SystemTime) -> String {
    humantime::format_rfc3339_micros(at).to_string()
}

fn now() -> String {
    stamp(SystemTime::now())
}

#[cfg(test)]
mod tests;
