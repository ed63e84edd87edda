//! Rows that a rule cannot be applied to, set aside one by one, so that the others go on.

use arrow_array::ArrayRef;
use trem_engine::change::{ChangeBatch, Op, TableCounts};
use trem_engine::quarantine::{Quarantined, QuarantinedValue};
use trem_engine::route::Mapped;
use trem_engine::{Class, Error, Result};

use super::Program;
use super::rows::{batch, widened};
use crate::expression::text;

impl Program {
    /// What becomes of rows some of which fail with `error` or another one. `shown`: the columns of the source that
    /// are kept of those.
    pub(super) fn apart(&self, rows: &ChangeBatch, error: &Error, shown: &[usize]) -> Result<Mapped> {
        if rows.is_empty() {
            return Err(Error::new(Class::Table, error.reason()));
        }
        if rows.len() == 1 {
            return self.set_aside(rows, error, shown);
        }
        let half = rows.len() / 2;
        let part = |from: usize, count: usize| {
            let part = rows.slice(from, count);
            match self.whole(&part) {
                Err(error) if error.class() == Class::Table => self.apart(&part, &error, shown),
                mapped => mapped,
            }
        };
        joined(part(0, half)?, part(half, rows.len() - half)?)
    }

    fn set_aside(&self, rows: &ChangeBatch, error: &Error, shown: &[usize]) -> Result<Mapped> {
        let commit = rows.commits.of(0).map(|(commit, _)| commit);
        let key = if self.source.key.is_empty() { &self.source.primary_key } else { &self.source.key };
        let key: Vec<usize> = key.iter().copied().filter(|at| shown.contains(at)).collect();
        let known: Vec<usize> = match rows.ops[0] {
            Op::Delete => shown.iter().copied().filter(|at| self.old.contains(at)).collect(),
            Op::Insert | Op::Update => shown.iter().copied().filter(|at| !rows.mask(0).contains(*at)).collect(),
        };
        let quarantined = Quarantined {
            table: self.source.id.clone(),
            op: commit.map(|_| rows.ops[0]),
            position: commit.map(|c| c.position.to_string()),
            committed_at: commit.and_then(|c| c.at),
            error: error.reason(),
            key: self.values(rows, &key)?,
            row: self.values(rows, &known)?,
        };
        let counts = TableCounts { quarantined: 1, ..TableCounts::default() };
        let left = self.moved_away(rows).unwrap_or(self.whole(&rows.slice(0, 0))?);
        Ok(Mapped { counts, quarantined: vec![quarantined], ..left })
    }

    fn values(&self, rows: &ChangeBatch, columns: &[usize]) -> Result<Vec<QuarantinedValue>> {
        let one = |at: &usize| {
            let column = &self.source.columns[*at];
            let value = text(rows.rows.column(*at), &column.ty)?.into_iter().next().flatten();
            Ok(QuarantinedValue { column: column.name.clone(), value })
        };
        columns.iter().map(one).collect()
    }

    /// The end of the row under the key that it had, if it has another one now: nobody else would bring it.
    fn moved_away(&self, rows: &ChangeBatch) -> Option<Mapped> {
        let old = rows.old.as_ref().filter(|_| rows.ops[0] == Op::Update)?;
        let images: Vec<ArrayRef> = widened(old, &self.source);
        let of_key = self.target.key.iter().flat_map(|at| &self.outs[*at].from);
        let other = |at: &usize| images[*at].to_data() != rows.rows.column(*at).slice(0, 1).to_data();
        if !of_key.into_iter().any(other) {
            return None;
        }
        let gone = ChangeBatch {
            ops: vec![Op::Delete],
            rows: batch(rows.rows.schema(), images, 1).ok()?,
            old: None,
            mask_of: Vec::new(),
            ..rows.clone()
        };
        self.whole(&gone).ok()
    }
}

fn joined(first: Mapped, second: Mapped) -> Result<Mapped> {
    let mut out = Mapped { counts: first.counts, ..Mapped::all(first.rows) };
    out.counts.add(&second.counts);
    out.misfits = first.misfits;
    for (column, count) in second.misfits {
        match out.misfits.iter_mut().find(|(known, _)| *known == column) {
            Some((_, sum)) => *sum += count,
            None => out.misfits.push((column, count)),
        }
    }
    out.quarantined = [first.quarantined, second.quarantined].concat();
    if let Some(rows) = ChangeBatch::concat(&[out.rows.clone(), second.rows])? {
        out.rows = rows;
    }
    Ok(out)
}
