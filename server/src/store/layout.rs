//! The tables of the state file, and how a file of an older version gets them.

use std::path::Path;

use rusqlite::Connection;

use super::error::{Result, StoreError};

/// What makes version N + 1 of version N. Steps that have been released are never changed.
const STEPS: &[&str] = &[VERSION_1, VERSION_2];

const VERSION_1: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE TABLE endpoint (
        name TEXT PRIMARY KEY, sealed BLOB NOT NULL, shown TEXT NOT NULL, revision INTEGER NOT NULL,
        changed_at TEXT NOT NULL) STRICT;
    CREATE TABLE task (
        name TEXT PRIMARY KEY, spec TEXT NOT NULL, revision INTEGER NOT NULL, desired TEXT NOT NULL,
        created_at TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT;
    CREATE TABLE revision (
        task TEXT NOT NULL, revision INTEGER NOT NULL, spec TEXT NOT NULL, who TEXT NOT NULL, at TEXT NOT NULL,
        PRIMARY KEY (task, revision)) STRICT;
    CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL, revision INTEGER NOT NULL, started_at TEXT NOT NULL,
        ended_at TEXT, outcome TEXT, reason TEXT, remedy TEXT, rows_loaded INTEGER NOT NULL DEFAULT 0,
        changes INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE INDEX run_of_task ON run (task, id);
    CREATE TABLE event (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, task TEXT, kind TEXT NOT NULL,
        data TEXT NOT NULL) STRICT;
    CREATE TABLE log (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, task TEXT NOT NULL, level TEXT NOT NULL,
        message TEXT NOT NULL, fields TEXT NOT NULL) STRICT;
    CREATE INDEX log_of_task ON log (task, id);
    CREATE TABLE token (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, role TEXT NOT NULL, hash BLOB NOT NULL UNIQUE,
        created_at TEXT NOT NULL, revoked_at TEXT) STRICT;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
        object TEXT NOT NULL, before TEXT, after TEXT) STRICT;
";

const VERSION_2: &str = "
    CREATE TABLE rule_set (
        name TEXT PRIMARY KEY, spec TEXT NOT NULL, revision INTEGER NOT NULL, changed_at TEXT NOT NULL) STRICT;
    CREATE TABLE answer (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, who TEXT NOT NULL, key TEXT NOT NULL,
        request BLOB NOT NULL, status INTEGER NOT NULL, content_type TEXT NOT NULL, body BLOB NOT NULL,
        UNIQUE (who, key)) STRICT;
";

/// Marks the file as ours (SQLite's `application_id`): the letters `trem`.
const APPLICATION: i32 = 0x7472_656d;

/// Brings a file to the version of this program.
pub(super) fn bring_up(connection: &mut Connection, file: &Path) -> Result<()> {
    let unusable = |why: &str| StoreError::Unusable(format!("{}: {why}", file.display()));
    let application: i32 = pragma(connection, "application_id").map_err(|e| match e {
        StoreError::Sqlite(rusqlite::Error::SqliteFailure(code, _))
            if code.code == rusqlite::ErrorCode::NotADatabase =>
        {
            unusable("this is no state file of trem: name another one with --state")
        }
        e => e,
    })?;
    let version: usize = usize::try_from(pragma(connection, "user_version")?).unwrap_or(usize::MAX);
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION && (objects > 0 || application != 0) {
        return Err(unusable("this is a database of another program: name another file with --state"));
    }
    if version > STEPS.len() {
        let why = format!("it has version {version}, and this program knows up to {}", STEPS.len());
        return Err(unusable(&format!("{why}: it belongs to a newer trem, start that one")));
    }
    // What has been answered survives the machine: every commit is on the disk.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    for (at, step) in STEPS.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", at as i64 + 1)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.commit()?;
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> Result<i32> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}
