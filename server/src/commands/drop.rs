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
    let commands = Commands::of_file(&args.file, &args.task);
    let retired = task.source.retire().await;
    let objects = config.source.configured.objects(&args.task).map_or_else(String::new, |o| o.to_string());
    let at_source = match &retired {
        Ok(true) => format!("dropped: {objects}"),
        Ok(false) if objects.is_empty() => "a task leaves nothing there".to_owned(),
        Ok(false) => format!("nothing to drop: {objects} are not there"),
        Err(e) => commands.error(e),
    };
    output::tell("", format_args!("source {}: {at_source}", config.source));
    if retired.is_err() && !args.force {
        let what = "left as it is; stop the task if it runs, mend the source and drop again, or add --force if the \
                    source is gone for good";
        output::tell("", format_args!("target {}: {what}", config.target));
        return Ok(Exit::Failed);
    }
    let forgotten: Result<bool, Error> = task.target.forget().await;
    let on_target = match &forgotten {
        Ok(true) => "dropped: the record of the task; replicated tables stay".to_owned(),
        Ok(false) => "nothing to drop: the task is not on record there".to_owned(),
        Err(e) => format!("{}; drop the task again when this is mended", commands.error(e)),
    };
    output::tell("", format_args!("target {}: {on_target}", config.target));
    Ok(Exit::of(retired.is_err() || forgotten.is_err()))
}
