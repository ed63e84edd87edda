//! Everything that can be known to stand against a task before anything is touched.

use std::sync::Arc;

use crate::error::{Class, Error, Result};
use crate::ports::{Finding, Severity, TablePreview, Unmatched};
use crate::route::Route;
use crate::routes::Routes;
use crate::schema::{Catalog, TableId, TableSchema};
use crate::side::Side;

use super::task::{Task, both};

/// A finding, and the end that it is about, unless it is about neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The end.
    pub side: Option<Side>,
    /// What was found.
    pub finding: Finding,
}

impl Found {
    /// A finding about one end, its statements for that end.
    pub fn at(side: Side, mut finding: Finding) -> Self {
        finding.remedy = finding.remedy.map(|remedy| remedy.at(side));
        Self { side: Some(side), finding }
    }

    /// A finding about the task.
    pub fn of_task(finding: Finding) -> Self {
        Self { side: None, finding }
    }

    /// What was looked at and what was found, in a sentence; the end first, unless it is named there.
    pub fn said(&self) -> String {
        let Finding { subject, message, .. } = &self.finding;
        match self.side {
            Some(side) if !subject.starts_with(&side.to_string()) => format!("{side}, {subject}: {message}"),
            _ => format!("{subject}: {message}"),
        }
    }
}

/// What a look at both ends brought.
pub struct Preflight {
    /// The tables selected.
    pub catalog: Catalog,
    /// Where they go.
    pub routes: Routes,
    /// What was found at the endpoints, and about the task, worst first.
    pub findings: Vec<Found>,
    /// What would happen on the target.
    pub previews: Vec<TablePreview>,
}

impl Preflight {
    /// All findings, of endpoints and tables, that refuse the task.
    pub fn errors(&self) -> impl Iterator<Item = Found> {
        let tables = self.previews.iter().flat_map(|p| &p.findings).map(|f| Found::at(Side::Target, f.clone()));
        self.findings.iter().cloned().chain(tables).filter(|f| f.finding.severity == Severity::Error)
    }

    /// One error that names them all, if there is any.
    ///
    /// # Errors
    /// Class `Refused`.
    pub fn verdict(&self) -> Result<()> {
        let errors: Vec<Found> = self.errors().collect();
        match &errors[..] {
            [] => Ok(()),
            [only] => {
                let error = Error::refused(only.said());
                Err(match &only.finding.remedy {
                    Some(remedy) => error.remedy(remedy.clone()),
                    None => error,
                })
            }
            _ => {
                let with_remedy = |f: &Found| match &f.finding.remedy {
                    Some(remedy) => format!("{} (remedy: {remedy})", f.said()),
                    None => f.said(),
                };
                Err(Error::refused(errors.iter().map(with_remedy).collect::<Vec<_>>().join("; ")))
            }
        }
    }
}

/// Looks at both ends; touches nothing.
///
/// # Errors
/// When an end cannot be reached or asked. What stands against the task is in the findings.
pub async fn preflight(task: &Task) -> Result<Preflight> {
    let plan = &task.plan;
    let workers = plan.load.workers;
    let source = async {
        let identity = task.source.identity().await?;
        let findings = task.source.check(&plan.selection, plan.mode.follows(), workers).await?;
        Ok::<_, Error>((identity, findings, task.source.discover(&plan.selection).await?))
    };
    let target = async { Ok((task.target.identity().await?, task.target.check(workers).await?)) };
    let ((source, at_source, catalog), (target, at_target)) = both(source, target).await?;
    let mut findings = Vec::new();
    if source == target {
        findings.push(Found::of_task(Finding {
            severity: Severity::Error,
            subject: format!("task {}", plan.name),
            message: "source and target are the same database".to_owned(),
            remedy: Some("name two different databases in `source` and `target`".into()),
        }));
    }
    findings.extend(at_source.into_iter().map(|f| Found::at(Side::Source, f)));
    findings.extend(at_target.into_iter().map(|f| Found::at(Side::Target, f)));
    let routes = Routes::of(task.rules.as_ref(), &catalog);
    findings.extend(routes.refused().iter().map(refused).map(Found::of_task));
    findings.extend(task.rules.unmatched(&catalog.tables).into_iter().map(idle).map(Found::of_task));
    let known = task.target.record().await?.unwrap_or_default();
    if plan.mode.follows() && known.lineage.is_none() {
        let taken = task.source.vacant().await.err().map(taken).transpose()?;
        findings.extend(taken.map(|f| Found::at(Side::Source, f)));
    }
    let mapped = routes.target_catalog(&catalog);
    let mut previews = task.target.plan(&mapped, &known, plan.on_existing, plan.mode.loads()).await?;
    let histories = previews.split_off(mapped.tables.len().min(previews.len()));
    for route in routes.all() {
        if let Some(preview) = previews.iter_mut().find(|p| p.table.id == route.target().id) {
            preview.take_in(history_of(route, &histories));
            preview.findings.extend(merged(route, &routes.merged_with(route)));
        }
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.finding.severity));
    Ok(Preflight { catalog, routes, findings, previews })
}

