//! What the target's own rules and triggers do to rows that trem writes.

use std::collections::HashMap;

use tokio_postgres::Client;
use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::TableId;
use trem_engine::{Remedy, Result};

use super::named::of_tables;
use crate::postgres::row::get;

/// Rules, which stand in the way of every upsert or put something else in its place, and triggers that may change rows
/// or keep them out: those that fire for this session. `replica`: the role may set session_replication_role.
///
/// A rule is not asked when rows are loaded (COPY, manual) and is when they change.
pub(super) async fn interference(
    client: &Client,
    ids: &[&TableId],
    replica: bool,
) -> Result<HashMap<TableId, Vec<Finding>>> {
    let fires = if replica { "('A', 'R')" } else { "('A', 'O')" };
    let sql = format!(
        "SELECT w.schema_name, w.table_name, true, format('rule %I', r.rulename), \
           format('ALTER TABLE %s DISABLE RULE %I', w.oid::regclass, r.rulename) \
         FROM wanted w JOIN pg_class c ON c.oid = w.oid AND c.relkind IN ('r', 'p') \
         JOIN pg_rewrite r ON r.ev_class = w.oid AND r.ev_type IN ('2', '3', '4') AND r.ev_enabled IN {fires} \
         UNION ALL \
         SELECT w.schema_name, w.table_name, false, format('trigger %I', g.tgname), \
           format('ALTER TABLE %s DISABLE TRIGGER %I', w.oid::regclass, g.tgname) \
         FROM wanted w JOIN pg_trigger g ON g.tgrelid = w.oid AND NOT g.tgisinternal \
           AND g.tgenabled IN {fires} AND g.tgtype & 3 = 3 ORDER BY 1, 2, 4"
    );
    let mut found: HashMap<TableId, Vec<Finding>> = HashMap::new();
    for (id, row) in of_tables(client, &sql, ids).await? {
        let (rule, what, disable): (bool, String, String) = (get(&row, 2)?, get(&row, 3)?, get(&row, 4)?);
        let (severity, does) = match rule {
            true => (Severity::Error, "fires for replicated rows, and swallows or refuses them"),
            false => (Severity::Warning, "fires for replicated rows, and may change them or keep them out"),
        };
        let finding = Finding {
            severity,
            subject: id.to_string(),
            message: format!("{what} {does}"),
            remedy: Some(Remedy::Sql(disable)),
        };
        found.entry(id).or_default().push(finding);
    }
    Ok(found)
}
