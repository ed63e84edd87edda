//! `trem drop`: what a task created at its ends is removed; the replicated tables and their rows stay.

use std::process::ExitCode;

use trem_engine::Error;

use crate::cli::Drop;
use crate::config::slot_name;
use crate::task::{FAILED, Failure};
use crate::{output, task};

/// Removes the slot and the publication first: while the target still remembers the task, a drop that failed
/// half-way can be repeated, and a slot that nobody knows of never holds the source's log.
pub async fn drop_task(args: Drop) -> Result<ExitCode, Failure> {
    let config = task::pick_one(&args.file, &args.task)?;
    let task = task::build(&config)?;
    let slot = slot_name(&args.task);
    let retired = task.source.retire().await;
    match &retired {
        Ok(()) => output::say(format_args!("source {}: slot and publication {slot} are gone", config.source)),
        Err(e) => output::say(format_args!("source {}: {e}", config.source)),
    }
    if retired.is_err() && !args.force {
        output::say(format_args!(
            "target {}: left as it is; stop the task if it runs, mend the source and drop again, or add --force if the \
             source is gone for good",
            config.target
        ));
        return Ok(ExitCode::from(FAILED));
    }
    let forgotten: Result<(), Error> = task.target.forget().await;
    match &forgotten {
        Ok(()) => output::say(format_args!("target {}: bookkeeping is gone, replicated tables stay", config.target)),
        Err(e) => output::say(format_args!("target {}: {e}; drop the task again when this is mended", config.target)),
    }
    let failed = retired.is_err() || forgotten.is_err();
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}
