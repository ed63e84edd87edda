//! Small changes of many tables: the target has the next statements before it has answered the last ones.

use std::collections::{HashMap, VecDeque};

use trem_engine::change::TableCounts;
use trem_engine::schema::TableId;
use trem_engine::{Error, Result};

use super::failure::{Failure, Tried};
use super::keyed::small::{Short, Small};
use super::session::{Call, Pending, Prepared, Session};
use crate::postgres::sqlstate::error as pg;

/// Changes that took effect, by table.
pub(super) type Counts = HashMap<TableId, TableCounts>;

/// So many statements go out at a time.
const TOGETHER: usize = 64;

/// Changes whose statements go out together.
#[derive(Default)]
struct Group {
    tables: Vec<Small>,
    calls: Vec<Call>,
}

/// A group whose statements are at the target.
struct Running {
    tables: Vec<Small>,
    /// It begins with a savepoint, so that a row that is there already undoes the group and nothing else.
    guarded: bool,
    answers: Pending<Tried<u64>>,
}

/// Groups on their way: while one runs, new statements of the next are prepared, and a third is gathered.
#[derive(Default)]
pub(super) struct Pipelined {
    gathered: Group,
    preparing: VecDeque<(Group, Pending<Prepared>)>,
    running: Option<Running>,
    /// Updates that met fewer rows than they should. What they want waits until nothing is on its way: it would fail
    /// with a group that fails.
    short: Vec<Short>,
}

impl Pipelined {
    /// Takes the calls of a table in, and sends what has been gathered if that is much.
    pub(super) async fn add(
        &mut self,
        session: &mut Session,
        small: Small,
        calls: Vec<Call>,
        applied: &mut Counts,
    ) -> Result<()> {
        self.gathered.calls.extend(calls);
        self.gathered.tables.push(small);
        if self.gathered.calls.len() >= TOGETHER {
            self.prepare(session);
            while self.preparing.len() > 1 {
                self.advance(session, applied).await?;
            }
        }
        Ok(())
    }

    /// Waits until all has taken effect.
    pub(super) async fn finish(&mut self, session: &mut Session, applied: &mut Counts) -> Result<()> {
        if !self.gathered.tables.is_empty() {
            self.prepare(session);
        }
        while !self.preparing.is_empty() || self.running.is_some() {
            self.advance(session, applied).await?;
        }
        for short in std::mem::take(&mut self.short) {
            let id = short.table().clone();
            applied.entry(id).or_default().add(&short.settle(session).await?);
        }
        Ok(())
    }

    fn prepare(&mut self, session: &mut Session) {
        let mut group = std::mem::take(&mut self.gathered);
        if group.tables.iter().any(Small::inserts) {
            group.calls.insert(0, Call::plain("SAVEPOINT trem"));
            group.calls.push(Call::plain("RELEASE SAVEPOINT trem"));
        }
        let preparing = session.prepare_all(&group.calls);
        self.preparing.push_back((group, preparing));
    }

    /// Sends the group whose statements have been prepared, then takes in what the one before it has got.
    async fn advance(&mut self, session: &mut Session, applied: &mut Counts) -> Result<()> {
        let before = self.running.take();
        if let Some((Group { tables, calls }, preparing)) = self.preparing.pop_front() {
            let guarded = tables.iter().any(Small::inserts);
            // What was asked for fails before what runs: it came first.
            let answers = match session.call_prepared(preparing, calls).await {
                Ok(answers) => answers,
                Err((call, failure)) => return Err(whose(&tables, guarded, call, failure)),
            };
            self.running = Some(Running { tables, guarded, answers });
        }
        match before {
            Some(running) => self.land(running, session, applied).await,
            None => Ok(()),
        }
    }

    async fn land(&mut self, running: Running, session: &mut Session, applied: &mut Counts) -> Result<()> {
        let Running { tables, guarded, answers } = running;
        let answers: std::result::Result<Vec<u64>, (usize, Failure)> =
            answers.all().await.into_iter().enumerate().map(|(n, answer)| answer.map_err(|e| (n, e))).collect();
        let answers = match answers {
            Ok(answers) => answers,
            Err((_, Failure::Unique(e))) if guarded => {
                tracing::debug!(error = %e, "tables are written one by one");
                return self.one_by_one(tables, session, applied).await;
            }
            Err((call, failure)) => return Err(whose(&tables, guarded, call, failure)),
        };
        let mut answers = answers.into_iter().skip(usize::from(guarded));
        for small in tables {
            let own: Vec<u64> = answers.by_ref().take(small.calls()).collect();
            let id = small.table().clone();
            match small.answered(&own) {
                Ok(counts) => applied.entry(id).or_default().add(&counts),
                Err(short) => self.short.push(*short),
            }
        }
        Ok(())
    }

    /// The way that takes longer, where a row that was to be put in is there already: for the group that met it, and
    /// for those behind it, which have failed with it.
    async fn one_by_one(&mut self, tables: Vec<Small>, session: &mut Session, applied: &mut Counts) -> Result<()> {
        let running = self.running.take().map(|r| r.tables);
        let preparing = self.preparing.drain(..).map(|(group, _)| group.tables);
        let behind: Vec<Small> = running.into_iter().chain(preparing).flatten().collect();
        session.client.batch_execute("ROLLBACK TO SAVEPOINT trem").await.map_err(pg)?;
        for small in tables.into_iter().chain(behind) {
            let id = small.table().clone();
            applied.entry(id).or_default().add(&small.alone(session).await?);
        }
        session.client.batch_execute("RELEASE SAVEPOINT trem").await.map_err(pg)
    }
}

/// The error of a call, with the table that it was for.
fn whose(tables: &[Small], guarded: bool, call: usize, failure: Failure) -> Error {
    let mut before = usize::from(guarded);
    let failed = tables.iter().find(|small| {
        before += small.calls();
        call < before
    });
    match failed {
        Some(small) => small.failed(failure),
        None => failure.into(),
    }
}
