//! What a set amounts to on the target: mapped table by table, reduced, with the changes of the record that go with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::change::{ChangeBatch, ChangeSet, ReducedSet, ReducedStep, Reducer, Step, TableCounts, Truncate};
use crate::error::{Error, Result};
use crate::ports::{Abilities, Applied, Rules};
use crate::record::{RecordChange, TableState};
use crate::remedy::Remedy;
use crate::route::{Emptied, Mapped, Route};
use crate::schema::{AddedColumns, SchemaChange, SchemaChangeKind, TableId, TableSchema};
use crate::side::Side;

use super::history;

/// The routes of the tables of one stream.
pub(super) struct Stage {
    rules: Arc<dyn Rules>,
    abilities: Abilities,
    routes: HashMap<TableId, Route>,
    sources: Arc<Sources>,
    /// Tables of which nothing is passed on any more.
    ended: HashSet<TableId>,
}

/// Target tables, as the source knows them.
#[derive(Clone, Default)]
pub(super) struct Sources {
    /// Names at the source of those that are called otherwise.
    names: HashMap<TableId, TableId>,
    /// Those whose changes may find the target otherwise than they say ([`Route::is_certain`]).
    uncertain: HashSet<TableId>,
    /// Histories beside tables, whose rows are told of with those.
    histories: HashMap<TableId, TableId>,
}

impl Sources {
    /// What an apply did, by the tables' names at the source.
    pub(super) fn of(&self, applied: Applied) -> Vec<(TableId, TableCounts)> {
        let named = |(id, mut counts): (TableId, TableCounts)| {
            if self.uncertain.contains(&id) {
                counts.conflicts = 0;
            }
            (self.names.get(&id).cloned().unwrap_or(id), counts)
        };
        applied.tables.into_iter().filter(|(id, _)| !self.histories.contains_key(id)).map(named).collect()
    }

    /// What goes wrong with a history is its table's matter.
    pub(super) fn blame(&self, error: Error) -> Error {
        match error.table_id().and_then(|id| self.histories.get(id)) {
            Some(table) if error.side() == Some(Side::Target) => error.instead(table),
            _ => error,
        }
    }
}

/// A set on its way to the target.
pub(super) struct Staged {
    pub(super) set: ReducedSet,
    pub(super) changes: Vec<RecordChange>,
    pub(super) news: Vec<News>,
    /// Changes that do not get to the target, by source table.
    pub(super) kept: Vec<(TableId, TableCounts)>,
    /// Values that did not fit and were put in as others, by source table and target column.
    pub(super) misfits: Vec<(TableId, String, u64)>,
    pub(super) sources: Arc<Sources>,
}

/// What is to be told of a table once the set has taken effect.
#[derive(Debug)]
pub(super) enum News {
    Suspended { table: TableId, reason: String, remedy: Remedy },
    Reload { table: TableId, reason: String },
}

/// What takes effect only with the end of a transaction that is passed on in parts.
#[derive(Default)]
pub(super) struct Held {
    changes: Vec<RecordChange>,
    news: Vec<News>,
}

impl Held {
    /// What a part brings; whatever has been held comes out with the last one.
    pub(super) fn with(
        &mut self,
        open: bool,
        changes: Vec<RecordChange>,
        news: Vec<News>,
    ) -> (Vec<RecordChange>, Vec<News>) {
        self.changes.extend(changes);
        self.news.extend(news);
        if open {
            return Default::default();
        }
        let Self { changes, news } = std::mem::take(self);
        (changes, news)
    }
}

impl Stage {
    pub(super) fn new(rules: Arc<dyn Rules>, abilities: Abilities) -> Self {
        let (routes, sources, ended) = Default::default();
        Self { rules, abilities, routes, sources, ended }
    }

    /// A table is delivered again.
    pub(super) fn resume(&mut self, table: &TableId) {
        self.ended.remove(table);
    }

