//! The routes of all tables of a task, and the catalogue that a target sees by them.

mod history;
mod merge;

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ports::Rules;
use crate::route::Route;
use crate::schema::{Catalog, SecondaryKind, SecondaryObject, TableId, TableSchema};
use crate::template::Names;

/// Where every table of a catalogue goes. A table that cannot go anywhere is a matter of its own: the others have their
/// routes all the same.
#[derive(Debug, Default)]
pub struct Routes {
    /// In the catalogue's order.
    routes: Vec<Route>,
    refused: Vec<(Arc<TableSchema>, Error)>,
    secondary: Vec<SecondaryObject>,
    by_source: HashMap<TableId, usize>,
    by_target: HashMap<TableId, usize>,
}

impl Routes {
    /// Applies the rules to the tables of a source as they are now.
    pub fn of(rules: &dyn Rules, catalog: &Catalog) -> Self {
        let mut out = Self::default();
        let mut found: Vec<Route> = Vec::with_capacity(catalog.tables.len());
        for table in &catalog.tables {
            match has_columns(table).and_then(|()| rules.check(table)).and_then(|()| rules.route(table)) {
                Ok(route) => found.push(route),
                Err(error) => out.refused.push((Arc::clone(table), error.table(&table.id))),
            }
        }
        let mut meeting: HashMap<TableId, Vec<Route>> = HashMap::new();
        for route in &found {
            meeting.entry(route.target().id.whole()).or_default().push(route.clone());
        }
        let all = found.clone();
        for route in found {
            let (source, target) = (&route.source().id, &route.target().id);
            if let Err(error) =
                merge::may_meet(&route, &meeting[&target.whole()]).and_then(|()| history::is_alone(&route, &all))
            {
                out.refused.push((Arc::clone(route.source()), error));
                continue;
            }
            out.by_source.insert(source.clone(), out.routes.len());
            out.by_target.insert(target.clone(), out.routes.len());
            out.routes.push(route);
        }
        out.secondary = catalog.secondary.iter().filter_map(|object| out.secondary_object(object)).collect();
        out
    }

    /// The routes, in the catalogue's order.
    pub fn all(&self) -> &[Route] {
        &self.routes
    }

    /// Tables that have no route, and why: class `Refused`, the table named, with a remedy.
    pub fn refused(&self) -> &[(Arc<TableSchema>, Error)] {
        &self.refused
    }

    /// The route of a source table.
    pub fn of_source(&self, id: &TableId) -> Option<&Route> {
        self.by_source.get(id).map(|at| &self.routes[*at])
    }

    /// The route that leads to a target table.
    pub fn of_target(&self, id: &TableId) -> Option<&Route> {
        self.by_target.get(id).map(|at| &self.routes[*at])
    }

    /// The other tables of the source that become the same as this one.
    pub fn merged_with(&self, route: &Route) -> Vec<&TableId> {
        let same = |r: &&Route| r.target().id.same_table(&route.target().id) && r.source().id != route.source().id;
        self.routes.iter().filter(same).map(|r| &r.source().id).collect()
    }

    /// Indexes and constraints under the target's names, in the order in which they can be created. Those of tables
    /// without a route are left out, and those that name a column that does not get to the target.
    pub fn secondary(&self) -> &[SecondaryObject] {
        &self.secondary
    }

    /// The catalogue as a target sees it. Types keep their names.
    pub fn target_catalog(&self, source: &Catalog) -> Catalog {
        let tables = self.routes.iter().map(|route| Arc::clone(route.target())).collect();
        let mut types = source.types.clone();
        for ty in &mut types {
            let at_target = |id: &TableId| self.of_source(id).map(|route| route.target().id.clone());
            ty.users = ty.users.iter().filter_map(at_target).collect();
        }
        let histories = self.routes.iter().filter_map(Route::history).map(|history| Arc::clone(history.target()));
        Catalog { tables, types, secondary: self.secondary.clone(), histories: histories.collect() }
    }

    fn secondary_object(&self, object: &SecondaryObject) -> Option<SecondaryObject> {
        let route = self.of_source(&object.table)?;
        // What the source has no more may be there beside what it has now, and what another table has too.
        let more = route.keeps_past() || route.target().id.part.is_some();
        if more && object.kind != SecondaryKind::Index {
            return None;
        }
        let first = |r: &&Route| r.target().id.same_table(&route.target().id);
        if self.routes.iter().find(first).is_some_and(|first| first.source().id != route.source().id) {
            return None;
        }
        let ddl = object.ddl.renamed(&object.table, self)?;
        Some(SecondaryObject { table: route.target().id.clone(), name: object.name.clone(), kind: object.kind, ddl })
    }

    fn has_refused(&self, id: &TableId) -> bool {
        self.refused.iter().any(|(table, _)| table.id == *id)
    }
}

/// A table that is not part of the task is called the same at both ends.
impl Names for Routes {
    fn table(&self, id: &TableId) -> Option<TableId> {
        match self.of_source(id) {
            Some(route) => Some(route.target().id.clone()),
            None => (!self.has_refused(id)).then(|| id.clone()),
        }
    }

    fn column(&self, table: &TableId, column: &str) -> Option<String> {
        match self.of_source(table) {
            Some(route) => route.column(column).map(str::to_owned),
            None => (!self.has_refused(table)).then(|| column.to_owned()),
        }
    }
}

/// Rows without a value are neither read nor told apart.
fn has_columns(table: &TableSchema) -> Result<()> {
    if !table.columns.is_empty() {
        return Ok(());
    }
    let what = match table.generated.is_empty() {
        true => "has no columns",
        false => "has no columns but generated ones, whose values are not sent",
    };
    Err(Error::refused(what).remedy("exclude it in [[tables]], or give it a column"))
}

#[cfg(test)]
#[path = "routes/tests.rs"]
mod tests;
