//! Tables before the first row: what is done with the ones that are there, and the same decisions without doing.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_postgres::Client;
use trem_engine::ports::{Ddl, DdlKind, Finding, Severity, TablePreview};
use trem_engine::record::{Origin, TableRecord, TableState, TaskRecord};
use trem_engine::schema::{Catalog, Column, Identity, TableId, TableSchema};
use trem_engine::task::OnExisting;
use trem_engine::{Remedy, Result};

use super::create::{create_keys, create_schema, create_table, too_long};
use super::fit::without_form;
use super::generated;
use super::inspect::Facts;
use super::part;
use super::shape::{Reads, TargetTable};
use super::wanted;
use crate::postgres::quote;
use crate::postgres::types::DIALECT;
use crate::target::findings::{forbid, joining, own_rows, refusal, taken};

/// What a run would do with one table.
pub(super) struct Decision {
    pub(super) exists: bool,
    /// The statement for a schema that is missing.
    pub(super) schema: Option<String>,
    /// Statements for the table before the load.
    pub(super) before: Vec<String>,
    /// Statements after the load.
    pub(super) after: Vec<String>,
    pub(super) findings: Vec<Finding>,
    /// How the table will have come to be.
    pub(super) origin: Origin,
}

/// Decides, and changes nothing. `known`: what the task remembers of the table, under whichever name.
pub(super) fn decide(
    facts: &Facts,
    record: &TableRecord,
    known: Option<&TableRecord>,
    on_existing: OnExisting,
) -> Decision {
    let table = record.target.as_ref();
    let load = record.state == TableState::Loading;
    // By other rules it was another table.
    let known = known.filter(|k| k.target.id == table.id);
    let have = facts.tables.get(&table.id);
    let shared = facts.shared.get(&table.id).filter(|_| have.is_some());
    let ours = shared.map_or_else(|| known.is_some_and(|k| k.origin.created), |origin| origin.created);
    // What a reload takes out are its own rows: there may be some of tables that the task has no more.
    let part = table.id.part.is_some();
    let reload = known.is_some_and(|k| k.state == TableState::Reload);
    // What a reload can empty keeps what others have made of it since: indexes, grants, columns.
    let replaceable = |h: &TargetTable| {
        h.other_kind.is_none()
            && if reload { ours && !part && !h.serves(table) } else { on_existing == OnExisting::Recreate }
    };
    let recreate = load && shared.is_none() && have.is_some_and(replaceable);
    let keyed = matches!(table.identity, Identity::Key | Identity::KeyWithFullImage);
    let keep = load && have.is_some() && on_existing == OnExisting::Keep;
    let kept = known.is_some_and(|k| k.origin.keeps_rows)
        && !matches!(on_existing, OnExisting::Truncate | OnExisting::Recreate);
    let keeps_rows = shared.map_or(keep && keyed && (kept || !reload), |origin| origin.keeps_rows);
    let origin = Origin { created: have.is_none() || recreate || ours, keeps_rows };
    let (before, after, findings) = (Vec::new(), Vec::new(), Vec::new());
    let mut d = Decision { exists: have.is_some(), schema: None, before, after, findings, origin };
    let name = quote::table(&table.id);
    let formless = without_form(table);
    d.findings.extend(facts.holders.get(&table.id).map(|other| taken(table, other)));
    d.findings.extend(too_long(table));
    d.findings.extend(privileges(facts, table, have, recreate));
    match have.filter(|_| !recreate) {
        None if !formless.is_empty() => d.findings.extend(formless),
        None => {
            if d.exists {
                d.findings.extend(undroppable(facts, table));
                d.before.push(format!("DROP TABLE {name}"));
            } else if !facts.schemas.contains_key(&table.id.schema) {
                d.schema = Some(create_schema(&table.id.schema));
            }
            d.findings.extend(generated::left_out(table));
            d.before.push(create_table(table));
            let keys = create_keys(table, None);
            if load { d.after = keys } else { d.before.extend(keys) }
        }
        Some(_) if shared.is_some() || (part && load && reload) => d.join_others(facts, table, ours, load && reload),
        Some(have) => {
            // The keys of a table whose load was cut off are still to be built.
            d.findings.extend(have.misfits(table, !(reload && ours)));
            d.findings.extend(have.unlogged.then(|| unlogged(table)));
            d.findings.extend(hazards(facts, table));
            d.findings.extend(facts.interference.get(&table.id).into_iter().flatten().cloned());
            let rows = facts.with_rows.contains(&table.id);
            if load && reload && kept && rows {
                d.findings.push(own_rows(table, &quote::table(&table.id)));
            } else if load && ((reload && !kept) || on_existing == OnExisting::Truncate) {
                d.before.push(facts.empty(&table.id));
            } else if load && !reload && on_existing != OnExisting::Keep && rows {
                d.findings.push(refusal(table, "rows are there already, and on-existing is refuse"));
            } else if keep && !keyed && rows {
                d.findings.push(refusal(table, "rows are there already, and without a key they cannot be kept apart"));
            }
        }
    }
    d
}

