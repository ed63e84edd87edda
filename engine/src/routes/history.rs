//! Histories that are kept beside their tables.

use crate::error::{Error, Result};
use crate::route::Route;

/// Whether the history that is kept beside the table has a place of its own. `all`: the routes of all tables.
pub(super) fn is_alone(route: &Route, all: &[Route]) -> Result<()> {
    let Some(history) = route.history() else { return Ok(()) };
    let id = &history.target().id;
    let with = |other: &&Route| {
        let told = other.history().is_some_and(|h| h.target().id.same_table(id));
        let merged = other.target().id.same_table(&route.target().id);
        other.target().id.same_table(id) || (told && !merged)
    };
    let Some(other) = all.iter().find(with) else { return Ok(()) };
    let what = format!("its history would be in {id}, where rows of {} go", other.source().id);
    Err(Error::refused(what).table(&route.source().id).remedy("choose another `beside-suffix`, or rename one of them"))
}
