//! Indexes and constraints beyond the primary key and what identifies rows.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Row};
use trem_engine::schema::{SecondaryKind, SecondaryObject, TableId};
use trem_engine::template::Piece;
use trem_engine::{Error, Result};

use super::expression::{Pieces, Scope};
use crate::postgres::row::get;
use crate::postgres::{quote, sqlstate};

/// The index that identifies rows is made with the table's keys; the index of a constraint comes with the constraint.
const SQL: &str = "
    SELECT 1 AS place, n.nspname::text, c.relname::text, x.relname::text, c.oid, 'i',
      format('CREATE %sINDEX %I ON %s', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, x.relname,
             CASE WHEN x.relkind = 'I' THEN 'ONLY ' ELSE '' END),
      format('%I.%I', n.nspname, c.relname), pg_get_indexdef(i.indexrelid),
      ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnatts) k),
      pg_get_expr(i.indpred, i.indrelid), NULL, NULL
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = ANY ($1) AND i.indisvalid AND NOT i.indisprimary AND NOT i.indisreplident
      AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT CASE o.contype WHEN 'f' THEN 3 ELSE 2 END, n.nspname, c.relname, o.conname, c.oid, o.contype::text,
      '', '', pg_get_constraintdef(o.oid),
      ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnatts) k),
      pg_get_expr(i.indpred, i.indrelid), fn.nspname, f.relname
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index i ON i.indexrelid = o.conindid
    LEFT JOIN pg_class f ON f.oid = o.confrelid LEFT JOIN pg_namespace fn ON fn.oid = f.relnamespace
    WHERE o.conrelid = ANY ($1) AND o.conparentid = 0 AND o.contype IN ('u', 'x', 'c', 'f')
      AND NOT (coalesce(i.indisreplident, false) AND o.contype = 'u')
    ORDER BY 1, 2, 3, 4";

/// Those of the tables with these numbers, whose columns are given, in the order in which they can be created.
pub(super) async fn objects(client: &Client, columns: &HashMap<u32, HashSet<String>>) -> Result<Vec<SecondaryObject>> {
    let oids: Vec<u32> = columns.keys().copied().collect();
    let mut out = Vec::new();
    for row in &client.query(SQL, &[&oids]).await.map_err(sqlstate::error)? {
        let table = TableId::new(get::<String>(row, 1)?, get::<String>(row, 2)?);
        let name: String = get(row, 3)?;
        let Some(columns) = columns.get(&get::<u32>(row, 4)?) else { continue };
        let scope = Scope { table: &table, columns };
        let (kind, mut pieces) = (get::<String>(row, 5)?, Pieces::default());
        let built = match kind.as_str() {
            "i" => index(&scope, row, &mut pieces)?,
            other => constraint(&scope, other, &name, row, &mut pieces)?,
        };
        if built.is_none() {
            tracing::warn!(%table, name, "its definition is not understood; it will not be created on the target");
            continue;
        }
        let kind = match get::<i32>(row, 0)? {
            1 if get::<String>(row, 6)?.starts_with("CREATE UNIQUE") => SecondaryKind::UniqueIndex,
            1 => SecondaryKind::Index,
            2 => SecondaryKind::Constraint,
            3 => SecondaryKind::ForeignKey,
            other => return Err(Error::fatal(format!("internal: secondary object of kind {other}"))),
        };
        out.push(SecondaryObject { table, name, kind, ddl: pieces.template() });
    }
    Ok(out)
}

fn index(scope: &Scope<'_>, row: &Row, out: &mut Pieces) -> Result<Option<()>> {
    let (head, table, text): (String, String, String) = (get(row, 6)?, get(row, 7)?, get(row, 8)?);
    let (elements, predicate): (Vec<String>, Option<String>) = (get(row, 9)?, get(row, 10)?);
    let Some(rest) = text.strip_prefix(&head).and_then(|rest| rest.strip_prefix(&table)) else { return Ok(None) };
    out.text(&head);
    out.push(Piece::Table(scope.table.clone()));
    Ok(scope.index(rest, &elements, predicate.as_deref(), out))
}

fn constraint(scope: &Scope<'_>, kind: &str, name: &str, row: &Row, out: &mut Pieces) -> Result<Option<()>> {
    let text: String = get(row, 8)?;
    out.text("ALTER TABLE ");
    out.push(Piece::Table(scope.table.clone()));
    out.text(&format!(" ADD CONSTRAINT {} ", quote::ident(name)));
    match kind {
        "x" => Ok(scope.index(&text, &get::<Vec<String>>(row, 9)?, get::<Option<String>>(row, 10)?.as_deref(), out)),
        "f" => {
            let (schema, table): (Option<String>, Option<String>) = (get(row, 11)?, get(row, 12)?);
            let Some((schema, table)) = schema.zip(table) else { return Ok(None) };
            Ok(scope.foreign_key(&text, &TableId::new(schema, table), out))
        }
        _ => {
            scope.columns_of(&text, out);
            Ok(Some(()))
        }
    }
}
