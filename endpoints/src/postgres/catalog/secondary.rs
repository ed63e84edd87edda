//! Indexes and constraints beyond the primary key and what identifies rows.

use tokio_postgres::Client;
use trem_engine::schema::{SecondaryKind, SecondaryObject, TableId};
use trem_engine::{Error, Result};

use super::get;
use crate::postgres::sqlstate;

/// The index that identifies rows is made with the table's keys; the index of a constraint comes with the constraint.
const SQL: &str = "
    SELECT 1 AS kind, n.nspname::text, c.relname::text, x.relname::text, pg_get_indexdef(i.indexrelid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = ANY ($1) AND i.indisvalid AND NOT i.indisprimary AND NOT i.indisreplident
      AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT CASE o.contype WHEN 'f' THEN 3 ELSE 2 END, n.nspname, c.relname, o.conname,
      format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', n.nspname, c.relname, o.conname, pg_get_constraintdef(o.oid))
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE o.conrelid = ANY ($1) AND o.conparentid = 0 AND o.contype IN ('u', 'x', 'c', 'f')
      AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = o.conindid AND i.indisreplident AND o.contype = 'u')
    ORDER BY 1, 2, 3, 4";

/// Those of the tables with these numbers, in the order in which they can be created.
pub(super) async fn objects(client: &Client, oids: &[u32]) -> Result<Vec<SecondaryObject>> {
    let rows = client.query(SQL, &[&oids]).await.map_err(sqlstate::error)?;
    let object = |row| {
        Ok(SecondaryObject {
            table: TableId::new(get::<String>(row, 1)?, get::<String>(row, 2)?),
            name: get(row, 3)?,
            kind: match get::<i32>(row, 0)? {
                1 => SecondaryKind::Index,
                2 => SecondaryKind::Constraint,
                3 => SecondaryKind::ForeignKey,
                other => return Err(Error::fatal(format!("internal: secondary object of kind {other}"))),
            },
            ddl: get(row, 4)?,
        })
    };
    rows.iter().map(object).collect()
}
