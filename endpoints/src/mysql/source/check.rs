//! What could stop a task later, looked at before anything is created.

use trem_engine::ports::{Finding, Severity};
use trem_engine::schema::{TableSchema, Type};
use trem_engine::task::Selection;
use trem_engine::{Error, Remedy, Result};

use super::shared::{Inner, no_log};
use crate::mysql::catalog;
use crate::mysql::charset::Charset;
use crate::mysql::row::get;

/// Settings that following the log needs, and what they have to be. A session may have others: each event is looked at
/// too.
const SETTINGS: &[(&str, &str)] = &[
    ("log_bin", "ON"),
    ("binlog_format", "ROW"),
    ("binlog_row_image", "FULL"),
    ("binlog_row_metadata", "FULL"),
    ("log_bin_compress", "OFF"),
];

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
    for table in &tables {
        if let Some(error) = unreadable(table) {
            findings.push(refusal(table.id.to_string(), error.reason(), error.advice().cloned()));
        }
    }
    if follow {
        for error in settings(inner).await? {
            findings.push(refusal("source".to_owned(), error.reason(), error.advice().cloned()));
        }
    }
    Ok(findings)
}

fn refusal(subject: String, message: String, remedy: Option<Remedy>) -> Finding {
    Finding { severity: Severity::Error, subject, message, remedy }
}

/// What stands against following the log at all.
pub(super) async fn settings(inner: &Inner) -> Result<Vec<Error>> {
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

/// A column whose values this version cannot read.
pub(super) fn unreadable(table: &TableSchema) -> Option<Error> {
    table.columns.iter().find_map(|column| {
        let why = match &column.ty {
            Type::Named(name) => format!("its column {} is of type {name}", column.name),
            _ if Charset::of(column).is_none() => {
                format!("its column {} has the character set {}", column.name, column.native.detail)
            }
            _ if column.native.name.contains("mariadb-5.3") => {
                format!("its column {} stands in the format of MariaDB 5.3", column.name)
            }
            _ => return None,
        };
        let error = Error::refused(format!("{why}, which this version does not read")).table(&table.id);
        Some(error.remedy("leave the column out (`exclude-columns` in [[tables]]), or exclude the table"))
    })
}
