//! Generated columns in the log. From version 18 on a server refuses to change rows of a table that logs whole old rows
//! unless the publication has its stored ones, so they come, and are taken out again: the target computes its own.

use std::collections::HashMap;

use bytes::Bytes;
use trem_engine::Result;

use crate::postgres::wire::pgoutput::{self, Relation};

/// Where in the rows of a relation there are generated columns, by the relation's number.
#[derive(Debug, Default)]
pub(super) struct Computed(HashMap<u32, Vec<usize>>);

impl Computed {
    /// The description of a table without its generated columns. From here on they are taken out of its rows too.
    pub(super) fn describe(&mut self, mut relation: Relation, is_generated: impl Fn(&str) -> bool) -> Relation {
        let columns = relation.columns.iter().enumerate();
        let places: Vec<usize> = columns.filter(|(_, c)| is_generated(&c.name)).map(|(at, _)| at).collect();
        if places.is_empty() {
            self.0.remove(&relation.id);
            return relation;
        }
        relation.columns.retain(|c| !is_generated(&c.name));
        self.0.insert(relation.id, places);
        relation
    }

    /// The message as it is without generated columns; `None` if it has none.
    pub(super) fn without(&self, payload: &[u8]) -> Result<Option<Bytes>> {
        let places = match self.0.is_empty() {
            true => None,
            false => pgoutput::relation_of_rows(payload).and_then(|relation| self.0.get(&relation)),
        };
        Ok(places.map(|places| pgoutput::without_columns(payload, places)).transpose()?.map(Bytes::from))
    }
}
