//! `trem reload`: a table is loaded again from its start at the next start of its task.

use std::process::ExitCode;

use trem_engine::Error;
use trem_engine::schema::TableId;
use trem_engine::task::Glob;

use crate::cli::Reload;
use crate::config::{Problem, Problems};
use crate::task::Failure;
use crate::{output, task};

/// Marks the table.
pub async fn reload(args: Reload) -> Result<ExitCode, Failure> {
    let config = task::pick_one(&args.file, &args.task)?;
    let table = table(&args)?;
    let task = task::build(&config)?;
    let record = task.target.record().await?;
    let known = record.is_some_and(|r| r.tables.iter().any(|t| t.schema.id == table));
    if !known {
        let error = Error::refused(format!("task {} has not taken this table up yet", args.task)).table(&table);
        return Err(error.remedy("`trem status` lists its tables; names are case-sensitive").into());
    }
    task.target.reload(&table).await?;
    let task = &args.task;
    output::say(format_args!(
        "{table}: loaded again, from its start, when task {task} starts next; restart it if it runs"
    ));
    Ok(ExitCode::SUCCESS)
}

fn table(args: &Reload) -> Result<TableId, Failure> {
    let wrong = |message: String| Failure::Config(Problems(vec![Problem::of_file(&args.file, message)]));
    let glob = Glob::parse(&args.table).map_err(|e| wrong(format!("--table: {e}")))?;
    glob.exact().ok_or_else(|| wrong(format!("--table: {:?} is a pattern: expected one schema.table", args.table)))
}
