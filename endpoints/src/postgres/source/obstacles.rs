//! What stands against reading or publishing single tables.

use std::sync::Arc;

use tokio_postgres::Client;
use trem_engine::schema::{Identity, TableId, TableSchema};
use trem_engine::side::Side;
use trem_engine::{Error, Remedy, Result};

use super::identity::Unkeyed;
use super::shared::Inner;
use crate::postgres::row::get;
use crate::postgres::types::table_number;
use crate::postgres::{quote, sqlstate};

/// What a role lacks for one table, and what gives it.
pub(super) struct Obstacle {
    pub(super) table: TableId,
    pub(super) message: String,
    pub(super) remedy: Remedy,
}

/// All of it, as errors of the tables. `follow`: their changes will be read from the log.
pub(super) async fn all(inner: &Inner, tables: &[Arc<TableSchema>], follow: bool) -> Result<Vec<Error>> {
    let client = inner.client().await?;
    let plain: Vec<&TableSchema> = tables.iter().map(AsRef::as_ref).collect();
    let mut errors = Vec::new();
    for Obstacle { table, message, remedy } in privileges(&client, inner, &plain, follow).await? {
        errors.push(Error::refused(message).at(Side::Source).table(&table).remedy(remedy));
    }
    for table in plain.iter().filter(|t| follow && t.identity == Identity::InsertOnly) {
        errors.push(Unkeyed::of(&client, table).await?.error(table));
    }
    Ok(errors)
}

/// What the role may not do with the tables. What is published already may have been published by somebody else.
pub(super) async fn privileges(
    client: &Client,
    inner: &Inner,
    tables: &[&TableSchema],
    follow: bool,
) -> Result<Vec<Obstacle>> {
    let sql = "SELECT c.oid, has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), \
                 pg_has_role(c.relowner, 'USAGE') OR EXISTS (SELECT FROM pg_publication_rel r \
                   JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = c.oid AND p.pubname = $2), \
                 pg_get_userbyid(c.relowner)::text, \
                 c.relrowsecurity AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) \
                   AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE')), \
                 (SELECT rolsuper FROM pg_roles WHERE oid = c.relowner) \
               FROM pg_class c WHERE c.oid = ANY ($1)";
    let oids: Vec<u32> = tables.iter().map(|t| table_number(t)).collect();
    let user = quote::ident(&inner.config.user);
    let mut found = Vec::new();
    for row in client.query(sql, &[&oids, &inner.name]).await.map_err(sqlstate::error)? {
        let oid: u32 = get(&row, 0)?;
        let Some(table) = tables.iter().find(|t| table_number(t) == oid) else { continue };
        let name = quote::table(&table.id);
        let mut add = |message: String, remedy| found.push(Obstacle { table: table.id.clone(), message, remedy });
        if !get::<bool>(&row, 1)? {
            let schema = quote::ident(&table.id.schema);
            let grant = format!("GRANT USAGE ON SCHEMA {schema} TO {user}; GRANT SELECT ON {name} TO {user}");
            add("may not be read".to_owned(), Remedy::Sql(grant));
        }
        if follow && !get::<bool>(&row, 2)? {
            let owner: String = get(&row, 3)?;
            let mine = Remedy::Sql(format!("ALTER TABLE {name} OWNER TO {user}"));
            let remedy = match get::<Option<bool>>(&row, 5)? {
                // To be a member of a superuser is to be one.
                Some(true) => mine.or(format!("let {owner} publish it: {}", publish(client, inner, &name).await?)),
                _ => Remedy::Sql(format!("GRANT {} TO {user}", quote::ident(&owner))).or(mine),
            };
            add(format!("belongs to {owner}, and only its owner may publish it"), remedy);
        }
        if get::<bool>(&row, 4)? {
            let message = "has row-level security, which hides rows from the full load but not from the log";
            add(message.to_owned(), Remedy::Sql(format!("ALTER ROLE {user} BYPASSRLS")));
        }
    }
    Ok(found)
}

/// The statement by which a table's owner publishes it for the task.
async fn publish(client: &Client, inner: &Inner, table: &str) -> Result<String> {
    let name = quote::ident(&inner.name);
    let sql = "SELECT FROM pg_publication WHERE pubname = $1";
    Ok(match client.query_opt(sql, &[&inner.name]).await.map_err(sqlstate::error)? {
        Some(_) => format!("ALTER PUBLICATION {name} ADD TABLE ONLY {table}"),
        None => {
            format!("CREATE PUBLICATION {name} FOR TABLE ONLY {table}, ... WITH (publish_via_partition_root = true)")
        }
    })
}
