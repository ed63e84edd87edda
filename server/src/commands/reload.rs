//! `trem reload`: a table is loaded again from its start, by the running task or at its next start.

use trem_engine::Error;

use crate::cli::Reload;
use crate::exit::{Exit, Failure};
use crate::{output, table, task};

/// Writes the request down. The table may be named as the source or as the target has it.
pub async fn reload(args: Reload) -> Result<Exit, Failure> {
    let config = task::pick_one(&args.file, &args.task)?;
    let table = table::exact(&args.file, "--table", &args.table)?;
    let task = task::build(&config)?;
    let record = task.target.record().await?.unwrap_or_default();
    let Some(known) = record.table(&table).or_else(|| record.of_target(&table)) else {
        let error = Error::refused(format!("task {} has not taken this table up yet", args.task)).table(&table);
        return Err(error.remedy("`trem status` lists its tables; names are case-sensitive").into());
    };
    task.target.request_reload(known.id()).await?;
    let within = config.plan.rediscover.as_secs_f64();
    let when = format!("within {within} s if task {} runs, otherwise when it starts next", args.task);
    output::tell("", format_args!("{table}: it will be loaded again, from its start: {when}"));
    Ok(Exit::Done)
}
