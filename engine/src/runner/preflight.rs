//! Everything that can be known to stand against a task before anything is touched.

use std::sync::Arc;

use crate::error::{Class, Error, Result};
use crate::ports::{Finding, Severity, TablePreview};
use crate::routes::Routes;
use crate::schema::{Catalog, TableId, TableSchema};
use crate::task::Selection;

use super::task::{Task, both};

/// What a look at both ends brought.
pub struct Preflight {
    /// The tables selected.
    pub catalog: Catalog,
    /// Where they go.
    pub routes: Routes,
    /// What was found at the endpoints, worst first.
    pub findings: Vec<Finding>,
    /// What would happen on the target.
    pub previews: Vec<TablePreview>,
}

impl Preflight {
    /// All findings, of endpoints and tables, that refuse the task.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        let tables = self.previews.iter().flat_map(|p| &p.findings);
        self.findings.iter().chain(tables).filter(|f| f.severity == Severity::Error)
    }

    /// One error that names them all, if there is any.
    ///
    /// # Errors
    /// Class `Refused`.
    pub fn verdict(&self) -> Result<()> {
        let errors: Vec<&Finding> = self.errors().collect();
        let said = |f: &Finding| format!("{}: {}", f.subject, f.message);
        match errors[..] {
            [] => Ok(()),
            [only] => {
                let error = Error::refused(said(only));
                Err(match &only.remedy {
                    Some(remedy) => error.remedy(remedy.clone()),
                    None => error,
                })
            }
            _ => {
                let with_remedy = |f: &&Finding| match &f.remedy {
                    Some(remedy) => format!("{} (remedy: {remedy})", said(f)),
                    None => said(f),
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
        findings.push(Finding {
            severity: Severity::Error,
            subject: format!("task {}", plan.name),
            message: "source and target are the same database".to_owned(),
            remedy: Some("name two different databases in `source` and `target`".into()),
        });
    }
    findings.extend(at_source);
    findings.extend(at_target);
    findings.extend(unmatched(&plan.selection, &catalog));
    let routes = Routes::of(task.rules.as_ref(), &catalog);
    findings.extend(routes.refused().iter().map(refused));
    findings.extend(task.rules.unmatched(&catalog.tables).into_iter().map(idle));
    let known = task.target.record().await?.unwrap_or_default();
    if plan.mode.follows() && known.lineage.is_none() {
        findings.extend(task.source.vacant().await.err().map(taken).transpose()?);
    }
    let mapped = routes.target_catalog(&catalog);
    let previews = task.target.plan(&mapped, &known, plan.on_existing, plan.mode.loads()).await?;
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    Ok(Preflight { catalog, routes, findings, previews })
}

fn refused((table, error): &(Arc<TableSchema>, Error)) -> Finding {
    Finding {
        severity: Severity::Error,
        subject: table.id.to_string(),
        message: error.reason(),
        remedy: error.advice().cloned(),
    }
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

fn idle(rule: String) -> Finding {
    Finding {
        severity: Severity::Warning,
        subject: rule,
        message: "it applies to no table of the task".to_owned(),
        remedy: Some("correct its `match`; names are those that the rules before it give".into()),
    }
}

fn unmatched(selection: &Selection, catalog: &Catalog) -> Vec<Finding> {
    let found: Vec<TableId> = catalog.tables.iter().map(|t| t.id.clone()).collect();
    let patterns = selection.unmatched(&found);
    let finding = |glob: &crate::task::Glob| Finding {
        severity: Severity::Error,
        subject: format!("tables.include `{glob}`"),
        message: match glob.exact() {
            Some(_) => "the source has no such table, or the role may not see it".to_owned(),
            None => "the pattern matches no table of the source".to_owned(),
        },
        remedy: Some("correct the pattern; names are case-sensitive".into()),
    };
    patterns.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_told_once() {
        let finding = |subject: &str| Finding {
            severity: Severity::Error,
            subject: subject.to_owned(),
            message: "is wrong".to_owned(),
            remedy: Some("mend it".into()),
        };
        let told = |findings: Vec<Finding>| {
            let preflight =
                Preflight { catalog: Catalog::default(), routes: Routes::default(), findings, previews: Vec::new() };
            preflight.verdict().map_err(|e| e.to_string())
        };
        assert_eq!(told(Vec::new()), Ok(()));
        assert_eq!(told(vec![finding("a")]), Err("a: is wrong (remedy: mend it)".to_owned()));
        let two = "a: is wrong (remedy: mend it); b: is wrong (remedy: mend it)";
        assert_eq!(told(vec![finding("a"), finding("b")]), Err(two.to_owned()));
    }
}
