//! Names of tables on the command line.

use std::path::Path;

use trem_engine::schema::TableId;
use trem_engine::task::Glob;

use crate::config::{Problem, Problems};
use crate::exit::Failure;

/// The one table that an argument names.
pub fn exact(file: &Path, argument: &str, text: &str) -> Result<TableId, Failure> {
    let wrong = |message: String| Failure::Config(Problems(vec![Problem::of_file(file, message)]));
    let glob = Glob::parse(text).map_err(|e| wrong(format!("{argument}: {e}")))?;
    glob.exact().ok_or_else(|| wrong(format!("{argument}: {text:?} is a pattern: expected one schema.table")))
}