/// The same for a table that changes are only added to: what it has stays, whatever becomes of other tables.
pub(super) fn decide_history(facts: &mut Facts, history: &Arc<TableSchema>) -> Decision {
    let widen = facts.tables.get_mut(&history.id).map(|have| {
        let (statements, wide) = part::widened(have, history);
        *have = wide;
        statements
    });
    let mut decision = decide(facts, &TableRecord::new(history, history, TableState::Ready), None, OnExisting::Keep);
    decision.before.extend(widen.into_iter().flatten());
    decision
}

impl Decision {
    /// All statements, in order.
    fn ddl(&mut self) -> Vec<Ddl> {
        let of = |kind| move |sql| Ddl { kind, sql };
        let schema = self.schema.take().into_iter().map(of(DdlKind::Schema));
        let before = std::mem::take(&mut self.before).into_iter().map(of(DdlKind::BeforeLoad));
        schema.chain(before).chain(std::mem::take(&mut self.after).into_iter().map(of(DdlKind::AfterLoad))).collect()
    }

    /// Takes rows up beside those of other tables of the source. `again`: there are some already, which go first.
    fn join_others(&mut self, facts: &Facts, table: &TableSchema, ours: bool, again: bool) {
        let Some(have) = facts.tables.get(&table.id) else { return };
        let (widen, wide) = if ours { part::widened(have, table) } else { (Vec::new(), have.clone()) };
        self.before.extend(widen);
        // The first of them to be loaded builds the keys.
        self.findings.extend(wide.misfits(table, !ours));
        if again && self.origin.keeps_rows {
            self.findings.push(own_rows(table, &quote::table(&table.id)));
        } else if again {
            match quote::QUOTES.delete(&table.id) {
                Ok(sql) => self.before.push(sql),
                Err(error) => {
                    let remedy = error.advice().cloned().unwrap_or(Remedy::StartAnew);
                    self.findings.push(forbid(table, error.reason(), remedy));
                }
            }
        }
    }
}

