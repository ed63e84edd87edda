//! Secondary indexes and constraints, created after the load.

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::schema::{SecondaryKind, SecondaryObject};

use crate::postgres::sqlstate::error as pg;

/// Creates those that are not there.
pub(super) async fn create(client: &Client, objects: &[SecondaryObject]) -> Result<()> {
    for object in objects {
        if exists(client, object).await? {
            continue;
        }
        match client.batch_execute(&object.ddl).await.map_err(pg) {
            Ok(()) => tracing::info!(table = %object.table, name = object.name, "created after the load"),
            Err(error) if client.is_closed() => return Err(error),
            Err(error) => {
                let (table, name) = (&object.table, &object.name);
                tracing::warn!(%table, name, %error, "could not be created; the rows are right without it");
            }
        }
    }
    Ok(())
}

async fn exists(client: &Client, object: &SecondaryObject) -> Result<bool> {
    let sql = match object.kind {
        SecondaryKind::Index => {
            "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $3 AND $2 <> ''"
        }
        SecondaryKind::Constraint | SecondaryKind::ForeignKey => {
            "SELECT FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND o.conname = $3"
        }
    };
    let found = client.query_opt(sql, &[&object.table.schema, &object.table.table, &object.name]).await;
    Ok(found.map_err(pg)?.is_some())
}
