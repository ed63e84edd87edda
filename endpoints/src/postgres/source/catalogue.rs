//! The catalogue's word on tables, read for [`History`].

use std::collections::HashMap;

use tokio_postgres::Client;
use trem_engine::{Error, Result};

use super::history::History;
use super::setup::FILTERED;
use crate::postgres::row::get;
use crate::postgres::sqlstate;

/// A table as the catalogue has it now.
#[derive(Debug)]
pub(super) struct Now {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) history: History,
    /// It is published as a part only.
    pub(super) filtered: bool,
    /// The published table that it has become a partition of.
    pub(super) under: Option<String>,
}

/// All of it in one statement, so that a commit is seen whole or not at all.
///
/// A table that is attached gets all its columns described anew. One that was made as a partition keeps descriptions
/// from when it was made, in the transaction that made it one and before that: no command came between that could have
/// written rows. A command that was rolled back leaves its own number in the place of the one that is asked for.
const SQL: &str = "\
WITH RECURSIVE tree(root, oid, parent, joined, born) AS (
    SELECT t, t, 0::oid, '', false FROM unnest($1::oid[]) t
  UNION ALL
    SELECT t.root, i.inhrelid, i.inhparent, i.xmin::text,
      EXISTS (SELECT FROM pg_attribute s JOIN pg_attribute a ON a.attrelid = s.attrelid AND a.attnum > 0
        WHERE s.attrelid = i.inhrelid AND s.attname = 'tableoid' AND s.attnum < 0
          AND s.xmin = i.xmin AND a.xmin = i.xmin AND s.xmax = 0 AND a.xmax = 0 AND i.xmax = 0
          AND a.cmin::text::int8 < i.cmin::text::int8
          AND a.cmin::text::int8 - s.cmin::text::int8 IN (0, 1))
    FROM tree t JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p'
    JOIN pg_inherits i ON i.inhparent = p.oid AND NOT i.inhdetachpending
), parts AS (
    SELECT t.root, jsonb_object_agg(t.oid::int8, jsonb_build_object('name', c.oid::regclass::text,
      'parent', t.parent::int8, 'joined', t.joined, 'born', t.born, 'kind', c.relkind::text,
      'file', c.relfilenode::int8, 'written', c.xmin::text)) AS all
    FROM tree t JOIN pg_class c ON c.oid = t.oid GROUP BY 1
), columns AS (
    SELECT a.attrelid, count(*) FILTER (WHERE a.attisdropped) AS dropped,
      jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname::text, 'written', a.xmin::text,
        'missing', a.atthasmissing, 'generated', CASE WHEN a.attgenerated <> '' THEN md5(d.adbin::text) END)
        ORDER BY a.attnum) FILTER (WHERE NOT a.attisdropped) AS all
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = ANY ($1) AND a.attnum > 0 GROUP BY 1
), used(root, oid) AS (
    SELECT a.attrelid, a.atttypid FROM pg_attribute a
    WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
  UNION
    SELECT u.root, d.dep FROM used u JOIN pg_type t ON t.oid = u.oid CROSS JOIN LATERAL (
        SELECT t.typbasetype UNION ALL SELECT t.typelem
        UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
        UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid
        UNION ALL SELECT a.atttypid FROM pg_attribute a
            WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) d(dep)
    WHERE d.dep >= 16384
), types AS (
    SELECT u.root, jsonb_object_agg(t.oid::int8, jsonb_build_object('name', format_type(t.oid, NULL),
      'labels', coalesce((SELECT jsonb_object_agg(l.oid::int8, l.enumlabel::text) FROM pg_enum l
          WHERE l.enumtypid = t.oid), '{}'),
      'made_of', ARRAY(SELECT concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, a.attname) FROM pg_attribute a
          WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
        || ARRAY(SELECT concat_ws(' ', t.typbasetype, t.typtypmod) WHERE t.typbasetype <> 0))) AS all
    FROM used u JOIN pg_type t ON t.oid = u.oid WHERE t.typtype IN ('c', 'd', 'e') GROUP BY 1
)
SELECT c.oid, n.nspname::text, c.relname::text, jsonb_build_object('columns', coalesce(k.all, '[]'),
    'dropped', coalesce(k.dropped, 0), 'parts', coalesce(parts.all, '{}'), 'types', coalesce(types.all, '{}'),
    'member', r.oid::int8)::text, coalesce({FILTERED}, false),
    CASE WHEN c.relispartition THEN (SELECT a::text FROM pg_partition_ancestors(c.oid) a
      JOIN pg_publication_rel o ON o.prrelid = a::oid AND o.prpubid = p.oid WHERE a::oid <> c.oid LIMIT 1) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN parts ON parts.root = c.oid LEFT JOIN columns k ON k.attrelid = c.oid LEFT JOIN types ON types.root = c.oid
LEFT JOIN pg_publication p ON p.pubname = $2
LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
WHERE c.oid = ANY ($1)";

/// What `client` sees of these tables and of the publication, by the tables' numbers.
pub(super) async fn now(client: &Client, publication: &str, tables: &[u32]) -> Result<HashMap<u32, Now>> {
    let sql = SQL.replace("{FILTERED}", FILTERED);
    let rows = client.query(&sql, &[&tables, &publication]).await.map_err(sqlstate::error)?;
    let read = rows.iter().map(|row| {
        let history = serde_json::from_str(get(row, 3)?)
            .map_err(|e| Error::fatal("internal: the past of a table cannot be read").cause(e))?;
        let (schema, name) = (get(row, 1)?, get(row, 2)?);
        Ok((get(row, 0)?, Now { schema, name, history, filtered: get(row, 4)?, under: get(row, 5)? }))
    });
    read.collect()
}
