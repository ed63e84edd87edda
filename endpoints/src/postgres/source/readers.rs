//! Connections that see one snapshot: whoever reads a chunk takes one, and gives it back.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Mutex;
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::{Error, Result};

use super::shared::Inner;
use crate::postgres::types::TypeBook;
use crate::postgres::wire::Conn;

/// What reading chunks of a snapshot takes.
pub(super) struct Readers {
    inner: Arc<Inner>,
    /// The exported snapshot's name, as a literal.
    name: String,
    types: TypeBook,
    partitioned: HashSet<TableId>,
    /// Connections that no chunk uses now.
    idle: Mutex<Vec<Conn>>,
}

impl Readers {
    /// `name`: of the exported snapshot, as a literal. `partitioned`: the tables whose rows are stored in partitions.
    pub(super) fn new(inner: &Arc<Inner>, name: String, types: TypeBook, partitioned: HashSet<TableId>) -> Self {
        Self { inner: Arc::clone(inner), name, types, partitioned, idle: Mutex::new(Vec::new()) }
    }

    /// The exported snapshot's name, as a literal.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A connection that sees the snapshot.
    pub(super) async fn reader(&self) -> Result<Conn> {
        let idle = self.idle.lock().await.pop();
        let mut conn = match idle {
            Some(conn) => conn,
            None => {
                let mut conn = self.inner.copying().await?;
                // A statement at the source that waits for another reader of ours makes this one wait behind it.
                conn.query("SET lock_timeout = '30s'").await?;
                conn
            }
        };
        conn.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        conn.query(&format!("SET TRANSACTION SNAPSHOT {}", self.name)).await.map_err(expired)?;
        Ok(conn)
    }

    /// Takes a connection back whose statement has ended well. Its locks go: nobody at the source waits for a load to
    /// end.
    pub(super) async fn give_back(&self, mut conn: Conn) -> Result<()> {
        conn.query("COMMIT").await?;
        self.idle.lock().await.push(conn);
        Ok(())
    }

    /// Whether a table's rows are stored in partitions.
    pub(super) fn is_partitioned(&self, table: &TableSchema) -> bool {
        self.partitioned.contains(&table.id)
    }

    /// How values of the types travel that the tables have.
    pub(super) fn types(&self) -> &TypeBook {
        &self.types
    }
}

/// The session that exported it has ended: another attempt takes a new one.
pub(super) fn expired(e: Error) -> Error {
    Error::transient("the exported snapshot cannot be used any more").cause(e)
}
