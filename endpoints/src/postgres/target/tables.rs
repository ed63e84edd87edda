//! Changes of a set, applied table by table; what is small goes out together.

use std::collections::HashMap;
use std::sync::Arc;

use trem_engine::change::{Effect, NetChanges, TableChanges, TableCounts};
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::{Error, Result};

use super::failure::Failure;
use super::keyed::small::{Plan, Small};
use super::session::{Call, Session};
use super::writer::Writer;
use super::{keyed, keyless};
use crate::postgres::sqlstate::error as pg;

/// So many statements go out before their answers are looked at.
const TOGETHER: usize = 64;

/// Changes that took effect, by table.
pub(super) type Counts = HashMap<TableId, TableCounts>;

/// The tables as the target has them.
#[derive(Default)]
pub(super) struct Writers {
    known: HashMap<TableId, Arc<Writer>>,
    opened: usize,
}

impl Writers {
    /// A table is not what it was.
    pub(super) fn forget(&mut self, id: &TableId) {
        self.known.remove(id);
    }

    /// No table is what it was.
    pub(super) fn forget_all(&mut self) {
        self.known.clear();
    }

    /// Looks at those of the tables that are not known as they are now.
    async fn look_at(&mut self, session: &Session, tables: impl Iterator<Item = &Arc<TableSchema>>) -> Result<()> {
        let known = |table: &Arc<TableSchema>| self.known.get(&table.id).is_some_and(|w| w.schema == *table);
        let new: Vec<Arc<TableSchema>> = tables.filter(|t| !known(t)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        session.plan_freely(true).await?;
        let writers = Writer::open_all(session, &new, self.opened + 1).await?;
        session.plan_freely(false).await?;
        self.opened += writers.len();
        self.known.extend(writers.into_iter().map(|w| (w.schema.id.clone(), Arc::new(w))));
        Ok(())
    }

    fn of(&self, id: &TableId) -> Result<Arc<Writer>> {
        let unknown = || Error::fatal("internal: the table has not been looked at").table(id);
        self.known.get(id).map(Arc::clone).ok_or_else(unknown)
    }
}

/// Applies changes of tables inside the open transaction.
pub(super) async fn apply(
    tables: Vec<TableChanges>,
    session: &mut Session,
    writers: &mut Writers,
    applied: &mut Counts,
) -> Result<()> {
    writers.look_at(session, tables.iter().map(|t| &t.table)).await?;
    let mut together = Together::default();
    for TableChanges { table, effect } in tables {
        let writer = writers.of(&table.id)?;
        match effect {
            Effect::Net(net) => {
                together.keyed(session, &writer, net, applied).await.map_err(|e| e.table(&table.id))?;
            }
            Effect::Log(batches) => {
                together.send(session, applied).await?;
                let counts = keyless::apply(session, &writer, &batches).await.map_err(|e| e.table(&table.id))?;
                applied.entry(table.id.clone()).or_default().add(&counts);
            }
        }
    }
    together.send(session, applied).await
}

/// Small changes that wait to be sent together.
#[derive(Default)]
struct Together {
    tables: Vec<Small>,
    calls: Vec<Call>,
}

impl Together {
    async fn keyed(
        &mut self,
        session: &mut Session,
        writer: &Arc<Writer>,
        net: NetChanges,
        applied: &mut Counts,
    ) -> Result<()> {
        match Plan::of(session, writer, &net)? {
            Some(plan) => {
                self.calls.extend(plan.calls);
                self.tables.push(Small::new(writer, net, plan.steps));
                if self.calls.len() >= TOGETHER { self.send(session, applied).await } else { Ok(()) }
            }
            None => {
                self.send(session, applied).await?;
                let counts = keyed::apply(session, writer, &net).await?;
                applied.entry(writer.schema.id.clone()).or_default().add(&counts);
                Ok(())
            }
        }
    }

    async fn send(&mut self, session: &mut Session, applied: &mut Counts) -> Result<()> {
        let (tables, mut calls) = (std::mem::take(&mut self.tables), std::mem::take(&mut self.calls));
        let guarded = tables.iter().any(Small::inserts);
        if guarded {
            calls.insert(0, Call::plain("SAVEPOINT trem"));
            calls.push(Call::plain("RELEASE SAVEPOINT trem"));
        }
        let answers = match session.call_all(&calls).await {
            Ok(answers) => answers,
            Err((_, Failure::Unique(e))) if guarded => {
                tracing::debug!(error = %e, "tables are written one by one");
                session.client.batch_execute("ROLLBACK TO SAVEPOINT trem").await.map_err(pg)?;
                Self::one_by_one(tables, session, applied).await?;
                return session.client.batch_execute("RELEASE SAVEPOINT trem").await.map_err(pg);
            }
            Err((call, failure)) => return Err(whose(&tables, call.saturating_sub(usize::from(guarded)), failure)),
        };
        let mut answers = answers.into_iter().skip(usize::from(guarded));
        for small in tables {
            let own: Vec<u64> = answers.by_ref().take(small.calls()).collect();
            let id = small.table().clone();
            let counts = small.settle(session, &own).await?;
            applied.entry(id).or_default().add(&counts);
        }
        Ok(())
    }

    /// The way that takes longer, where a row that was to be put in is there already.
    async fn one_by_one(tables: Vec<Small>, session: &mut Session, applied: &mut Counts) -> Result<()> {
        for small in tables {
            let id = small.table().clone();
            let counts = small.alone(session).await?;
            applied.entry(id).or_default().add(&counts);
        }
        Ok(())
    }
}

/// The error of a call, with the table that it was for.
fn whose(tables: &[Small], call: usize, failure: Failure) -> Error {
    let mut before = 0;
    let failed = tables.iter().find(|small| {
        before += small.calls();
        call < before
    });
    match failed {
        Some(small) => small.failed(failure),
        None => failure.into(),
    }
}
