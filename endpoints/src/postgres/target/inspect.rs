//! What the target has of some tables, and what its role may do with them, read before anything is decided.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;
use trem_engine::ports::Finding;
use trem_engine::record::Origin;
use trem_engine::schema::TableId;
use trem_engine::task::OnExisting;
use trem_engine::{Class, Error, Remedy, Result};

use super::interference::interference;
use super::named::of_tables;
use super::shape::{Reads, TargetTable};
use super::{bookkeeping, part};
use crate::postgres::quote;
use crate::postgres::row::get;
use crate::postgres::sqlstate::error as pg;

/// What the role may do with a schema.
#[derive(Clone, Copy, Debug)]
pub(super) struct SchemaRights {
    pub(super) usage: bool,
    pub(super) create: bool,
}

/// What the target has of some tables: as many queries for a thousand as for one.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) tables: HashMap<TableId, TargetTable>,
    pub(super) schemas: HashMap<String, SchemaRights>,
    /// The role, and whether it may create schemas.
    pub(super) role: String,
    pub(super) may_create_schemas: bool,
    /// Tables that others have foreign keys to.
    referred: HashSet<TableId>,
    pub(super) with_rows: HashSet<TableId>,
    /// The other tasks that write these tables.
    pub(super) holders: HashMap<TableId, String>,
    /// What a deleted row takes with it, where triggers and foreign keys cannot be kept out of the way.
    pub(super) hazards: HashMap<TableId, Vec<Hazard>>,
    /// What rules and triggers do to rows that are written.
    pub(super) interference: HashMap<TableId, Vec<Finding>>,
    /// What keeps a table from being dropped.
    pub(super) dependents: HashMap<TableId, Vec<String>>,
    /// Tables that other tables of the source are written to as well, by the same task, and how they have come to be.
    pub(super) shared: HashMap<TableId, Origin>,
}

/// What happens on the target when a row is deleted.
#[derive(Clone, Debug)]
pub(super) struct Hazard {
    /// What it is, for a message.
    pub(super) what: String,
    /// The statement that takes it away.
    pub(super) drop: String,
}

impl Hazard {
    /// What mends it.
    pub(super) fn remedy(&self, role: &str) -> Remedy {
        may_become_replica(role).or(Remedy::Sql(self.drop.clone()))
    }

    /// The end of a table that cannot go on while it is there.
    pub(super) fn refusal(&self, table: &TableId, doing: &str) -> Error {
        let privilege = Remedy::from("let the role set session_replication_role");
        let remedy = privilege.or(Remedy::Sql(self.drop.clone())).then_reload(table);
        Error::new(Class::Table, format!("{doing}, and {}", self.what)).table(table).remedy(remedy)
    }
}

/// What lets a role keep triggers and foreign keys out of the way.
pub(super) fn may_become_replica(role: &str) -> Remedy {
    let grant = format!("GRANT SET ON PARAMETER session_replication_role TO {}", quote::ident(role));
    format!("run `{grant}` at the target (PostgreSQL 15 and later)").into()
}

impl Facts {
    /// Reads what has to be known of these tables before `on_existing` is acted on. The bookkeeping must be there
    /// for other tasks than `task` to be looked for. `replica`: the role may switch triggers off.
    pub(super) async fn read(
        client: &Client,
        reads: &Reads,
        task: Option<&str>,
        ids: &[&TableId],
        on_existing: OnExisting,
        replica: bool,
    ) -> Result<Self> {
        let mut facts =
            Self { tables: TargetTable::read_all(client, reads, ids.iter().copied()).await?, ..Self::default() };
        let schemas: HashSet<&str> = ids.iter().map(|i| i.schema.as_str()).collect();
        facts.schemas = schema_rights(client, schemas).await?;
        let sql = "SELECT current_user::text, has_database_privilege(current_database(), 'CREATE')";
        let row = client.query_one(sql, &[]).await.map_err(pg)?;
        (facts.role, facts.may_create_schemas) = (get(&row, 0)?, get(&row, 1)?);
        if let Some(task) = task {
            facts.holders = bookkeeping::holders(client, task, ids).await?;
            for id in ids {
                facts.shared.extend(part::others(client, task, id).await?.map(|origin| ((*id).clone(), origin)));
            }
        }
        if facts.tables.is_empty() {
            return Ok(facts);
        }
        facts.referred = referred(client, ids).await?;
        facts.dependents = dependents(client, ids).await?;
        facts.interference = interference(client, ids, replica).await?;
        if !replica {
            facts.hazards = hazards(client, ids).await?;
        }
        if matches!(on_existing, OnExisting::Refuse | OnExisting::Keep) {
            let usage = |id: &TableId| facts.schemas.get(&id.schema).is_some_and(|s| s.usage);
            let readable = |t: &TargetTable| t.other_kind.is_none() && t.denied.is_empty();
            let tables = facts.tables.iter().filter(|(id, t)| usage(id) && readable(t));
            let tables = tables.map(|(id, _)| id).collect::<Vec<_>>();
            facts.with_rows = with_rows(client, &tables).await?;
        }
        Ok(facts)
    }

    /// The statement that empties the table: one that others refer to cannot be truncated alone.
    pub(super) fn empty(&self, id: &TableId) -> String {
        let empty = if self.referred.contains(id) { "DELETE FROM" } else { "TRUNCATE" };
        format!("{empty} {}", quote::table(id))
    }
}