    fn route(&mut self, table: &Arc<TableSchema>) -> Result<Route> {
        let same = |route: &&Route| Arc::ptr_eq(route.source(), table) || route.source() == table;
        if let Some(route) = self.routes.get(&table.id).filter(same) {
            return Ok(route.clone());
        }
        let route = self.rules.route(table)?;
        if route.target().id != table.id {
            Arc::make_mut(&mut self.sources).names.insert(route.target().id.clone(), table.id.clone());
        }
        if !route.is_certain() {
            Arc::make_mut(&mut self.sources).uncertain.insert(route.target().id.clone());
        }
        if let Some(history) = route.history() {
            let histories = &mut Arc::make_mut(&mut self.sources).histories;
            histories.insert(history.target().id.clone(), table.id.clone());
        }
        self.routes.insert(table.id.clone(), route.clone());
        Ok(route)
    }

    /// The rows that have to be made whole before [`Stage::reduce`].
    pub(super) fn incomplete(&mut self, batch: &ChangeBatch) -> Result<Vec<usize>> {
        // Without anything unknown, or of a table that is passed on no more, there is nothing to ask.
        if batch.mask_of.is_empty() || self.ended.contains(&batch.table.id) {
            return Ok(Vec::new());
        }
        self.route(&batch.table)?.incomplete(batch)
    }

    /// What the set amounts to.
    pub(super) fn reduce(&mut self, set: ChangeSet) -> Result<Staged> {
        if set.span.open && !self.abilities.open_sets {
            let what = "a transaction of the source does not fit the limits, and the target takes whole ones only";
            return Err(Error::refused(what).remedy("raise batch.max-rows and batch.max-bytes above its size"));
        }
        let mut reducer = Reducer::new(self.abilities.reduction);
        let mut out = Outcome::default();
        for step in set.steps {
            match step {
                Step::Rows(batch) if self.ended.contains(&batch.table.id) => {}
                Step::Rows(batch) => {
                    let route = self.route(&batch.table)?;
                    if let Some(history) = route.history() {
                        reducer.rows(history.map(batch.clone())?.rows);
                    }
                    let mapped = route.map(batch)?;
                    out.mapped(&route, &mapped);
                    reducer.rows(mapped.rows);
                }
                Step::Truncate(truncate) => self.truncate(truncate, &mut reducer, &mut out)?,
                Step::Schema(change) => self.change(change, &mut reducer, &mut out)?,
            }
        }
        let Outcome { changes, news, kept, misfits } = out;
        Ok(Staged { set: reducer.finish(set.span)?, changes, news, kept, misfits, sources: Arc::clone(&self.sources) })
    }

    fn truncate(&mut self, truncate: Truncate, reducer: &mut Reducer, out: &mut Outcome) -> Result<()> {
        let mut tables = Vec::new();
        for table in &truncate.tables {
            if self.ended.contains(&table.id) {
                continue;
            }
            let route = self.route(table)?;
            out.kept.push((table.id.clone(), TableCounts { truncates: 1, ..TableCounts::default() }));
            if let Some(Emptied::Told(rows)) = route.history().map(|h| h.emptied(&truncate)).transpose()? {
                reducer.rows(rows);
            }
            let emptied = route.emptied(&truncate)?;
            if route.target().id.is_mixed() && !matches!(emptied, Emptied::Told(_)) {
                self.ended.insert(table.id.clone());
                out.mixed(&table.id, &route.target().id);
                continue;
            }
            match emptied {
                Emptied::Empty => tables.push(Arc::clone(route.target())),
                Emptied::Marked(mark) => reducer.step(ReducedStep::Mark(mark))?,
                Emptied::Told(rows) => reducer.rows(rows),
            }
        }
        if tables.is_empty() {
            return Ok(());
        }
        if self.abilities.truncate {
            return reducer.step(ReducedStep::Truncate(Truncate { tables, ..truncate }));
        }
        for table in &truncate.tables {
            let remedy = Remedy::from("empty the table on the target").then_reload(&table.id);
            self.ended.insert(table.id.clone());
            out.suspend(&table.id, "it was emptied at the source, which this target cannot follow".to_owned(), remedy);
        }
        Ok(())
    }

