//! What could stop a task later, looked at before anything is created.

use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::{TableId, TableSchema};
use trem_engine::task::Selection;
use trem_engine::{Class, Error, Remedy, Result};

use super::obstacles;
use super::rights;
use super::shared::{Inner, no_log};
use crate::mysql::catalog;
use crate::mysql::error::is_denied;
use crate::mysql::row::get;

/// Settings that following the log needs, and what they have to be. A session may have others: each event is looked at
/// too.
const SETTINGS: &[(&str, &str)] =
    &[("log_bin", "ON"), ("binlog_format", "ROW"), ("binlog_row_image", "FULL"), ("binlog_row_metadata", "FULL")];

/// Looks at the server and the selected tables.
pub(super) async fn check(inner: &Inner, want: &Selection, follow: bool) -> Result<Vec<Finding>> {
    let mut session = inner.session().await?;
    let tables = catalog::discover(&mut session, want).await?.tables;
    inner.give_back(session).await;
    let mut findings = vec![Finding {
        severity: Severity::Ok,
        subject: "source".to_owned(),
        message: format!("{} tables are selected", tables.len()),
        remedy: None,
    }];
    for rule in &want.rules {
        for pattern in rule.include.iter().filter(|pattern| !tables.iter().any(|t| pattern.matches(&t.id))) {
            let subject = format!("tables.include `{pattern}`");
            let remedy = "correct it in [[tables]]; a table is named by its database and its name, as `shop.orders`";
            findings.push(refusal(subject, "it matches no table of the source".to_owned(), Some(remedy.into())));
        }
    }
    let mut readable = true;
    if follow {
        for error in settings(inner).await? {
            readable &= !is_denied(&error);
            findings.push(refusal("source".to_owned(), error.reason(), error.advice().cloned()));
        }
        findings.extend(forgets(inner).await?);
    }
    let tables: Vec<&TableSchema> = tables.iter().map(AsRef::as_ref).collect();
    for error in obstacles::of(inner, &tables, follow && readable).await? {
        let subject = error.table_id().map_or_else(String::new, ToString::to_string);
        findings.push(refusal(subject, error.reason(), error.advice().cloned()));
    }
    findings.extend(passed_over(inner, want).await?);
    Ok(findings)
}

fn refusal(subject: String, message: String, remedy: Option<Remedy>) -> Finding {
    Finding { severity: Severity::Error, subject, message, remedy }
}

/// Tables that a wildcard covers and that are of no kind that is replicated.
async fn passed_over(inner: &Inner, want: &Selection) -> Result<Vec<Finding>> {
    let sql = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'SYSTEM VERSIONED'";
    let mut found = Vec::new();
    for row in &inner.rows(sql).await? {
        let id = TableId::new(get::<String>(row, 0)?, get::<String>(row, 1)?);
        if want.takes(&id) {
            found.push(Finding {
                severity: Severity::Warning,
                subject: id.to_string(),
                message: "it is system-versioned, and its log tells other changes than were made: it is left out"
                    .to_owned(),
                remedy: Some("exclude it in [[tables]]".into()),
            });
        }
    }
    Ok(found)
}

/// Settings with which a server that crashes forgets what it has told already.
async fn forgets(inner: &Inner) -> Result<Option<Finding>> {
    const NAMES: &str = "'innodb_flush_log_at_trx_commit', 'sync_binlog'";
    let rows = inner.rows(&format!("SHOW GLOBAL VARIABLES WHERE variable_name IN ({NAMES})")).await?;
    let mut lax = Vec::new();
    for row in &rows {
        let (name, value): (String, String) = (get(row, 0)?, get(row, 1)?);
        if value != "1" {
            lax.push(format!("{name} = {value}"));
        }
    }
    if lax.is_empty() {
        return Ok(None);
    }
    let right = "SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1";
    Ok(Some(Finding {
        severity: Severity::Warning,
        subject: "source".to_owned(),
        message: format!("with {} a crash may take back what the target has already", lax.join(" and ")),
        remedy: Some(Remedy::Sql(right.to_owned())),
    }))
}

/// What stands against following the log at all.
pub(super) async fn settings(inner: &Inner) -> Result<Vec<Error>> {
    match rights::try_log(inner).await {
        // Nothing else can be asked then.
        Err(error) if error.class() == Class::Refused => return Ok(vec![error]),
        other => other?,
    }
    let names: Vec<String> = SETTINGS.iter().map(|(name, _)| format!("'{name}'")).collect();
    let sql = format!("SHOW GLOBAL VARIABLES WHERE variable_name IN ({})", names.join(", "));
    let rows = inner.rows(&sql).await?;
    let mut errors = Vec::new();
    for (name, wanted) in SETTINGS {
        for row in &rows {
            let (is, value): (String, String) = (get(row, 0)?, get(row, 1)?);
            if is.eq_ignore_ascii_case(name) && !value.eq_ignore_ascii_case(wanted) {
                errors.push(match *name {
                    "log_bin" => no_log(),
                    _ => Error::refused(format!("{name} is {value}")).remedy(
                        Remedy::Sql(format!("SET GLOBAL {name} = {wanted}")).then("let its clients connect anew"),
                    ),
                });
            }
        }
    }
    Ok(errors)
}
