//! The transactions that changes are of.

use std::sync::Arc;
use std::time::SystemTime;

use crate::position::Position;

/// A transaction of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where its commit stands in the log.
    pub position: Position,
    /// When it committed, by the source's clock; `None` if the log does not tell.
    pub at: Option<SystemTime>,
    /// What the source calls it.
    pub transaction: String,
}

/// Which transaction each row of a batch is of, and which of its changes, counted from 0. None of rows that a load has
/// read.
#[derive(Clone, Debug, Default)]
pub struct Commits(Vec<Since>);

/// Rows from one on, each the next change of its transaction.
#[derive(Clone, Debug)]
struct Since {
    row: u32,
    commit: Arc<Commit>,
    change: u64,
}

impl Commits {
    /// This row, which is behind those before, is this change of this transaction.
    pub fn put(&mut self, row: u32, commit: &Arc<Commit>, change: u64) {
        let goes_on =
            |last: &Since| Arc::ptr_eq(&last.commit, commit) && last.change + u64::from(row - last.row) == change;
        if !self.0.last().is_some_and(goes_on) {
            self.0.push(Since { row, commit: Arc::clone(commit), change });
        }
    }

    /// The transaction of a row, and which of its changes it is.
    pub fn of(&self, row: usize) -> Option<(&Arc<Commit>, u64)> {
        let behind = self.0.partition_point(|since| since.row as usize <= row);
        let since = self.0.get(behind.checked_sub(1)?)?;
        Some((&since.commit, since.change + (row - since.row as usize) as u64))
    }

    /// Those of these rows, which become the first, the second and so on.
    #[must_use]
    pub fn of_rows(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let mut out = Self::default();
        for (place, row) in rows.into_iter().enumerate() {
            if let Some((commit, change)) = self.of(row) {
                out.put(place as u32, commit, change);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_changes_of_transactions() {
        let commit = |n: u128| {
            Arc::new(Commit { position: Position::new(n, n.to_string()), at: None, transaction: n.to_string() })
        };
        let (first, second) = (commit(1), commit(2));
        let mut commits = Commits::default();
        assert!(commits.of(0).is_none());
        for row in 2..5 {
            commits.put(row, &first, u64::from(row) + 5);
        }
        commits.put(5, &first, 20);
        commits.put(6, &second, 0);
        let of = |row: usize| commits.of(row).map(|(commit, change)| (commit.transaction.as_str(), change));
        assert_eq!([of(0), of(2), of(4), of(5)], [None, Some(("1", 7)), Some(("1", 9)), Some(("1", 20))]);
        assert_eq!([of(6), of(9)], [Some(("2", 0)), Some(("2", 3))]);
        assert_eq!(commits.0.len(), 3);
        let some = commits.of_rows([4, 6]);
        let of = |row: usize| some.of(row).map(|(commit, change)| (commit.transaction.as_str(), change));
        assert_eq!([of(0), of(1)], [Some(("1", 9)), Some(("2", 0))]);
    }
}
