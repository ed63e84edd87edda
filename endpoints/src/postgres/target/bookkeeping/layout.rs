//! The tables of the bookkeeping, in the formats that there have been.

use tokio_postgres::Client;
use trem_engine::{Error, Result};

use crate::postgres::sqlstate::error as pg;

/// The layout that this program writes. Format 1 is that of version 0.1.0, which it reads and goes on from.
const FORMAT: i32 = 3;

const CREATE: &str = "
CREATE TABLE trem.meta (format int NOT NULL);
CREATE TABLE trem.task (
    task text PRIMARY KEY,
    epoch bigint NOT NULL,
    lineage text,
    position_order numeric(39),
    position text,
    committed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE TABLE trem.table_state (
    task text NOT NULL REFERENCES trem.task ON DELETE CASCADE,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    state text NOT NULL,
    shape text NOT NULL,
    reason text,
    remedy text,
    created_by_trem boolean NOT NULL,
    keeps_rows boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (task, schema_name, table_name)
);
CREATE TABLE trem.chunk (
    task text NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    id bigint NOT NULL,
    chunk text NOT NULL,
    snapshot_order numeric(39),
    snapshot text,
    row_count bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (task, schema_name, table_name, id),
    FOREIGN KEY (task, schema_name, table_name) REFERENCES trem.table_state ON DELETE CASCADE
);
INSERT INTO trem.meta VALUES (1);
";

/// From format 1 to 2. What a task of version 0.1.0 still writes while another task is upgraded stays where it is: its
/// place in the log in `task`, its tables without a target of their own.
const TO_2: &str = "
CREATE TABLE trem.lane (
    task text NOT NULL REFERENCES trem.task ON DELETE CASCADE,
    lane int NOT NULL,
    epoch bigint NOT NULL,
    lineage text NOT NULL,
    position_order numeric(39) NOT NULL,
    position text NOT NULL,
    committed_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (task, lane)
);
ALTER TABLE trem.table_state ADD COLUMN target_schema text, ADD COLUMN target_table text, ADD COLUMN target_shape text,
    ADD COLUMN position_order numeric(39), ADD COLUMN position text, ADD COLUMN conflicts bigint NOT NULL DEFAULT 0;
ALTER TABLE trem.task ADD COLUMN failing text;
CREATE TABLE trem.request (
    task text NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (task, schema_name, table_name)
);
UPDATE trem.meta SET format = 2;
";

/// From format 2 to 3. A task of an earlier version knows nothing of it and may go on.
const TO_3: &str = "
CREATE TABLE trem.quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task text NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    operation text NOT NULL,
    position text,
    committed_at timestamptz,
    error text NOT NULL,
    row_key text NOT NULL,
    row_values text NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX ON trem.quarantine (task, schema_name, table_name);
UPDATE trem.meta SET format = 3;
";

/// Waits for others that create or drop the bookkeeping, until the end of the open transaction.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(8387219012217)";

/// The format of what is there; `None` without bookkeeping. Refuses one that a newer program wrote.
pub(in super::super) async fn format(client: &Client) -> Result<Option<i32>> {
    // Read as rows: what a session remembers of names (`to_regclass`) it brings up to date when it locks a table, and
    // it may have waited for others without.
    let sql = "SELECT count(*) = 2 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = 'trem' AND c.relname IN ('meta', 'chunk')";
    let found: bool = client.query_one(sql, &[]).await.and_then(|r| r.try_get(0)).map_err(pg)?;
    if !found {
        return Ok(None);
    }
    let format = client.query_opt("SELECT max(format) FROM trem.meta", &[]).await.map_err(pg)?;
    let format = format.map_or(Ok(None), |r| r.try_get::<_, Option<i32>>(0)).map_err(pg)?;
    match format {
        Some(format @ 1..=FORMAT) => Ok(Some(format)),
        other => {
            let found = other.map_or_else(|| "no format".to_owned(), |f| format!("format {f}"));
            Err(Error::refused(format!("schema trem of the target has {found}, this program knows 1 to {FORMAT}"))
                .remedy("run the program version that wrote it"))
        }
    }
}

/// Creates what is missing, in the open transaction.
pub(super) async fn create(client: &Client) -> Result<()> {
    // Another task may start, or be dropped with all that is there, at the same moment.
    client.batch_execute(LOCK).await.map_err(pg)?;
    let format = format(client).await?;
    if format.is_none() {
        let schema = "SELECT FROM pg_namespace WHERE nspname = 'trem'";
        if client.query_opt(schema, &[]).await.map_err(pg)?.is_none() {
            client.batch_execute("CREATE SCHEMA trem").await.map_err(pg)?;
        }
        client.batch_execute(CREATE).await.map_err(pg)?;
    }
    for (to, upgrade) in [(2, TO_2), (3, TO_3)] {
        if format.unwrap_or(1) < to {
            client.batch_execute(upgrade).await.map_err(pg)?;
        }
    }
    Ok(())
}
