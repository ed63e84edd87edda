//! What the server and the account allow.

use std::collections::BTreeSet;

use trem_engine::ports::{Finding, Severity};
use trem_engine::{Remedy, Result};

use super::session::Session;
use crate::mysql::quote;
use crate::mysql::row::get;

/// What is done in database `trem`, and with tables that are replicated.
const PRIVILEGES: [&str; 9] =
    ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "CREATE TEMPORARY TABLES"];

/// Looks at the server; changes nothing. `sessions`: how many will be open at a time.
pub(super) async fn check(session: &mut Session, sessions: usize) -> Result<Vec<Finding>> {
    let sql = "SELECT VERSION(), @@read_only, @@max_connections, current_user(), @@innodb_flush_log_at_trx_commit, \
               (SELECT support FROM information_schema.engines WHERE engine = 'InnoDB'), @@lower_case_table_names, \
               @@log_bin AND @@binlog_format = 'STATEMENT'";
    let rows = session.rows(sql, Vec::new()).await?;
    let mut out = Vec::new();
    let Some(row) = rows.first() else { return Ok(out) };
    let finding = |severity, subject: &str, message: String, remedy: Option<Remedy>| Finding {
        severity,
        subject: subject.to_owned(),
        message,
        remedy,
    };
    out.push(finding(Severity::Ok, "target version", get(row, 0)?, None));
    match get::<i64>(row, 1)? {
        0 => out.push(finding(Severity::Ok, "target", "the server accepts writes".to_owned(), None)),
        _ => {
            let remedy =
                Remedy::Sql("SET GLOBAL read_only = OFF".to_owned()).or("name the primary in the endpoint's url");
            out.push(finding(
                Severity::Error,
                "read_only",
                "is on: the server takes no writes".to_owned(),
                Some(remedy),
            ));
        }
    }
    if !matches!(get::<Option<String>>(row, 5)?.as_deref(), Some("YES" | "DEFAULT")) {
        let message = "is not there, and no other storage engine has transactions".to_owned();
        out.push(finding(Severity::Error, "InnoDB", message, Some("start the server with InnoDB".into())));
    }
    let most = get::<u64>(row, 2)?;
    if most < sessions as u64 + 1 {
        let message = format!("is {most}, and {sessions} sessions are wanted");
        let remedy = Remedy::Sql(format!("SET GLOBAL max_connections = {}", most + sessions as u64));
        out.push(finding(Severity::Error, "max_connections", message, Some(remedy)));
    }
    if get::<i64>(row, 4)? != 1 {
        let message = "is not 1: what a table's state has become may be lost in a crash of the server, and the source \
                       keeps its log a few seconds longer";
        let remedy = Remedy::Sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1".to_owned());
        out.push(finding(Severity::Warning, "innodb_flush_log_at_trx_commit", message.to_owned(), Some(remedy)));
    }
    if !session.local_infile {
        let remedy = Remedy::Sql("SET GLOBAL local_infile = ON".to_owned());
        let message = "is off: rows are loaded by INSERT, which takes longer".to_owned();
        out.push(finding(Severity::Warning, "local_infile", message, Some(remedy)));
    }
    if get::<i64>(row, 6)? != 0 {
        let message = "is not 0: names of tables that differ by case alone are one name here".to_owned();
        out.push(finding(Severity::Warning, "lower_case_table_names", message, None));
    }
    if get::<i64>(row, 7)? != 0 {
        let message = "is STATEMENT: such a log does not take what trem writes".to_owned();
        let remedy = Some(Remedy::Sql("SET GLOBAL binlog_format = ROW".to_owned()));
        out.push(finding(Severity::Error, "binlog_format", message, remedy));
    }
    out.push(privileges(session, &get::<String>(row, 3)?).await?);
    Ok(out)
}

/// What the account may do in database `trem`. Privileges by way of a role are not in these tables.
async fn privileges(session: &mut Session, user: &str) -> Result<Finding> {
    let sql = "SELECT privilege_type FROM information_schema.user_privileges \
               UNION SELECT privilege_type FROM information_schema.schema_privileges WHERE 'trem' LIKE table_schema";
    let rows = session.rows(sql, Vec::new()).await?;
    let has = rows.iter().map(|row| get::<String>(row, 0)).collect::<Result<BTreeSet<_>>>()?;
    let missing: Vec<&str> = PRIVILEGES.into_iter().filter(|p| !has.contains(*p)).collect();
    let subject = "target privileges".to_owned();
    if missing.is_empty() {
        let message = format!("{user} may create and change tables in database trem");
        return Ok(Finding { severity: Severity::Ok, subject, message, remedy: None });
    }
    let roles = session.rows("SELECT 1 FROM information_schema.enabled_roles WHERE role_name IS NOT NULL", Vec::new());
    let by_role = roles.await.is_ok_and(|rows| !rows.is_empty());
    let missing = missing.join(", ");
    let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
    let grant = format!("GRANT {missing} ON trem.* TO {}@{}", quote::literal(name), quote::literal(host));
    Ok(Finding {
        severity: if by_role { Severity::Warning } else { Severity::Error },
        subject,
        message: format!("{user} has not been granted {missing} on database trem"),
        remedy: Some(Remedy::Sql(grant)),
    })
}
