//! Tables before the first row: what is done with the ones that are there, and the same decisions without doing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use trem_engine::ports::{Ddl, DdlKind, Finding, Severity, TablePreview};
use trem_engine::record::{Origin, TableRecord, TableState, TaskRecord};
use trem_engine::schema::{Catalog, Column, Identity, TableId, TableSchema};
use trem_engine::task::OnExisting;
use trem_engine::{Remedy, Result};

use super::create::{Maker, too_long};
use super::have::{self, HaveTable};
use super::session::Session;
use super::{bookkeeping, part};
use crate::mysql::quote;
use crate::target::findings::{forbid, joining, own_rows, refusal, taken};

/// What is to be known of tables before something is decided.
pub(super) struct Facts {
    maker: Maker,
    pub(super) tables: HashMap<TableId, HaveTable>,
    databases: HashSet<String>,
    /// Tables that other tasks write.
    holders: HashMap<TableId, String>,
    /// How tables have come to be that other tables of this task become too.
    shared: HashMap<TableId, Origin>,
    with_rows: HashSet<TableId>,
}

impl Facts {
    /// Looks at these tables. `task`: whose; `None` if nothing has been written down yet.
    pub(super) async fn read(session: &mut Session, task: &str, ids: &[&TableId]) -> Result<Self> {
        let tables = have::read(session, ids).await?;
        let rows = session.rows("SELECT schema_name FROM information_schema.schemata", Vec::new()).await?;
        let databases = rows.iter().map(|row| crate::mysql::row::get(row, 0)).collect::<Result<_>>()?;
        let holders = bookkeeping::holders(session, task, ids).await?;
        let (mut shared, mut with_rows) = (HashMap::new(), HashSet::new());
        for id in ids {
            if let Some(origin) = bookkeeping::others(session, task, id).await? {
                shared.insert((*id).clone(), origin);
            }
            if tables.get(id).is_some_and(|have| have.kind == "BASE TABLE") {
                let sql = format!("SELECT 1 FROM {} LIMIT 1", quote::table(id));
                if !session.rows(&sql, Vec::new()).await?.is_empty() {
                    with_rows.insert((*id).clone());
                }
            }
        }
        Ok(Self { maker: Maker::of(session), tables, databases, holders, shared, with_rows })
    }
}

/// What a run would do with one table.
pub(super) struct Decision {
    pub(super) exists: bool,
    /// The statement for a database that is missing.
    pub(super) database: Option<String>,
    /// Statements for the table before the load.
    pub(super) before: Vec<String>,
    pub(super) findings: Vec<Finding>,
    /// How the table will have come to be.
    pub(super) origin: Origin,
    /// The table is made by this.
    pub(super) makes: bool,
}

