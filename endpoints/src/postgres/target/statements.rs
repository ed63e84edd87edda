//! Prepared statements that are kept, and which ones are let go.

use std::collections::HashMap;

use tokio_postgres::Statement;

/// So many are kept from one transaction to the next, and twice as many inside of one. The target's server spends some
/// 50 kB on each: with 100,000 tables it would run out of memory.
const MOST: usize = 4096;

/// Statements by their text.
#[derive(Debug)]
pub(super) struct Statements<S = Statement> {
    /// And the number of the last transaction that used each.
    known: HashMap<String, (S, u64)>,
    transaction: u64,
}

impl<S> Default for Statements<S> {
    fn default() -> Self {
        Self { known: HashMap::new(), transaction: 0 }
    }
}

impl<S: Clone> Statements<S> {
    /// A statement, to be used now.
    pub(super) fn get(&mut self, sql: &str) -> Option<S> {
        let (statement, used) = self.known.get_mut(sql)?;
        *used = self.transaction;
        Some(statement.clone())
    }

    /// Keeps one that has been prepared, if it is not known yet.
    pub(super) fn put(&mut self, sql: &str, statement: &S) {
        if self.known.contains_key(sql) {
            return;
        }
        if self.known.len() >= 2 * MOST {
            // One transaction alone may have changes of any number of tables.
            self.trim();
        }
        self.known.insert(sql.to_owned(), (statement.clone(), self.transaction));
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// A transaction has ended.
    pub(super) fn transaction_ended(&mut self) {
        if self.known.len() > MOST {
            self.trim();
        }
        self.transaction += 1;
    }

    /// Those that this transaction has not used go first: statements of tables at rest are of no use.
    fn trim(&mut self) {
        let now = self.transaction;
        self.known.retain(|_, (_, used)| *used == now);
        let mut kept = 0;
        self.known.retain(|_, _| {
            kept += 1;
            kept <= MOST
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unused_go_when_there_are_too_many() {
        let mut statements: Statements<usize> = Statements::default();
        let put = |statements: &mut Statements<usize>, range: std::ops::Range<usize>| {
            range.for_each(|n| statements.put(&n.to_string(), &n));
            statements.transaction_ended();
        };
        put(&mut statements, 0..MOST);
        assert!((0..MOST).all(|n| statements.known.contains_key(&n.to_string())), "as many as are kept");
        assert_eq!(statements.get("7"), Some(7));
        put(&mut statements, MOST..MOST + 1);
        let left: Vec<usize> = (0..=MOST).filter(|n| statements.known.contains_key(&n.to_string())).collect();
        assert_eq!(left, [7, MOST]);
        let count = |s: &Statements<usize>| (0..3 * MOST).filter(|n| s.known.contains_key(&n.to_string())).count();
        statements.clear();
        (0..2 * MOST).for_each(|n| statements.put(&n.to_string(), &n));
        assert_eq!(count(&statements), 2 * MOST, "all of one transaction");
        statements.put("7", &7);
        assert_eq!(count(&statements), 2 * MOST, "it is there");
        statements.put(&(2 * MOST).to_string(), &0);
        assert_eq!(count(&statements), MOST + 1);
        put(&mut statements, 0..2 * MOST);
        assert_eq!(count(&statements), MOST);
    }
}
