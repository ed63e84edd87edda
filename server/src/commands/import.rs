//! `trem import`: the rules of another program as a configuration.

use crate::cli::{Import, ImportDms};
use crate::exit::{Exit, Failure};
use crate::{dms, output};

/// Writes a configuration to stdout, and what is not carried over to stderr.
pub fn import(command: Import) -> Result<Exit, Failure> {
    match command {
        Import::Dms(args) => of_dms(&args),
    }
}

fn of_dms(ImportDms { file, task }: &ImportDms) -> Result<Exit, Failure> {
    let name = file.display();
    let text =
        std::fs::read_to_string(file).map_err(|e| Failure::Usage(format!("{name}: cannot read the file: {e}")))?;
    let imported = dms::import(&text, task).map_err(|e| Failure::Usage(format!("{name}: {e}")))?;
    output::say(imported.toml.trim_end());
    for left in &imported.left {
        output::note(format_args!("not carried over, or not in full: {}: {}", left.rule, left.reason));
    }
    output::note(format_args!(
        "{} rules read, {} not carried over, or not in full",
        imported.total,
        imported.left.len()
    ));
    Ok(Exit::Done)
}
