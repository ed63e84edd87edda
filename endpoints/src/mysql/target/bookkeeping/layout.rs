//! The tables of the bookkeeping.

use trem_engine::{Error, Result};

use super::super::session::Session;
use crate::mysql::row::get;

/// The layout that this program writes.
const FORMAT: i64 = 1;

/// Texts are told apart by their bytes. What is a number of 39 digits elsewhere is one here too: it is for the eyes.
const TABLES: [&str; 7] = [
    "meta (format INT NOT NULL PRIMARY KEY)",
    "task (task VARCHAR(255) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL, lineage TEXT, failing LONGTEXT, \
      updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))",
    "lane (task VARCHAR(255) NOT NULL, lane INT NOT NULL, epoch BIGINT NOT NULL, lineage TEXT NOT NULL, \
      position_order DECIMAL(39) NOT NULL, position TEXT NOT NULL, committed_at DATETIME(6), \
      updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (task, lane))",
    "table_state (task VARCHAR(255) NOT NULL, schema_name VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, \
      target_schema VARCHAR(255) NOT NULL, target_table VARCHAR(255) NOT NULL, state VARCHAR(20) NOT NULL, \
      shape LONGTEXT NOT NULL, target_shape LONGTEXT NOT NULL, reason TEXT, remedy TEXT, \
      created_by_trem BOOLEAN NOT NULL, keeps_rows BOOLEAN NOT NULL, position_order DECIMAL(39), position TEXT, \
      conflicts BIGINT NOT NULL DEFAULT 0, updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
      PRIMARY KEY (task, schema_name, table_name))",
    "chunk (task VARCHAR(255) NOT NULL, schema_name VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, \
      id BIGINT NOT NULL, chunk LONGTEXT NOT NULL, snapshot_order DECIMAL(39), snapshot TEXT, \
      row_count BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (task, schema_name, table_name, id))",
    "request (task VARCHAR(255) NOT NULL, schema_name VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, \
      requested_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (task, schema_name, table_name))",
    "quarantine (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, task VARCHAR(255) NOT NULL, \
      schema_name VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL, operation VARCHAR(10) NOT NULL, \
      position TEXT, committed_at DATETIME(6), error LONGTEXT NOT NULL, row_key LONGTEXT NOT NULL, \
      row_values LONGTEXT NOT NULL, quarantined_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
      KEY (task, schema_name, table_name))",
];

/// Whether there is any bookkeeping. Refuses one that a newer program wrote.
pub(in super::super) async fn exists(session: &mut Session) -> Result<bool> {
    // The table that is created last.
    let sql = "SELECT 1 FROM information_schema.tables WHERE table_schema = 'trem' AND table_name = 'meta'";
    if session.rows(sql, Vec::new()).await?.is_empty() {
        return Ok(false);
    }
    let rows = session.rows("SELECT max(format) FROM trem.meta", Vec::new()).await?;
    let format: Option<i64> = rows.first().map_or(Ok(None), |row| get(row, 0))?;
    match format {
        Some(FORMAT) => Ok(true),
        None => Ok(false),
        Some(found) => {
            Err(Error::refused(format!("database trem of the target has format {found}, this program knows {FORMAT}"))
                .remedy("run the program version that wrote it"))
        }
    }
}

/// Creates what is missing.
pub(super) async fn create(session: &mut Session) -> Result<()> {
    if exists(session).await? {
        return Ok(());
    }
    session.execute("CREATE DATABASE IF NOT EXISTS trem CHARACTER SET utf8mb4 COLLATE utf8mb4_bin").await?;
    for table in TABLES.iter().rev() {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS trem.{table} \
             ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        );
        session.execute(sql).await?;
    }
    session.execute(format!("INSERT IGNORE INTO trem.meta VALUES ({FORMAT})")).await.map(drop)
}

/// Drops it if no task is left, and the database with it if nothing else is in there.
pub(super) async fn drop_if_empty(session: &mut Session) -> Result<()> {
    if !session.rows("SELECT 1 FROM trem.task LIMIT 1", Vec::new()).await?.is_empty() {
        return Ok(());
    }
    for table in TABLES {
        let name = table.split(' ').next().unwrap_or_default();
        session.execute(format!("DROP TABLE IF EXISTS trem.{name}")).await?;
    }
    let left = session.rows("SELECT 1 FROM information_schema.tables WHERE table_schema = 'trem'", Vec::new()).await?;
    if left.is_empty() {
        session.execute("DROP DATABASE IF EXISTS trem").await?;
    } else {
        tracing::warn!("database trem stays on the target: something else is in it");
    }
    Ok(())
}
