//! Whether the account may read the log, found out by reading it.

use futures::StreamExt;
use trem_engine::{Error, Remedy, Result};

use super::shared::Inner;
use super::stream::open_log;
use crate::mysql::error::{error, is_denied};
use crate::mysql::quote;
use crate::mysql::row::get;

/// Reads the log from its end.
///
/// # Errors
/// Class `Refused` with the grant that is missing.
pub(super) async fn try_log(inner: &Inner) -> Result<()> {
    let read = read(inner).await;
    explained(inner, read).await
}

/// With the grant that is missing, if that is what is wrong.
pub(super) async fn explained<T>(inner: &Inner, outcome: Result<T>) -> Result<T> {
    match outcome {
        Err(error) if is_denied(&error) => Err(error.remedy(grant(inner).await?)),
        other => other,
    }
}

async fn read(inner: &Inner) -> Result<()> {
    let place = inner.current().await?;
    let mut log = Box::pin(open_log(inner, &place, true).await?);
    // What is wrong is said in the place of the first event.
    log.next().await.transpose().map_err(error)?;
    Ok(())
}

/// What an account needs that follows the log. (MariaDB knowledge base, "GRANT", global privileges.)
async fn grant(inner: &Inner) -> Result<Remedy> {
    let rows = inner.rows("SELECT CURRENT_USER()").await?;
    let account: String =
        rows.first().map_or_else(|| Err(Error::fatal("the server does not say who we are")), |row| get(row, 0))?;
    let (user, host) = account.rsplit_once('@').unwrap_or((&account, "%"));
    let account = format!("{}@{}", quote::literal(user), quote::literal(host));
    Ok(Remedy::Sql(format!("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO {account}")))
}
