//! Changes of a set, applied table by table.

use std::collections::HashMap;
use std::sync::Arc;

use trem_engine::change::{Effect, TableChanges};
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::{Error, Result};

use super::keyed::small::{Plan, Small};
use super::pipelined::{Counts, Pipelined};
use super::session::Session;
use super::writer::Writer;
use super::{keyed, keyless};

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
    let mut pipelined = Pipelined::default();
    for TableChanges { table, effect } in tables {
        let writer = writers.of(&table.id)?;
        let counts = match effect {
            Effect::Net(net) => match Plan::of(session, &writer, &net).map_err(|e| e.target_table(&table.id))? {
                Some(plan) => {
                    pipelined.add(session, Small::new(&writer, net, plan.steps), plan.calls, applied).await?;
                    continue;
                }
                None => {
                    pipelined.finish(session, applied).await?;
                    keyed::apply(session, &writer, &net).await
                }
            },
            Effect::Log(batches) => {
                pipelined.finish(session, applied).await?;
                keyless::apply(session, &writer, &batches).await
            }
        };
        applied.entry(table.id.clone()).or_default().add(&counts.map_err(|e| e.target_table(&table.id))?);
    }
    pipelined.finish(session, applied).await
}
