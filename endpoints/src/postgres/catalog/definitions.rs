//! User-defined types as statements that create them elsewhere, dependencies first.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;
use trem_engine::Result;
use trem_engine::schema::{TableId, TypeDefinition};

use crate::postgres::row::get;
use crate::postgres::types::DIALECT;
use crate::postgres::{quote, sqlstate};

/// The first number that the server gives to what users create.
const FIRST_USER_OID: u32 = 16384;

/// One row of `pg_type` with what a definition needs.
#[derive(Clone, Debug)]
struct TypeRow {
    id: TableId,
    kind: String,
    /// The types it is made of.
    needs: Vec<u32>,
    extension: Option<(String, String)>,
    /// Enum: the labels. Composite: `"field" type` of each. Domain: base type and constraints. Range: the options.
    parts: Vec<String>,
}

/// The closure of some types under "is made of".
#[derive(Debug, Default)]
pub(crate) struct TypeRows(HashMap<u32, TypeRow>);

/// All types that `$1` are made of, and what they are made of.
const CLOSURE: &str = "\
WITH RECURSIVE need(oid) AS (
    SELECT unnest($1::oid[])
  UNION
    SELECT d.dep FROM need n JOIN pg_type t ON t.oid = n.oid CROSS JOIN LATERAL (
        SELECT t.typbasetype UNION ALL SELECT t.typelem
        UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
        UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid
        UNION ALL SELECT a.atttypid FROM pg_attribute a
            WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) d(dep)
    WHERE d.dep <> 0
)
SELECT t.oid, n.nspname::text, t.typname::text,
    CASE WHEN c.relkind IS NOT NULL AND c.relkind <> 'c' THEN 'table'
         WHEN t.typtype = 'b' AND t.typelem <> 0 AND t.typsubscript::oid = 'array_subscript_handler'::regproc::oid
         THEN 'array' ELSE t.typtype::text END,
    ARRAY(SELECT x FROM unnest(ARRAY[t.typbasetype, t.typelem, r.rngsubtype, m.rngtypid]) x WHERE x <> 0)
        || ARRAY(SELECT a.atttypid FROM pg_attribute a
                 WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
    e.extname::text, en.nspname::text,
    CASE t.typtype
        WHEN 'e' THEN ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder)
        WHEN 'c' THEN ARRAY(SELECT quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
            FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
        WHEN 'd' THEN ARRAY[format_type(t.typbasetype, t.typtypmod)]
            || CASE WHEN t.typnotnull THEN ARRAY['NOT NULL'] ELSE '{}' END
            || ARRAY(SELECT 'CONSTRAINT ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid)
                     FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c' ORDER BY k.conname)
        WHEN 'r' THEN ARRAY['SUBTYPE = ' || format_type(r.rngsubtype, NULL),
            'SUBTYPE_OPCLASS = ' || quote_ident(o_n.nspname) || '.' || quote_ident(o.opcname)]
            || CASE WHEN r.rngcollation <> 0
               THEN ARRAY['COLLATION = ' || r.rngcollation::regcollation::text] ELSE '{}' END
            || CASE WHEN mt.oid IS NOT NULL THEN ARRAY['MULTIRANGE_TYPE_NAME = ' || quote_ident(mn.nspname) || '.'
                    || quote_ident(mt.typname)] ELSE '{}' END
        ELSE '{}' END
FROM need JOIN pg_type t ON t.oid = need.oid JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_class c ON c.oid = t.typrelid
LEFT JOIN pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_range m ON m.rngmultitypid = t.oid
LEFT JOIN pg_opclass o ON o.oid = r.rngsubopc LEFT JOIN pg_namespace o_n ON o_n.oid = o.opcnamespace
LEFT JOIN pg_type mt ON mt.oid = r.rngmultitypid LEFT JOIN pg_namespace mn ON mn.oid = mt.typnamespace
LEFT JOIN pg_depend x ON x.classid = 'pg_type'::regclass AND x.objid = t.oid AND x.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = x.refobjid LEFT JOIN pg_namespace en ON en.oid = e.extnamespace";

impl TypeRows {
    /// Reads the types with these numbers and all that they are made of.
    pub(crate) async fn load(client: &Client, oids: &[u32]) -> Result<Self> {
        let user: Vec<u32> = oids.iter().copied().filter(|o| *o >= FIRST_USER_OID).collect();
        if user.is_empty() {
            return Ok(Self::default());
        }
        let mut types = HashMap::new();
        for row in &client.query(CLOSURE, &[&user]).await.map_err(sqlstate::error)? {
            let extension: Option<String> = get(row, 5)?;
            let schema: Option<String> = get(row, 6)?;
            types.insert(
                get::<u32>(row, 0)?,
                TypeRow {
                    id: TableId::new(get::<String>(row, 1)?, get::<String>(row, 2)?),
                    kind: get(row, 3)?,
                    needs: get(row, 4)?,
                    extension: extension.zip(schema),
                    parts: get(row, 7)?,
                },
            );
        }
        Ok(Self(types))
    }

    /// The definitions of the types that these tables use and of what they are made of, each after what it needs.
    pub(crate) fn definitions(&self, used: &HashMap<TableId, Vec<u32>>) -> Vec<TypeDefinition> {
        let mut out = Vec::new();
        let mut seen = HashSet::new();
        let mut oids: Vec<u32> = used.values().flatten().copied().collect();
        oids.sort_by_key(|o| self.0.get(o).map(|t| t.id.clone()));
        for oid in oids {
            self.visit(oid, &mut seen, &mut out);
        }
        for (table, oids) in used {
            let mut made_of = HashSet::new();
            oids.iter().for_each(|oid| self.closure(*oid, &mut made_of));
            let mut own = out.iter_mut().filter(|ty: &&mut TypeDefinition| made_of.contains(&ty.id));
            own.by_ref().for_each(|ty| ty.users.push(table.clone()));
        }
        out.iter_mut().for_each(|ty| ty.users.sort());
        out
    }

    /// A type and all that it is made of.
    fn closure<'a>(&'a self, oid: u32, into: &mut HashSet<&'a TableId>) {
        if let Some(row) = self.0.get(&oid).filter(|row| into.insert(&row.id)) {
            row.needs.iter().for_each(|need| self.closure(*need, into));
        }
    }

    fn visit(&self, oid: u32, seen: &mut HashSet<u32>, out: &mut Vec<TypeDefinition>) {
        let Some(row) = self.0.get(&oid).filter(|_| oid >= FIRST_USER_OID && seen.insert(oid)) else { return };
        if row.extension.is_none() {
            for need in &row.needs {
                self.visit(*need, seen, out);
            }
        }
        out.extend(row.definition());
    }
}

impl TypeRow {
    /// `None` for what comes into being with something else: arrays, multiranges, row types of tables.
    fn definition(&self) -> Option<TypeDefinition> {
        let name = quote::table(&self.id);
        let ddl = match (&self.extension, self.kind.as_str()) {
            (Some((extension, schema)), "b" | "e" | "c" | "d" | "r") => format!(
                "CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {}",
                quote::ident(extension),
                quote::ident(schema)
            ),
            (None, "e") => {
                let labels: Vec<_> = self.parts.iter().map(|l| quote::literal(l)).collect();
                format!("CREATE TYPE {name} AS ENUM ({})", labels.join(", "))
            }
            (None, "c") => format!("CREATE TYPE {name} AS ({})", self.parts.join(", ")),
            (None, "d") => format!("CREATE DOMAIN {name} AS {}", self.parts.join(" ")),
            (None, "r") => format!("CREATE TYPE {name} AS RANGE ({})", self.parts.join(", ")),
            _ => return None,
        };
        let labels = if self.kind == "e" { self.parts.clone() } else { Vec::new() };
        Some(TypeDefinition { dialect: DIALECT, id: self.id.clone(), ddl, labels, users: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn row(name: &str, kind: &str, needs: &[u32], parts: &[&str]) -> TypeRow {
        TypeRow {
            id: TableId::new("Sé", name),
            kind: kind.to_owned(),
            needs: needs.to_vec(),
            extension: None,
            parts: parts.iter().map(|p| (*p).to_owned()).collect(),
        }
    }

    #[test]
    fn what_a_type_is_made_of_comes_first() {
        let mut rows = HashMap::new();
        rows.insert(20_003, row("a", "c", &[20_002, 23], &["x \"Sé\".m[]", "y integer"]));
        rows.insert(20_002, row("_m", "array", &[20_001], &[]));
        rows.insert(20_001, row("m", "e", &[], &["it's", "b"]));
        let (all, plain) = (TableId::new("s", "all"), TableId::new("s", "plain"));
        let used = HashMap::from([(all.clone(), vec![20_003, 20_001]), (plain.clone(), vec![20_001, 23])]);
        let definitions = TypeRows(rows).definitions(&used);
        let ddl: Vec<_> = definitions.iter().map(|d| d.ddl.as_str()).collect();
        assert_eq!(
            ddl,
            [
                "CREATE TYPE \"Sé\".\"m\" AS ENUM ('it''s', 'b')",
                "CREATE TYPE \"Sé\".\"a\" AS (x \"Sé\".m[], y integer)"
            ]
        );
        assert_eq!(definitions[0].labels, ["it's", "b"]);
        assert_eq!(definitions[0].users, [all.clone(), plain]);
        assert_eq!(definitions[1].users, [all]);
    }
}