/// Decides, and changes nothing. `known`: what the task remembers of the table, under whichever name.
pub(super) fn decide(
    facts: &Facts,
    record: &TableRecord,
    known: Option<&TableRecord>,
    on_existing: OnExisting,
) -> Decision {
    let (table, maker) = (record.target.as_ref(), &facts.maker);
    let load = record.state == TableState::Loading;
    // By other rules it was another table.
    let known = known.filter(|k| k.target.id == table.id);
    let have = facts.tables.get(&table.id);
    let shared = facts.shared.get(&table.id).filter(|_| have.is_some());
    let ours = shared.map_or_else(|| known.is_some_and(|k| k.origin.created), |origin| origin.created);
    // What a reload takes out are its own rows: there may be some of tables that the task has no more.
    let is_part = table.id.part.is_some();
    // What was being made when its process ended is trem's own.
    let half_made = known.is_some_and(|k| k.state == TableState::Preparing && k.origin.created);
    let reload = known.is_some_and(|k| matches!(k.state, TableState::Reload | TableState::Preparing));
    // What a reload can empty keeps what others have made of it since: indexes, grants, columns.
    let replaceable = |h: &HaveTable| {
        h.kind == "BASE TABLE"
            && if half_made {
                !is_part
            } else if reload {
                ours && !is_part && !h.serves(table, maker)
            } else {
                on_existing == OnExisting::Recreate
            }
    };
    let recreate = (load || half_made) && shared.is_none() && have.is_some_and(replaceable);
    let keyed = matches!(table.identity, Identity::Key | Identity::KeyWithFullImage);
    let keep = load && have.is_some() && on_existing == OnExisting::Keep && !half_made;
    let kept = known.is_some_and(|k| k.origin.keeps_rows)
        && !matches!(on_existing, OnExisting::Truncate | OnExisting::Recreate);
    let keeps_rows = shared.map_or(keep && keyed && (kept || !reload), |origin| origin.keeps_rows);
    let makes = have.is_none() || recreate;
    let origin = Origin { created: makes || ours, keeps_rows };
    let (before, findings) = (Vec::new(), Vec::new());
    let mut d = Decision { exists: have.is_some(), database: None, before, findings, origin, makes };
    d.findings.extend(facts.holders.get(&table.id).map(|other| taken(table, other)));
    d.findings.extend(too_long(table));
    match have.filter(|_| !recreate) {
        None => {
            d.findings.extend(maker.without_form(table));
            d.findings.extend(cut_keys(table, maker));
            if d.exists {
                d.before.push(format!("DROP TABLE {}", quote::table(&table.id)));
            } else if !facts.databases.contains(&table.id.schema) {
                d.database = Some(format!("CREATE DATABASE {}", quote::ident(&table.id.schema)));
            }
            d.before.push(maker.create_table(table));
        }
        Some(have) if shared.is_some() => {
            let again = load && known.is_some() && facts.with_rows.contains(&table.id);
            d.join_others(have, table, maker, ours, again);
        }
        Some(have) => {
            d.findings.extend(have.misfits(table, maker, true));
            let rows = facts.with_rows.contains(&table.id);
            d.meet(table, rows, &Meeting { load, reload, kept, keyed, on_existing });
        }
    }
    d
}

/// The same for a table that changes are only added to: what it has stays, whatever becomes of other tables.
pub(super) fn decide_history(facts: &mut Facts, history: &Arc<TableSchema>) -> Decision {
    let widen = facts.tables.get(&history.id).map(|have| part::widened(have, history, &facts.maker));
    let widen = widen.map(|(statements, wide)| {
        facts.tables.insert(history.id.clone(), wide);
        statements
    });
    let mut decision = decide(facts, &TableRecord::new(history, history, TableState::Ready), None, OnExisting::Keep);
    decision.before.extend(widen.into_iter().flatten());
    decision
}

/// How a table is met that is there and stays.
struct Meeting {
    load: bool,
    /// It is loaded again.
    reload: bool,
    /// The rows that it had when the task met it first are still there.
    kept: bool,
    keyed: bool,
    on_existing: OnExisting,
}

impl Decision {
    /// What is done with the rows of a table that stays.
    fn meet(&mut self, table: &TableSchema, rows: bool, how: &Meeting) {
        let keep = how.on_existing == OnExisting::Keep;
        if !how.load {
            return;
        }
        if how.reload && how.kept && rows {
            self.findings.push(own_rows(table, &quote::table(&table.id)));
        } else if (how.reload && !how.kept) || how.on_existing == OnExisting::Truncate {
            self.empty(table, table.id.part.is_some());
        } else if rows && !how.reload && !keep {
            self.findings.push(refusal(table, "rows are there already, and on-existing is refuse"));
        } else if rows && keep && !how.keyed {
            self.findings.push(refusal(table, "rows are there already, and without a key they cannot be kept apart"));
        }
    }

    /// All statements, in order.
    fn ddl(&mut self) -> Vec<Ddl> {
        let of = |kind| move |sql| Ddl { kind, sql };
        let database = self.database.take().into_iter().map(of(DdlKind::Schema));
        database.chain(std::mem::take(&mut self.before).into_iter().map(of(DdlKind::BeforeLoad))).collect()
    }

