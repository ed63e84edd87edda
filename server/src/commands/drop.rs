//! `trem drop`: what a task created at its ends is removed; the replicated tables and their rows stay.

use trem_engine::Error;

use crate::cli::Drop;
use crate::exit::{Exit, Failure};
use crate::remedy::Commands;
use crate::{output, task};

/// Removes what is at the source first: while the target still remembers the task, a drop that failed half-way can be
/// repeated, and what nobody knows of never holds the source's log.
pub async fn drop_task(args: Drop) -> Result<Exit, Failure> {
    let config = task::pick_one(&args.file, &args.task)?;
    let task = task::build(&config)?;
    let commands = Commands { file: &args.file, task: &args.task };
    let retired = task.source.retire().await;
    match (&retired, config.source.configured.objects(&args.task)) {
        (Ok(()), Some(objects)) => output::say(format_args!("source {}: {objects} are gone", config.source)),
        (Ok(()), None) => output::say(format_args!("source {}: the task has left nothing there", config.source)),
        (Err(e), _) => output::say(format_args!("source {}: {}", config.source, commands.error(e))),
    }
    if retired.is_err() && !args.force {
        output::say(format_args!(
            "target {}: left as it is; stop the task if it runs, mend the source and drop again, or add --force if the \
             source is gone for good",
            config.target
        ));
        return Ok(Exit::Failed);
    }
    let forgotten: Result<(), Error> = task.target.forget().await;
    match &forgotten {
        Ok(()) => output::say(format_args!("target {}: bookkeeping is gone, replicated tables stay", config.target)),
        Err(e) => output::say(format_args!(
            "target {}: {}; drop the task again when this is mended",
            config.target,
            commands.error(e)
        )),
    }
    Ok(Exit::of(retired.is_err() || forgotten.is_err()))
}
