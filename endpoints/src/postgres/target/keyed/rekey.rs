//! Rows whose key has changed, kept where they are: whatever fires for an UPDATE at the target sees one, and what only
//! the target has of the row stays.

use std::collections::HashSet;

use trem_engine::change::{KeyRef, Move, RowRef};

use super::super::failure::Tried;
use super::{ARRAY_BYTES, ARRAY_UPDATES, Keyed};

impl Keyed<'_> {
    /// Whether the moves can be made in place: few enough for parameters, and none into a place that another one
    /// leaves, because a unique index is asked row by row (manual, CREATE TABLE, "Non-deferred Uniqueness").
    pub(super) fn rekeys(&self) -> bool {
        let (w, moves) = (self.writer, &self.net.moves);
        let rows: Vec<RowRef> = moves.iter().map(|m| m.to).collect();
        !moves.is_empty()
            && moves.len() <= ARRAY_UPDATES
            && w.keys_can_change()
            && w.weight(&self.views, &w.all(), &rows) <= ARRAY_BYTES
            && self.apart(moves)
    }

    /// Whether no key is left by one row and taken by another.
    fn apart(&self, moves: &[Move]) -> bool {
        let key = |key: KeyRef| {
            let arrays = self.writer.key_arrays(&self.views, &self.old, &[key]).ok()?;
            Some(arrays.into_iter().map(|a| a.0.to_vec()).collect::<Vec<_>>())
        };
        let left: HashSet<_> = moves.iter().map(|m| key(m.from)).collect();
        moves.iter().all(|m| !left.contains(&key(KeyRef::Row(m.to))))
    }

    /// Makes the moves in place.
    pub(super) async fn rekey(&mut self) -> Tried<()> {
        for (unknown, moves) in self.moves_by_mask(false) {
            let known: Vec<usize> = self.writer.all().into_iter().filter(|i| !unknown.contains(*i)).collect();
            let rows: Vec<RowRef> = moves.iter().map(|(_, m)| m.to).collect();
            let keys: Vec<KeyRef> = moves.iter().map(|(_, m)| m.from).collect();
            let mut arrays = self.writer.arrays(&self.views, &known, &rows)?;
            arrays.extend(self.writer.key_arrays(&self.views, &self.old, &keys)?);
            let met = self.session.execute(&self.writer.rekey_sql(&known), &arrays).await?;
            self.met_none(&rows, met, &unknown).await?;
        }
        Ok(())
    }
}
