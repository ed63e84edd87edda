//! Shows how far the tasks are: bars on a terminal, a log line now and then otherwise.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use tokio_util::sync::CancellationToken;
use trem_engine::progress::{Phase, Progress, Reporter, TableProgress};
use trem_engine::record::TableState;
use trem_engine::schema::TableId;

const REDRAW: Duration = Duration::from_millis(250);
const LOG: Duration = Duration::from_secs(10);
/// Of one task: a terminal has few lines, and the summary counts the rest.
const MOST_BARS: usize = 8;

/// Shows the tasks until `done`.
pub async fn show(tasks: Vec<(String, Reporter)>, bars: MultiProgress, done: CancellationToken) {
    if bars.is_hidden() {
        log(&tasks, &done).await;
    } else {
        draw(&tasks, &bars, &done).await;
        let _ = bars.clear();
    }
}

async fn log(tasks: &[(String, Reporter)], done: &CancellationToken) {
    let mut last: Vec<Option<Line>> = vec![None; tasks.len()];
    loop {
        tokio::select! {
            () = done.cancelled() => return,
            () = tokio::time::sleep(LOG) => {}
        }
        for ((name, reporter), last) in tasks.iter().zip(&mut last) {
            let progress = reporter.snapshot();
            let line = Line::of(&progress);
            // An idle task repeats nothing.
            if last.as_ref() == Some(&line) {
                continue;
            }
            tracing::info!(
                task = %name,
                phase = line.phase,
                rows_loaded = line.rows_loaded,
                rows_estimated = line.rows_estimated,
                tables_ready = line.tables_ready,
                tables = line.tables,
                changes = line.changes,
                position = line.position,
                last_commit_seconds_ago = since(progress.committed_at).map(|d| d.as_secs()),
                "progress"
            );
            *last = Some(line);
        }
    }
}

/// A task in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    phase: &'static str,
    rows_loaded: u64,
    rows_estimated: u64,
    tables_ready: usize,
    tables: usize,
    changes: u64,
    position: Option<String>,
}

impl Line {
    fn of(progress: &Progress) -> Self {
        let tables = progress.tables.values();
        Self {
            phase: progress.phase.name(),
            rows_loaded: progress.rows_loaded(),
            rows_estimated: tables.clone().map(expected).sum(),
            tables_ready: tables.filter(|t| t.state == Some(TableState::Ready)).count(),
            tables: progress.tables.len(),
            changes: changes(progress),
            position: progress.applied.as_ref().map(ToString::to_string),
        }
    }
}

/// Changes that have taken effect.
pub fn changes(progress: &Progress) -> u64 {
    let counts = progress.tables.values().map(|t| t.counts);
    counts.map(|c| c.read()).sum()
}

/// Statistics of the source may lie below what was read already.
fn expected(table: &TableProgress) -> u64 {
    table.rows_estimated.max(table.rows_read)
}

fn since(at: Option<SystemTime>) -> Option<Duration> {
    at.and_then(|at| SystemTime::now().duration_since(at).ok())
}

async fn draw(tasks: &[(String, Reporter)], bars: &MultiProgress, done: &CancellationToken) {
    let mut drawn: Vec<Drawn> = tasks.iter().map(|(name, _)| Drawn::new(name, bars)).collect();
    loop {
        for ((_, reporter), drawn) in tasks.iter().zip(&mut drawn) {
            drawn.update(&reporter.snapshot(), bars);
        }
        tokio::select! {
            () = done.cancelled() => return,
            () = tokio::time::sleep(REDRAW) => {}
        }
    }
}

/// The lines of one task.
struct Drawn {
    summary: ProgressBar,
    tables: BTreeMap<TableId, ProgressBar>,
}

impl Drawn {
    fn new(name: &str, bars: &MultiProgress) -> Self {
        let summary = bars.add(ProgressBar::new_spinner());
        summary.set_style(style("{spinner} {prefix}: {msg}"));
        summary.set_prefix(name.to_owned());
        Self { summary, tables: BTreeMap::new() }
    }

    fn update(&mut self, progress: &Progress, bars: &MultiProgress) {
        self.summary.set_message(sentence(progress));
        self.summary.tick();
        let loading = |t: &TableProgress| t.state == Some(TableState::Loading) && t.rows_read > 0;
        self.tables.retain(|id, bar| {
            let goes_on = progress.phase == Phase::Loading && progress.tables.get(id).is_some_and(loading);
            if !goes_on {
                bar.finish_and_clear();
                bars.remove(bar);
            }
            goes_on
        });
        if progress.phase != Phase::Loading {
            return;
        }
        for (id, table) in progress.tables.iter().filter(|(_, t)| loading(t)) {
            if !self.tables.contains_key(id) && self.tables.len() < MOST_BARS {
                let bar = bars.insert_after(&self.summary, ProgressBar::new(0));
                bar.set_style(style("  {prefix:32!} [{bar:30}] {human_pos}/{human_len} rows, {rate}, {eta} left"));
                bar.set_prefix(id.to_string());
                self.tables.insert(id.clone(), bar);
            }
            if let Some(bar) = self.tables.get(id) {
                bar.set_length(expected(table));
                bar.set_position(table.rows_read);
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").with_key("rate", |state: &ProgressState, w: &mut dyn Write| {
        let _ = write!(w, "{}/s", HumanCount(state.per_sec() as u64));
    })
}

fn sentence(progress: &Progress) -> String {
    let line = Line::of(progress);
    match &progress.phase {
        Phase::Starting | Phase::Paused | Phase::Done => line.phase.to_owned(),
        Phase::Failed(trouble) => format!("failed: {trouble}"),
        Phase::Retrying(trouble) => format!("will try again after: {trouble}"),
        Phase::Loading => format!(
            "loading, {} of {} tables ready, {} rows of about {}",
            line.tables_ready,
            line.tables,
            HumanCount(line.rows_loaded),
            HumanCount(line.rows_estimated)
        ),
        Phase::Following => {
            let position = line.position.unwrap_or_default();
            let ago = since(progress.committed_at).map(|d| format!(", last commit {} s ago", d.as_secs()));
            format!("following {position}, {} changes{}", HumanCount(line.changes), ago.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_never_runs_past_its_end() {
        let reporter = Reporter::default();
        let id = TableId::new("public", "t");
        reporter.update(|p| p.phase = Phase::Loading);
        reporter.table(&id, |t| {
            t.state = Some(TableState::Loading);
            (t.rows_estimated, t.rows_read, t.rows_loaded) = (10, 25, 5);
        });
        assert_eq!(sentence(&reporter.snapshot()), "loading, 0 of 1 tables ready, 5 rows of about 25");
    }

    #[test]
    fn following_tells_position_and_changes() {
        let reporter = Reporter::default();
        reporter.update(|p| {
            p.phase = Phase::Following;
            p.applied = Some(trem_engine::position::Position::new(7, "0/7"));
        });
        reporter.table(&TableId::new("public", "t"), |t| (t.counts.inserted, t.counts.merged) = (1000, 500));
        assert_eq!(sentence(&reporter.snapshot()), "following 0/7, 1,500 changes");
    }
}