/// What the role must be granted before it can take the table up.
fn privileges(facts: &Facts, table: &TableSchema, have: Option<&TargetTable>, recreate: bool) -> Vec<Finding> {
    let (schema, role) = (quote::ident(&table.id.schema), quote::ident(&facts.role));
    let mut found = Vec::new();
    match facts.schemas.get(&table.id.schema) {
        None if !facts.may_create_schemas => {
            let remedy = Remedy::Sql(format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"));
            found.push(forbid(table, "the role may not create the schema, which is missing".to_owned(), remedy));
        }
        None => {}
        Some(rights) => {
            let creates = have.is_none() || recreate;
            let missing: Vec<&str> = [("USAGE", !rights.usage), ("CREATE", creates && !rights.create)]
                .into_iter()
                .filter_map(|(name, missing)| missing.then_some(name))
                .collect();
            if !missing.is_empty() {
                let missing = missing.join(", ");
                let remedy = Remedy::Sql(format!("GRANT {missing} ON SCHEMA {schema} TO {role}"));
                found.push(forbid(table, format!("the role has no {missing} on schema {schema}"), remedy));
            }
        }
    }
    let Some(have) = have.filter(|h| h.other_kind.is_none() && !h.owned) else { return found };
    let remedy = Remedy::Sql(format!("ALTER TABLE {} OWNER TO {role}", quote::table(&table.id)));
    if recreate {
        let message = format!("it belongs to role {}, and only its owner can create it anew", have.owner);
        found.push(forbid(table, message, remedy));
    } else {
        let message = format!("it belongs to role {}: a column added at the source cannot be added here", have.owner);
        let subject = table.id.to_string();
        found.push(Finding { severity: Severity::Warning, subject, message, remedy: Some(remedy) });
    }
    found
}

/// Moved rows are taken out and put in again, which must not be taken for the end of them.
fn hazards(facts: &Facts, table: &TableSchema) -> Vec<Finding> {
    let here = facts.hazards.get(&table.id).into_iter().flatten();
    here.map(|h| {
        let message = format!("session_replication_role may not be set, and {}", h.what);
        forbid(table, message, h.remedy(&facts.role))
    })
    .collect()
}

/// What a crash takes is gone for the target and not for the record.
fn unlogged(table: &TableSchema) -> Finding {
    let message = "it is UNLOGGED: a crash of the target empties it, and trem would not notice".to_owned();
    let remedy = Remedy::Sql(format!("ALTER TABLE {} SET LOGGED", quote::table(&table.id)));
    Finding { severity: Severity::Warning, subject: table.id.to_string(), message, remedy: Some(remedy) }
}

/// What must be dropped by hand before the table can be.
fn undroppable(facts: &Facts, table: &TableSchema) -> Option<Finding> {
    let objects = facts.dependents.get(&table.id)?.join(", ");
    let remedy = "drop what depends on it, or set on-existing to truncate";
    Some(forbid(table, format!("it cannot be created anew: {objects} depend on it"), remedy))
}

/// What a run would do for these tables. `task` and `replica`: see [`Facts::read`].
pub(super) async fn plan(
    client: &Client,
    task: Option<&str>,
    replica: bool,
    catalog: &Catalog,
    (on_existing, load): (OnExisting, bool),
    known: &TaskRecord,
) -> Result<Vec<TablePreview>> {
    let ids: Vec<&TableId> = catalog.tables.iter().chain(&catalog.histories).map(|t| &t.id).collect();
    let mut facts = Facts::read(client, &Reads::default(), task, &ids, on_existing, replica).await?;
    let mut schemas: HashSet<String> = HashSet::new();
    let unknown = wanted::unknown(client, catalog).await?;
    let missing = wanted::missing(client, &catalog.types).await?;
    let mut types: Vec<Ddl> = missing.iter().flat_map(|m| m.ddl.clone()).collect();
    let mut made: Vec<(TableId, Vec<String>)> = Vec::new();
    let mut out: Vec<TablePreview> = Vec::with_capacity(ids.len());
    for table in &catalog.tables {
        if let Some(first) = out.iter().find(|p| p.table.id.same_table(&table.id)) {
            out.push(joining(first, table, too_long(table)));
            continue;
        }
        let known = known.of_target(&table.id);
        if known.is_some_and(|k| k.state != TableState::Reload) {
            // The task has met it: a run goes on with it as it is.
            let (table, exists) = (Arc::clone(table), facts.tables.contains_key(&table.id));
            out.push(TablePreview { table, exists, ddl: Vec::new(), findings: Vec::new() });
            continue;
        }
        let state = if load { TableState::Loading } else { TableState::Ready };
        let record = TableRecord::new(table, table, state);
        let mut decision = decide(&facts, &record, known, on_existing);
        let mut findings = std::mem::take(&mut decision.findings);
        let own = |c: &&Column| c.native.dialect == DIALECT && unknown.contains(&c.native.name);
        for column in table.columns.iter().filter(own) {
            let name = &column.native.name;
            findings.push(Finding {
                severity: Severity::Error,
                subject: format!("{}.{}", table.id, column.name),
                message: format!("the target has no type {name}"),
                remedy: Some(format!("create type {name}, or the extension it belongs to, on the target").into()),
            });
        }
        if !table.generated.is_empty() && !decision.exists {
            made.push((table.id.clone(), decision.schema.iter().chain(&decision.before).cloned().collect()));
        }
        let mut ddl = std::mem::take(&mut types);
        ddl.extend(decision.ddl());
        // A run creates a schema with the first table or type that needs it.
        ddl.retain(|d| d.kind != DdlKind::Schema || schemas.insert(d.sql.clone()));
        out.push(TablePreview { table: Arc::clone(table), exists: decision.exists, ddl, findings });
    }
    for history in &catalog.histories {
        let mut decision = decide_history(&mut facts, history);
        let mut ddl = decision.ddl();
        ddl.retain(|d| d.kind != DdlKind::Schema || schemas.insert(d.sql.clone()));
        let (table, exists) = (Arc::clone(history), decision.exists);
        out.push(TablePreview { table, exists, ddl, findings: decision.findings });
    }
    for (id, error) in wanted::tried(client, missing, &made).await? {
        if let Some(preview) = out.iter_mut().find(|p| p.table.id == id) {
            preview.findings.push(Finding {
                severity: Severity::Error,
                subject: id.to_string(),
                message: error.reason(),
                remedy: error.advice().cloned(),
            });
        }
    }
    Ok(out)
}
