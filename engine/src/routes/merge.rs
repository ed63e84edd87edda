//! Tables of a source that become one table of the target.

use crate::error::{Error, Result};
use crate::route::Route;
use crate::schema::TableId;

/// Whether the table that this route is of can be there beside those of the others. `all`: every route that leads to
/// the same table of the target, this one among them.
pub(super) fn may_meet(route: &Route, all: &[Route]) -> Result<()> {
    let (source, target) = (&route.source().id, &route.target().id);
    let others = || all.iter().filter(|other| other.source().id != *source);
    if others().next().is_none() {
        return Ok(());
    }
    let refused = |what: String, remedy: &str| Err(Error::refused(what).table(source).remedy(remedy));
    let names =
        |routes: &[&Route]| routes.iter().map(|other| other.source().id.to_string()).collect::<Vec<_>>().join(", ");
    let whole = target.part.is_none() || others().any(|other| other.target().id.part.is_none());
    if whole {
        let what = format!(
            "would become the target table {target}, which {} would become too",
            names(&others().collect::<Vec<_>>())
        );
        let remedy = "rename one of them in [[rules]], say `merge = true` in the rule that makes them one, or exclude \
                      it in [[tables]]";
        return refused(what, remedy);
    }
    let alike: Vec<&Route> = others().filter(|other| !are_told_apart(target, &other.target().id)).collect();
    if !alike.is_empty() {
        let what = format!("its rows in {target} could not be told from those of {}", names(&alike));
        let remedy = "make a column of both source_schema() and source_table() with create-column";
        return refused(what, remedy);
    }
    let differs = |other: &&Route| !other.target().key_names().eq(route.target().key_names());
    if let Some(other) = others().find(differs) {
        let what = format!("becomes {target} as {} does, and has another key there", other.source().id);
        return refused(what, "name one key for all of them with set-key");
    }
    Ok(())
}

/// Nothing tells rows apart where no table has a column for it: then their keys have to.
fn are_told_apart(one: &TableId, other: &TableId) -> bool {
    let columns = |id: &TableId| id.part.as_ref().map(|part| part.columns.clone()).unwrap_or_default();
    let (one, other) = (columns(one), columns(other));
    if one.is_empty() && other.is_empty() {
        return true;
    }
    one.iter().any(|(column, value)| other.iter().any(|(name, theirs)| name == column && theirs != value))
}
