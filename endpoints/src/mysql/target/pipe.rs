//! Changes of many tables on their way into one transaction, and what has become of them.

use std::collections::{HashMap, HashSet};

use trem_engine::change::TableCounts;
use trem_engine::schema::TableId;
use trem_engine::{Class, Error, Remedy, Result};

use super::session::Session;
use super::statements::{Done, Pending, Purpose};

/// What tables' changes have come to.
pub(super) type Counts = HashMap<TableId, TableCounts>;

/// What a statement is for, which says what it must have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Rows are taken away: those that are not there are conflicts.
    Delete,
    /// Rows that are in the way: each is a conflict.
    Clear,
    /// Rows are put in: those that are there already are conflicts.
    Put,
    /// Rows are set to whole images: those that were not there are conflicts.
    Set,
    /// Columns of rows are set: they have to be there.
    Change,
    /// What only the target knows of rows is put aside: the rows have to be there.
    Keep,
    /// The same, but the rows' own images are whole: those that are not there are conflicts.
    KeepIfThere,
    /// It does what it does.
    Quiet,
}

/// Statements of the open transaction, in their order.
pub(super) struct Pipe<'a> {
    pub(super) session: &'a mut Session,
    pending: Pending<What>,
    pub(super) counts: Counts,
    pub(super) kept: &'a mut Kept,
}

/// What a session has put aside of rows that are taken out and put in again.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Number of the last row.
    pub(super) last: u64,
    /// Writers whose table for it is there.
    made: HashSet<usize>,
}

impl Kept {
    /// Whether a writer's table has still to be made, which is done then.
    pub(super) fn is_new(&mut self, writer: usize) -> bool {
        self.made.insert(writer)
    }
}

impl<'a> Pipe<'a> {
    /// Nothing has been sent yet.
    pub(super) fn new(session: &'a mut Session, kept: &'a mut Kept) -> Self {
        Self { session, pending: Pending::default(), counts: Counts::new(), kept }
    }

    /// Bytes that one statement should have.
    pub(super) fn room(&self) -> usize {
        self.session.packet
    }

    /// Puts a statement behind the others.
    pub(super) async fn push(&mut self, table: &TableId, sql: &[u8], what: What, rows: u64) -> Result<()> {
        if sql.len() >= self.session.most {
            let most = self.session.most;
            let message = format!("a row takes {} bytes as a statement, and the server takes {most}", sql.len());
            let remedy = Remedy::Sql(format!("SET GLOBAL max_allowed_packet = {}", 1_u64 << 30));
            return Err(Error::new(Class::Table, message).target_table(table).remedy(remedy));
        }
        if self.pending.bytes() > 0 && self.pending.bytes() + sql.len() > self.session.packet {
            self.flush().await?;
        }
        self.pending.push(sql, Purpose { table: table.clone(), what, rows });
        Ok(())
    }

    /// Sends what waits.
    pub(super) async fn flush(&mut self) -> Result<()> {
        for (purpose, done) in self.pending.send(self.session).await? {
            let conflicts = conflicts(&purpose, &done)?;
            self.counts.entry(purpose.table).or_default().conflicts += conflicts;
        }
        Ok(())
    }
}

fn conflicts(purpose: &Purpose<What>, done: &Done) -> Result<u64> {
    let short = |met: u64| purpose.rows.saturating_sub(met);
    match purpose.what {
        What::Delete | What::KeepIfThere => Ok(short(done.affected)),
        What::Clear => Ok(done.affected),
        What::Put => Ok(short(done.put_in(purpose.rows))),
        What::Set => Ok(done.put_in(purpose.rows)),
        What::Change => missing(purpose, short(done.matched())),
        What::Keep => missing(purpose, short(done.affected)),
        What::Quiet => Ok(0),
    }
}

/// Rows that should have been there: the log does not carry the whole of them.
fn missing(purpose: &Purpose<What>, count: u64) -> Result<u64> {
    if count == 0 {
        return Ok(0);
    }
    let what = format!("{count} updated rows are not on the target, and the log does not carry all of their columns");
    Err(Error::new(Class::Table, what)
        .target_table(&purpose.table)
        .remedy(Remedy::from("see who else changes the target").then_reload(&purpose.table)))
}
