//! From the table as it is to what has become of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use trem_engine::Result;
use trem_engine::route::Route;
use trem_engine::schema::{GeneratedColumn, Identity, Part, TableId, Type};
use trem_engine::template::Names;

use super::Working;
use crate::metadata::Metadata;
use crate::program::{Out, Past, Program};

impl Working<'_> {
    /// The route.
    pub(crate) fn route(self) -> Result<Route> {
        let history = self.kept_history()?.map(Self::own_route).transpose()?;
        let route = self.own_route()?;
        Ok(match history {
            Some(history) => route.with_history(history),
            None => route,
        })
    }

    fn own_route(self) -> Result<Route> {
        let source = self.table;
        let straight = self.columns.len() == source.columns.len()
            && self.columns.iter().enumerate().all(|(at, c)| c.slot == at && c.source == Some(at))
            && self.key.is_none()
            && self.filter.is_none();
        let mut target = (**source).clone();
        target.id.clone_from(&self.id);
        if self.merges {
            let of = (source.id.schema.clone(), source.id.table.clone());
            target.id.part = Some(Box::new(Part { of, columns: Vec::new() }));
        }
        target.columns = self.columns.iter().map(|c| c.column.clone()).collect();
        let renamed = |column: &GeneratedColumn| {
            let name = &self.generated.iter().find(|c| c.was == column.name)?.name;
            let expression = column.expression.renamed(&source.id, &self)?;
            Some(GeneratedColumn { name: name.clone(), expression, ..column.clone() })
        };
        target.generated = source.generated.iter().filter_map(renamed).collect();
        if target == **source && straight {
            return Ok(Route::straight(Arc::clone(source)));
        }
        // The number is that of the source's table.
        target.native_id = None;
        if straight && target.generated.len() == source.generated.len() {
            return Route::renamed(Arc::clone(source), Arc::new(target));
        }
        self.place_keys(&mut target)?;
        if matches!(self.past, Past::History) {
            (target.key, target.primary_key, target.identity) = (Vec::new(), Vec::new(), Identity::InsertOnly);
        }
        let target = Arc::new(target.made_by(&self.fingerprint()));
        let of_name = self.of_name();
        let program = self.program(&target).told_apart_by(&of_name)?;
        Ok(Route::mapped(Arc::clone(source), Arc::clone(&program.target), Arc::new(program)))
    }

    /// The columns that say from which table of the source a row is, if several become one.
    fn of_name(&self) -> Vec<usize> {
        let text = |ty: &Type| matches!(ty, Type::Text(_));
        let says = |at: &usize| self.merges && self.columns[*at].of_name && text(&self.columns[*at].column.ty);
        (0..self.columns.len()).filter(says).collect()
    }

    fn program(mut self, target: &Arc<trem_engine::schema::TableSchema>) -> Program {
        let source = self.table;
        let shown: BTreeSet<usize> = self.columns.iter().filter(|c| !c.replaced).filter_map(|c| c.source).collect();
        self.steps.iter_mut().for_each(|step| step.hide_all_but(&shown));
        self.filter.iter_mut().for_each(|filter| filter.hide_all_but(&shown));
        let out = |c: &super::Work| Out {
            slot: c.slot,
            from: c.from.iter().copied().collect(),
            of_change: c.of_change,
            conversions: c.conversions.clone(),
        };
        Program {
            outs: self.columns.iter().map(out).collect(),
            places: (0..source.columns.len()).map(|at| self.place_of(at)).collect(),
            old: source.old_columns(),
            source: Arc::clone(source),
            target: Arc::clone(target),
            task: self.task.to_owned(),
            steps: self.steps,
            filter: self.filter,
            past: self.past,
            set_aside: self.sets_aside.then(|| shown.into_iter().collect()),
        }
    }

    /// What tells the values and the rows that come out apart from those of other rules. Of what holds a variable
    /// nothing can be seen in it.
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        if let Some(filter) = &self.filter {
            hash.update(filter.formula().text());
            hash.update([0]);
        }
        for step in &self.steps {
            step.mark(&mut hash);
            hash.update([0]);
        }
        let source = self.table.columns.len();
        for column in &self.columns {
            // Counted without what is known of changes, which earlier versions had no slots for.
            let made = column.slot.checked_sub(source + Metadata::ALL.len());
            let slot = made.map_or(column.slot, |step| source + step);
            hash.update(format!("{slot} {};", column.column.name));
        }
        hash.update(match self.past {
            Past::None => "",
            Past::SoftDelete => "soft-delete",
            Past::History => "history",
        });
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Where a column of the source is in the end with the values it has.
    fn place_of(&self, source: usize) -> Option<usize> {
        self.columns.iter().position(|c| c.source == Some(source) && c.slot == source)
    }
}

/// Inside the table alone: the names of others, and what is not a column, stay. A column whose values are others now
/// has no name.
impl Names for Working<'_> {
    fn table(&self, id: &TableId) -> Option<TableId> {
        Some(if *id == self.table.id { self.id.clone() } else { id.clone() })
    }

    fn column(&self, table: &TableId, column: &str) -> Option<String> {
        if *table != self.table.id {
            return Some(column.to_owned());
        }
        if let Some(at) = self.table.column(column) {
            return self.place_of(at).map(|place| self.columns[place].column.name.clone());
        }
        match self.table.generated.iter().any(|c| c.name == column) {
            true => self.generated.iter().find(|c| c.was == column).map(|c| c.name.clone()),
            false => Some(column.to_owned()),
        }
    }
}