    fn empty(&mut self, table: &TableSchema, is_part: bool) {
        if !is_part {
            return self.before.push(format!("TRUNCATE TABLE {}", quote::table(&table.id)));
        }
        match quote::QUOTES.delete(&table.id) {
            Ok(sql) => self.before.push(sql),
            Err(error) => {
                let remedy = error.advice().cloned().unwrap_or(Remedy::StartAnew);
                self.findings.push(forbid(table, error.reason(), remedy));
            }
        }
    }

    /// Takes rows up beside those of other tables of the source. `again`: there are some already, which go first.
    fn join_others(&mut self, have: &HaveTable, table: &TableSchema, maker: &Maker, ours: bool, again: bool) {
        let (widen, wide) = if ours { part::widened(have, table, maker) } else { (Vec::new(), have.clone()) };
        self.before.extend(widen);
        self.findings.extend(wide.misfits(table, maker, true));
        if again && self.origin.keeps_rows {
            self.findings.push(own_rows(table, &quote::table(&table.id)));
        } else if again {
            self.empty(table, true);
        }
    }
}

/// Keys of texts without a length get one here.
fn cut_keys(table: &TableSchema, maker: &Maker) -> Vec<Finding> {
    let unlimited = |column: &&Column| {
        use trem_engine::schema::{Length, Type};
        matches!(column.ty, Type::Text(Length::Unlimited) | Type::Binary(Length::Unlimited))
            && maker.type_of(table, column).starts_with("var")
    };
    let finding = |column: &Column| Finding {
        severity: Severity::Warning,
        subject: format!("{}.{}", table.id, column.name),
        message: format!(
            "in a key it has a length on the target, {}: a longer value suspends the table",
            maker.type_of(table, column)
        ),
        remedy: None,
    };
    let mut keyed: Vec<usize> = table.key.iter().chain(&table.primary_key).copied().collect();
    keyed.sort_unstable();
    keyed.dedup();
    keyed.iter().map(|at| &table.columns[*at]).filter(unlimited).map(finding).collect()
}

/// What a run would do for these tables.
pub(super) async fn plan(
    session: &mut Session,
    task: &str,
    catalog: &Catalog,
    (on_existing, load): (OnExisting, bool),
    known: &TaskRecord,
) -> Result<Vec<TablePreview>> {
    let ids: Vec<&TableId> = catalog.tables.iter().chain(&catalog.histories).map(|t| &t.id).collect();
    let mut facts = Facts::read(session, task, &ids).await?;
    let mut databases: HashSet<String> = HashSet::new();
    let mut out: Vec<TablePreview> = Vec::with_capacity(ids.len());
    // A run creates a database with the first table that needs it.
    let mut once = |mut ddl: Vec<Ddl>| {
        ddl.retain(|d| d.kind != DdlKind::Schema || databases.insert(d.sql.clone()));
        ddl
    };
    for table in &catalog.tables {
        if let Some(first) = out.iter().find(|p| p.table.id.same_table(&table.id)) {
            out.push(joining(first, table, too_long(table)));
            continue;
        }
        let known = known.of_target(&table.id);
        if known.is_some_and(|k| !matches!(k.state, TableState::Reload | TableState::Preparing)) {
            // The task has met it: a run goes on with it as it is.
            let (table, exists) = (Arc::clone(table), facts.tables.contains_key(&table.id));
            out.push(TablePreview { table, exists, ddl: Vec::new(), findings: Vec::new() });
            continue;
        }
        let state = if load { TableState::Loading } else { TableState::Ready };
        let mut decision = decide(&facts, &TableRecord::new(table, table, state), known, on_existing);
        let (table, exists, ddl) = (Arc::clone(table), decision.exists, once(decision.ddl()));
        out.push(TablePreview { table, exists, ddl, findings: decision.findings });
    }
    for history in &catalog.histories {
        let mut decision = decide_history(&mut facts, history);
        let (table, exists, ddl) = (Arc::clone(history), decision.exists, once(decision.ddl()));
        out.push(TablePreview { table, exists, ddl, findings: decision.findings });
    }
    Ok(out)
}