/// Those of the tables that hold any row.
async fn with_rows(client: &Client, ids: &[&TableId]) -> Result<HashSet<TableId>> {
    let mut found = HashSet::new();
    for part in ids.chunks(200) {
        let one = |(n, id): (usize, &&TableId)| format!("SELECT {n} WHERE EXISTS (SELECT FROM {})", quote::table(id));
        let sql = part.iter().enumerate().map(one).collect::<Vec<_>>().join(" UNION ALL ");
        for row in client.query(&sql, &[]).await.map_err(pg)? {
            let place: i32 = get(&row, 0)?;
            found.extend(usize::try_from(place).ok().and_then(|n| part.get(n)).map(|id| (*id).clone()));
        }
    }
    Ok(found)
}

/// Those of the tables that other tables have foreign keys to.
async fn referred(client: &Client, ids: &[&TableId]) -> Result<HashSet<TableId>> {
    let sql = "SELECT DISTINCT w.schema_name, w.table_name FROM wanted w \
               JOIN pg_constraint f ON f.confrelid = w.oid AND f.contype = 'f' AND f.conrelid <> f.confrelid";
    Ok(of_tables(client, sql, ids).await?.into_iter().map(|(id, _)| id).collect())
}

/// What a row deleted from these tables takes with it, or sets off, unless the session is a replica's.
pub(super) async fn hazards(client: &Client, ids: &[&TableId]) -> Result<HashMap<TableId, Vec<Hazard>>> {
    let sql = "SELECT w.schema_name, w.table_name, \
                 format('foreign key %I of %s changes its rows when a row here is deleted', f.conname, \
                        f.conrelid::regclass), \
                 format('ALTER TABLE %s DROP CONSTRAINT %I', f.conrelid::regclass, f.conname) \
               FROM wanted w JOIN pg_constraint f ON f.confrelid = w.oid AND f.contype = 'f' \
               AND f.confdeltype IN ('c', 'n', 'd') AND f.conparentid = 0 \
               UNION ALL \
               SELECT w.schema_name, w.table_name, format('trigger %I fires when a row is deleted', g.tgname), \
                 format('ALTER TABLE %s DISABLE TRIGGER %I', g.tgrelid::regclass, g.tgname) \
               FROM wanted w JOIN pg_trigger g ON g.tgrelid = w.oid AND NOT g.tgisinternal \
               AND g.tgenabled IN ('O', 'A') AND g.tgtype & 8 <> 0 ORDER BY 1, 2, 3";
    let mut found: HashMap<TableId, Vec<Hazard>> = HashMap::new();
    for (id, row) in of_tables(client, sql, ids).await? {
        found.entry(id).or_default().push(Hazard { what: get(&row, 2)?, drop: get(&row, 3)? });
    }
    Ok(found)
}

/// What DROP TABLE would stumble over: views, and the foreign keys of other tables.
async fn dependents(client: &Client, ids: &[&TableId]) -> Result<HashMap<TableId, Vec<String>>> {
    let sql = "SELECT w.schema_name, w.table_name, format('view %s', r.ev_class::regclass) \
               FROM wanted w JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = w.oid \
               AND d.classid = 'pg_rewrite'::regclass AND d.deptype = 'n' \
               JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> w.oid \
               UNION \
               SELECT w.schema_name, w.table_name, format('foreign key %I of %s', f.conname, f.conrelid::regclass) \
               FROM wanted w JOIN pg_constraint f ON f.confrelid = w.oid AND f.contype = 'f' \
               AND f.conrelid <> w.oid AND f.conparentid = 0 ORDER BY 1, 2, 3";
    let mut found: HashMap<TableId, Vec<String>> = HashMap::new();
    for (id, row) in of_tables(client, sql, ids).await? {
        found.entry(id).or_default().push(get(&row, 2)?);
    }
    Ok(found)
}

/// Those of the tables that TRUNCATE would refuse, because a table that stays has a foreign key to one of them.
pub(super) async fn held(client: &Client, ids: &[&TableId]) -> Result<HashSet<TableId>> {
    // A partition of one of the tables is emptied with it.
    let sql = "SELECT w.schema_name, w.table_name, r.schema_name, r.table_name FROM wanted w \
               JOIN pg_constraint f ON f.confrelid = w.oid AND f.contype = 'f' AND f.conrelid <> w.oid \
               LEFT JOIN wanted r ON r.oid = f.conrelid OR r.oid IN (SELECT relid FROM \
               pg_partition_ancestors(f.conrelid))";
    let mut pairs: Vec<(TableId, Option<TableId>)> = Vec::new();
    for (id, row) in of_tables(client, sql, ids).await? {
        let schema: Option<String> = get(&row, 2)?;
        let referrer = schema.zip(get(&row, 3)?).map(|(schema, table): (String, String)| TableId::new(schema, table));
        pairs.push((id, referrer.filter(|r| ids.contains(&r))));
    }
    let mut held: HashSet<TableId> = HashSet::new();
    loop {
        let before = held.len();
        for (id, referrer) in &pairs {
            if referrer.as_ref().is_none_or(|r| r != id && held.contains(r)) {
                held.insert(id.clone());
            }
        }
        if held.len() == before {
            return Ok(held);
        }
    }
}

async fn schema_rights(
    client: &Client,
    names: impl IntoIterator<Item = &str>,
) -> Result<HashMap<String, SchemaRights>> {
    let names: Vec<&str> = names.into_iter().collect();
    let sql = "SELECT nspname::text, has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE') \
               FROM pg_namespace WHERE nspname = ANY ($1)";
    let rows = client.query(sql, &[&names]).await.map_err(pg)?;
    rows.iter().map(|row| Ok((get(row, 0)?, SchemaRights { usage: get(row, 1)?, create: get(row, 2)? }))).collect()
}

/// Those of the schemas that are there.
pub(super) async fn existing_schemas(
    client: &Client,
    names: impl IntoIterator<Item = &str>,
) -> Result<HashSet<String>> {
    Ok(schema_rights(client, names).await?.into_keys().collect())
}
