//! Columns added to a table of the target.

use trem_engine::schema::AddedColumns;
use trem_engine::{Class, Error, Remedy, Result};

use super::create::Maker;
use super::encode::{self, Form};
use super::have;
use super::session::Session;
use crate::mysql::quote;
use crate::mysql::types::Described;
use crate::target::findings;
use crate::view::View;

/// What is left to be done about columns that have been added.
#[derive(Clone, Debug, Default)]
pub(super) struct Grown {
    /// Statements of the set's transaction, where the step stands: they give rows that are there their values.
    pub(super) fill: Vec<String>,
    /// Statements after it.
    pub(super) after: Vec<String>,
}

/// Adds the columns that are not there. Rows that are there get their values by a default, which costs nothing and is
/// taken away again later: until then it says of rows of the same set what they had then.
pub(super) async fn grow(session: &mut Session, added: &AddedColumns) -> Result<Grown> {
    let AddedColumns { before, next, existing } = added;
    let maker = Maker::of(session);
    findings::verdict(&next.id, &maker.without_form(next))?;
    let have = have::read(session, &[&next.id]).await?.remove(&next.id);
    let gone = || Error::new(Class::Table, "the target table is gone").remedy(Remedy::Reload(next.id.clone()));
    let have = have.ok_or_else(gone)?;
    let (name, shared) = (quote::table(&next.id), next.id.part.is_some());
    let mut grown = Grown::default();
    let columns = next.columns.iter().filter(|c| before.column(&c.name).is_none());
    for (column, value) in columns.zip(existing.columns()) {
        let (quoted, ty) = (quote::ident(&column.name), maker.type_of(next, column));
        let view = View::of(value, &column.ty)?;
        let there = have.column(&column.name).map(|have| have.ty.word.clone());
        let word = there.clone().unwrap_or_else(|| Described::of_ddl(&ty).word);
        let mut literal = Vec::new();
        encode::put_literal(&view, Form::of(&column.ty, &word), 0, &mut literal)?;
        let literal = String::from_utf8(literal).map_err(|e| Error::fatal("internal: a value's text").cause(e))?;
        let known = !view.is_null(0);
        if known && (shared || there.is_some()) {
            // Someone was ahead of the log, or this lane was before it was cut off.
            let own = quote::QUOTES.and_own(&next.id);
            grown.fill.push(format!("UPDATE {name} SET {quoted} = {literal} WHERE NOT ({quoted} <=> {literal}){own}"));
        }
        if there.is_some() {
            continue;
        }
        let add = |rest: &str| format!("ALTER TABLE {name} ADD COLUMN {quoted} {ty}{rest}");
        // Without a value, the server would give rows that are there one of its own.
        let sql = match known && !shared {
            true if column.nullable => add(&format!(" NULL DEFAULT ({literal})")),
            true => add(&format!(" NOT NULL DEFAULT ({literal})")),
            false => add(" NULL"),
        };
        session.execute(sql).await?;
        if known && !shared {
            grown.after.push(format!("ALTER TABLE {name} ALTER COLUMN {quoted} DROP DEFAULT"));
        }
    }
    let have = have::read(session, &[&next.id]).await?.remove(&next.id);
    let misfits = have.map(|h| h.misfits(next, &maker, true)).unwrap_or_default();
    findings::verdict(&next.id, &misfits)?;
    Ok(grown)
}
