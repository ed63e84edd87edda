//! Rules that make something else of a table than what is on the target.

use crate::error::Result;
use crate::ports::Rules;
use crate::record::{TableRecord, TableState, TaskRecord};
use crate::schema::TableId;

/// The tables that would have to be loaded again for these rules to hold, each with why.
pub fn outdated(rules: &dyn Rules, record: &TaskRecord) -> Vec<(TableId, String)> {
    let loaded = |table: &&TableRecord| table.state != TableState::Suspended;
    let why = |table: &TableRecord| match rerouted(rules, table) {
        Ok(None) => None,
        Ok(Some(why)) => Some((table.id().clone(), why)),
        Err(error) => Some((table.id().clone(), error.reason())),
    };
    record.tables.iter().filter(loaded).filter_map(why).collect()
}

/// What the rules make of a table that is followed, if that is another than what it is on the target.
pub(super) fn rerouted(rules: &dyn Rules, known: &TableRecord) -> Result<Option<String>> {
    let route = rules.route(&known.source)?;
    let (now, then) = (route.target(), &known.target);
    Ok(if now.id != then.id {
        Some(format!("the rules make it table {} of the target now", now.id))
    } else if **now != **then {
        Some("the rules make it a table with other columns of the target now".to_owned())
    } else if now.rules() != then.rules() {
        Some("its filter or its rules are others now: rows from before would stay as the old ones made them".to_owned())
    } else {
        None
    })
}