    fn change(&mut self, change: SchemaChange, reducer: &mut Reducer, out: &mut Outcome) -> Result<()> {
        let id = change.table.id.clone();
        match change.kind {
            SchemaChangeKind::AddColumns { next, existing } => {
                let before = self.route(&change.table)?;
                match self.route(&next) {
                    Ok(route) if self.abilities.add_columns => {
                        let Some(existing) = route.added(&before, &existing) else {
                            self.ended.insert(id.clone());
                            out.reload(&id, "a column was added whose values a rule computes".to_owned());
                            return Ok(());
                        };
                        if let Some(added) = history::widened(&before, &route) {
                            reducer.step(ReducedStep::AddColumns(added))?;
                        }
                        let (before, next_target) = (Arc::clone(before.target()), Arc::clone(route.target()));
                        out.kept.push((id.clone(), TableCounts { ddl: 1, ..TableCounts::default() }));
                        out.changes.push(RecordChange::Shape { source: next, target: Arc::clone(&next_target) });
                        if existing.num_columns() == 0 {
                            return Ok(());
                        }
                        let added = AddedColumns { before, next: next_target, existing };
                        return reducer.step(ReducedStep::AddColumns(added));
                    }
                    Ok(_) => {
                        let remedy = Remedy::from("add the columns on the target").then_reload(&id);
                        self.ended.insert(id.clone());
                        out.suspend(&id, "columns were added, which this target cannot follow".to_owned(), remedy);
                    }
                    Err(error) => {
                        let remedy = error.way_back(&id);
                        self.ended.insert(id.clone());
                        out.suspend(&id, format!("columns were added: {}", error.reason()), remedy);
                    }
                }
            }
            SchemaChangeKind::Noted { next } => out.changes.push(RecordChange::Source(next)),
            SchemaChangeKind::Reload { reason } => {
                if self.route(&change.table)?.keeps_past() {
                    let remedy = Remedy::from("what the target alone knows of the past goes with it: keep a copy");
                    self.ended.insert(id.clone());
                    out.suspend(&id, reason, remedy.then_reload(&id));
                } else {
                    out.reload(&id, reason);
                }
            }
            SchemaChangeKind::Suspend { reason, remedy } => out.suspend(&id, reason, remedy),
        }
        Ok(())
    }
}

#[derive(Default)]
struct Outcome {
    changes: Vec<RecordChange>,
    news: Vec<News>,
    kept: Vec<(TableId, TableCounts)>,
    misfits: Vec<(TableId, String, u64)>,
}

impl Outcome {
    /// What did not get to the target as it was.
    fn mapped(&mut self, route: &Route, mapped: &Mapped) {
        let id = &route.source().id;
        if mapped.counts != TableCounts::default() {
            self.kept.push((id.clone(), mapped.counts));
        }
        if let Some(first) = mapped.quarantined.first() {
            tell_set_aside(id, mapped.quarantined.len(), &first.error);
            self.changes.push(RecordChange::Quarantine(mapped.quarantined.clone()));
        }
        self.misfits.extend(mapped.misfits.iter().map(|(column, count)| (id.clone(), column.clone(), *count)));
    }

    fn mixed(&mut self, table: &TableId, target: &TableId) {
        let reason =
            format!("it was emptied at the source, and its rows in {target} cannot be told from those of others");
        let remedy = "make a column of source_schema() or source_table() with create-column, and start anew";
        self.suspend(table, reason, remedy.into());
    }

    fn reload(&mut self, table: &TableId, reason: String) {
        let (state, remedy) = (TableState::Reload, None);
        let change = RecordChange::State { table: table.clone(), state, reason: Some(reason.clone()), remedy };
        self.changes.push(change);
        self.news.push(News::Reload { table: table.clone(), reason });
    }

    fn suspend(&mut self, table: &TableId, reason: String, remedy: Remedy) {
        self.changes.push(RecordChange::suspend(table, &reason, &remedy));
        self.news.push(News::Suspended { table: table.clone(), reason, remedy });
    }
}

/// Rows that a rule could not be applied to are in the target's quarantine.
pub(super) fn tell_set_aside(table: &TableId, count: usize, error: &str) {
    tracing::warn!(%table, count, "changes set aside, as a rule cannot be applied to them: {error}");
}
