//! Secondary indexes and constraints, created after the load.

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::schema::{SecondaryKind, SecondaryObject};

use crate::postgres::quote;
use crate::postgres::sqlstate::error as pg;
use crate::postgres::types::DIALECT;

/// Creates those that are not there.
pub(super) async fn create(client: &Client, objects: &[SecondaryObject]) -> Result<()> {
    for object in objects {
        if object.ddl.dialect != DIALECT {
            let (table, name, dialect) = (&object.table, &object.name, &object.ddl.dialect);
            tracing::warn!(%table, name, %dialect, "is defined in another database's SQL: not created");
            continue;
        }
        if exists(client, object).await? {
            continue;
        }
        match client.batch_execute(&object.ddl.render(quote::ident)).await.map_err(pg) {
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
        SecondaryKind::Index | SecondaryKind::UniqueIndex => {
            "SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND x.relname = $3"
        }
        SecondaryKind::Constraint | SecondaryKind::ForeignKey => {
            "SELECT FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND o.conname = $3"
        }
    };
    let found = client.query_opt(sql, &[&object.table.schema, &object.table.table, &object.name]).await;
    Ok(found.map_err(pg)?.is_some())
}
