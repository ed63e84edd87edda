//! What the log does not tell and somebody has to look for: tables that are new, tables that have lost what tells their
//! rows apart, and requests that were written down from outside.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::record::TableState;
use crate::schema::{Identity, TableId};

use super::control::Command;
use super::failing;
use super::run::Run;

/// How often the source is asked how far its log goes.
const LAG: Duration = Duration::from_secs(5);

/// Something that the main loop has to see to.
pub(super) enum Found {
    /// A table that is selected and not known.
    New(TableId),
    /// A table that somebody wants to be loaded again.
    Asked(TableId),
    /// A table that has lost what tells its rows apart, and the error that says so.
    Unkeyed(TableId, Error),
}

/// Looks from time to time, and at once when told to. It ends when it is dropped.
pub(super) struct Watch {
    found: mpsc::Receiver<Found>,
    _looking: JoinSet<()>,
}

impl Watch {
    pub(super) fn new(run: &Arc<Run>) -> Self {
        let (send, found) = mpsc::channel(16);
        let mut looking = JoinSet::new();
        looking.spawn(watch(Arc::clone(run), send));
        looking.spawn(measure(Arc::clone(run)));
        Self { found, _looking: looking }
    }

    /// The next find. Cancel-safe.
    pub(super) async fn next(&mut self) -> Found {
        match self.found.recv().await {
            Some(found) => found,
            None => std::future::pending().await,
        }
    }
}

async fn watch(run: Arc<Run>, found: mpsc::Sender<Found>) {
    let mut told = HashSet::new();
    loop {
        let news = tokio::select! {
            command = run.control.command() => match command {
                Command::Reload(table) => vec![Found::Asked(table)],
                Command::Rediscover => look(&run, &mut told).await,
            },
            () = tokio::time::sleep(run.task.plan.rediscover) => look(&run, &mut told).await,
        };
        for one in news {
            if found.send(one).await.is_err() {
                return;
            }
        }
    }
}

/// Asks the source from time to time how far the task is behind, so that nobody who wants to know has to.
async fn measure(run: Arc<Run>) {
    let reporter = &run.task.reporter;
    let began = reporter.snapshot().applied;
    loop {
        let applied = reporter.snapshot().applied;
        match run.task.source.lag(applied.as_ref()).await {
            Ok(lag) => {
                if lag.bytes == Some(0) || applied != began {
                    failing::healed(&run).await;
                }
                reporter.update(|p| p.lag = Some(lag));
            }
            Err(error) => tracing::debug!(%error, "could not ask how far behind"),
        }
        tokio::time::sleep(LAG).await;
    }
}

/// A failure here is met again, and reported, by the stream itself.
async fn look(run: &Run, told: &mut HashSet<TableId>) -> Vec<Found> {
    let (source, target) = tokio::join!(discovered(run), run.task.target.requests());
    let failed = |e: Error| tracing::debug!(error = %e, "could not look for what is new");
    let mut news = Vec::new();
    match source {
        Ok(found) => news = untold(found, told),
        Err(error) => failed(error),
    }
    let requests = target.unwrap_or_else(|e| {
        failed(e);
        Vec::new()
    });
    news.extend(requests.into_iter().map(Found::Asked));
    news
}

/// What is new is told once: it is taken up or suspended, and then it is known. One that has gone again meanwhile is
/// new once more when it comes back.
fn untold(mut found: Vec<Found>, told: &mut HashSet<TableId>) -> Vec<Found> {
    let new: HashSet<TableId> =
        found.iter().filter_map(|one| if let Found::New(id) = one { Some(id.clone()) } else { None }).collect();
    found.retain(|one| !matches!(one, Found::New(id) if told.contains(id)));
    for table in new.difference(told) {
        tracing::info!(%table, "new: it is taken up beside the stream");
    }
    *told = new;
    found
}

async fn discovered(run: &Run) -> Result<Vec<Found>> {
    let catalog = run.task.source.discover(&run.task.plan.selection).await?;
    let (mut news, mut keyless) = (Vec::new(), Vec::new());
    for t in catalog.tables {
        match run.book.state(&t.id) {
            None => news.push(Found::New(t.id.clone())),
            Some(TableState::Ready) if t.identity == Identity::InsertOnly => keyless.push(t),
            Some(_) => {}
        }
    }
    if !keyless.is_empty() {
        let errors = run.task.source.obstacles(&keyless, true).await?;
        news.extend(errors.into_iter().filter_map(|e| Some(Found::Unkeyed(e.table_id()?.clone(), e))));
    }
    Ok(news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_table_is_told_once_until_it_has_gone() {
        let (id, mut told) = (TableId::new("public", "t"), HashSet::new());
        let mut look = |there: bool| {
            let found = if there { vec![Found::New(id.clone())] } else { Vec::new() };
            untold(found, &mut told).len()
        };
        assert_eq!([true, true, false, true].map(&mut look), [1, 0, 0, 1]);
    }
}
