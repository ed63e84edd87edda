//! Everything that can be known to stand against a task before anything is touched.

use crate::error::{Error, Result};
use crate::ports::{Finding, Severity, TablePreview};
use crate::schema::{Catalog, TableId};
use crate::task::Selection;

use super::Task;

/// What a look at both ends brought.
pub struct Preflight {
    /// The tables selected.
    pub catalog: Catalog,
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
        let Some(first) = errors.first() else { return Ok(()) };
        let texts: Vec<String> = errors.iter().map(|f| describe(f)).collect();
        let error = Error::refused(texts.join("; "));
        Err(match (&first.remedy, errors.len()) {
            (Some(remedy), 1) => error.remedy(remedy.clone()),
            _ => error,
        })
    }
}

fn describe(finding: &Finding) -> String {
    match &finding.remedy {
        Some(remedy) => format!("{}: {} (remedy: {remedy})", finding.subject, finding.message),
        None => format!("{}: {}", finding.subject, finding.message),
    }
}

/// Looks at both ends; touches nothing.
///
/// # Errors
/// When an end cannot be reached or asked. What stands against the task is in the findings.
pub async fn preflight(task: &Task) -> Result<Preflight> {
    let plan = &task.plan;
    let source = async {
        let identity = task.source.identity().await?;
        let findings = task.source.check(&plan.selection, plan.mode.follows()).await?;
        Ok::<_, Error>((identity, findings, task.source.discover(&plan.selection).await?))
    };
    let target = async { Ok((task.target.identity().await?, task.target.check().await?)) };
    let ((source, at_source, catalog), (target, at_target)) = super::both(source, target).await?;
    let mut findings = Vec::new();
    if source == target {
        findings.push(Finding {
            severity: Severity::Error,
            subject: format!("task {}", plan.name),
            message: "source and target are the same database".to_owned(),
            remedy: Some("name two different databases in `source` and `target`".to_owned()),
        });
    }
    findings.extend(at_source);
    findings.extend(at_target);
    findings.extend(unmatched(&plan.selection, &catalog));
    let mapped = super::attempt::mapped(&task.transforms, &catalog)?;
    let previews = task.target.plan(&mapped, plan.on_existing, plan.mode.loads()).await?;
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    Ok(Preflight { catalog, findings, previews })
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
        remedy: Some("correct the pattern; names are case-sensitive".to_owned()),
    };
    patterns.into_iter().map(finding).collect()
}