/// What is planned for the history beside a table; once, where several tables share it.
fn history_of<'a>(route: &Route, histories: &'a [TablePreview]) -> Option<&'a TablePreview> {
    let id = &route.history()?.target().id;
    histories.iter().find(|preview| preview.table.id == *id)
}

fn refused((table, error): &(Arc<TableSchema>, Error)) -> Finding {
    Finding {
        severity: Severity::Error,
        subject: table.id.to_string(),
        message: error.reason(),
        remedy: error.advice().cloned(),
    }
}

/// What is taken for granted of a table that becomes one with others.
fn merged(route: &Route, others: &[&TableId]) -> Option<Finding> {
    let target = route.target();
    if others.is_empty() || !(target.trusts_keys() || target.id.is_mixed()) {
        return None;
    }
    let others = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut message = format!("becomes {} together with {others}", target.id);
    if target.trusts_keys() {
        message.push_str("; that no two of them have rows of the same key is taken for granted");
    }
    if target.id.is_mixed() {
        message.push_str("; no column says where a row is from: one of them that is emptied is suspended");
    }
    let remedy = "add a column made of source_schema() or source_table(), and name it in set-key";
    let subject = route.source().id.to_string();
    Some(Finding { severity: Severity::Warning, subject, message, remedy: Some(remedy.into()) })
}

/// What the task would create at the source, and is there already.
fn taken(error: Error) -> Result<Finding> {
    if error.class() != Class::Refused {
        return Err(error);
    }
    Ok(Finding {
        severity: Severity::Error,
        subject: "source".to_owned(),
        message: error.reason(),
        remedy: error.advice().cloned(),
    })
}

fn idle(Unmatched { rule, nearest }: Unmatched) -> Finding {
    let meant = nearest.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default();
    Finding {
        severity: Severity::Warning,
        subject: rule,
        message: "it applies to no table of the task".to_owned(),
        remedy: Some(format!("correct its `match`{meant}; names are those that the rules before it give").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remedy::Remedy;

    #[test]
    fn a_remedy_is_told_once() {
        let finding = |subject: &str| {
            let (subject, message) = (subject.to_owned(), "is wrong".to_owned());
            let remedy = Some(Remedy::Sql("mend it".to_owned()));
            Found::at(Side::Source, Finding { severity: Severity::Error, subject, message, remedy })
        };
        let told = |findings: Vec<Found>| {
            let preflight =
                Preflight { catalog: Catalog::default(), routes: Routes::default(), findings, previews: Vec::new() };
            preflight.verdict().map_err(|e| e.to_string())
        };
        assert_eq!(told(Vec::new()), Ok(()));
        let one = "source, a: is wrong (remedy: run `mend it` at the source)";
        assert_eq!(told(vec![finding("a")]), Err(one.to_owned()));
        let two = format!("{one}; {}", one.replace(", a:", ", b:"));
        assert_eq!(told(vec![finding("a"), finding("b")]), Err(two));
    }
}
