//! The one place where a PostgreSQL error becomes an [`Error`] with a class and a remedy.

use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;
use trem_engine::{Class, Error, Remedy};

/// Sessions that a pooler has mixed up.
const POOLED: &str = "a connection pooler hands out sessions of others: name the server itself in the endpoint's \
                      url, or set the pooler to pool whole sessions";

/// What an error says, and what to do about it. Exact codes come first, then classes (the first two characters); what
/// is not listed is `Table`: functions raise codes of their own. `Table`: where it is known which table a statement was
/// for, that table's matter alone; once this is mended it is loaded again, which the runner adds. Codes: manual,
/// appendix A.
const TABLE: &[(&str, Class, &str)] = &[
    ("08P01", Class::Fatal, ""),
    ("08", Class::Transient, ""),
    ("57P01", Class::Transient, ""),
    ("57P02", Class::Transient, ""),
    ("57P03", Class::Transient, ""),
    ("57P05", Class::Transient, ""),
    ("57P04", Class::Refused, "the database has been dropped: correct the endpoint's url"),
    (
        "57014",
        Class::Transient,
        "a statement was cancelled: look who cancels it (pg_cancel_backend, statement_timeout)",
    ),
    ("53100", Class::Transient, "free disk space on the server"),
    ("53300", Class::Transient, "raise max_connections or close other connections"),
    ("53400", Class::Refused, "raise the limit that the message names, such as max_replication_slots"),
    ("53", Class::Transient, "the server is out of resources"),
    ("55P03", Class::Locked, "another session holds a lock on the table: see pg_locks and pg_stat_activity"),
    ("55006", Class::Transient, "the object is in use by another session"),
    ("55000", Class::Table, "see what the message says about the table"),
    ("40001", Class::Transient, ""),
    ("40P01", Class::Transient, ""),
    (
        "25006",
        Class::Transient,
        "the server takes no writes: see why default_transaction_read_only is on, or, if it is a standby, promote it \
         or name the primary in the endpoint's url",
    ),
    ("25P03", Class::Transient, ""),
    ("25P04", Class::Transient, ""),
    ("58030", Class::Transient, "the server met an input/output error: look at its log and its disks"),
    ("42501", Class::Refused, "grant the privilege that the message names to the role in the endpoint's url"),
    ("28P01", Class::Refused, "correct the user or the password in the endpoint's url"),
    (
        "28000",
        Class::Refused,
        "look at the role's LOGIN attribute, at pg_hba.conf, and at sslmode in the endpoint's url",
    ),
    ("28", Class::Refused, "look at the user and password in the endpoint's url and at pg_hba.conf"),
    ("3D000", Class::Refused, "correct the database in the endpoint's url, or create it"),
    ("3F000", Class::Table, "create the schema that the message names"),
    ("42P05", Class::Refused, POOLED),
    ("26000", Class::Refused, POOLED),
    ("42704", Class::Refused, "create the missing type, or the extension it belongs to"),
    ("42883", Class::Table, "create the function that the message names, or drop what calls it"),
    ("2BP01", Class::Refused, "drop the objects that depend on it first"),
    (
        "23502",
        Class::Table,
        "drop the NOT NULL constraint of the target column, or give the column a value at the source",
    ),
    ("23503", Class::Table, "drop the target's foreign key, or let the role set session_replication_role"),
    (
        "23505",
        Class::Table,
        "drop the target's unique constraint or index, which the source does not have, or the rows of its own that the \
         target has",
    ),
    ("23514", Class::Table, "drop the target's check constraint, which the source does not have"),
    (
        "23P01",
        Class::Table,
        "drop the target's exclusion constraint, which the source does not have, or the rows of its own that it has",
    ),
    ("23", Class::Table, "drop the target's constraint, which the source does not have"),
    (
        "22P02",
        Class::Table,
        "the target's type does not take the value (a new enum label? ALTER TYPE .. ADD VALUE there)",
    ),
    (
        "22P05",
        Class::Table,
        "the target's encoding lacks the character: replicate into a database of encoding UTF8, or correct the text",
    ),
    (
        "22021",
        Class::Table,
        "the text is not valid in the database's encoding: correct it at the source, or choose encoding UTF8",
    ),
    ("22", Class::Table, "the target's column does not take the value: change its type"),
    ("42P01", Class::Table, "see who has dropped the target's table"),
    ("42703", Class::Table, "see who has dropped a column of the target's table"),
    ("42804", Class::Table, "see who has changed a column's type in the target's table"),
    ("42809", Class::Table, "see who has put something else in the place of the target's table"),
    ("428C9", Class::Table, "let the target's column take values: SET GENERATED BY DEFAULT, or DROP EXPRESSION"),
    ("42P10", Class::Table, "see who has dropped the unique index over the key of the target's table"),
    ("42P17", Class::Table, "see what the message says about the definition, and define it another way there"),
    ("44000", Class::Table, "the target's view has a check option: replicate into its table"),
    ("54", Class::Table, "drop the target's index, or make its columns smaller: the value is too large for it"),
    ("09", Class::Table, TRIGGER),
    ("27", Class::Table, TRIGGER),
    ("38", Class::Table, TRIGGER),
    ("39", Class::Table, TRIGGER),
    ("P0", Class::Table, TRIGGER),
    ("XX001", Class::Table, "the server found the table's file damaged: look at its log and its disks"),
    ("XX002", Class::Table, "the server found an index damaged: REINDEX TABLE"),
    ("0A000", Class::Refused, ""),
];

/// Codes and classes that are no table's matter, whichever the statement was for.
const OF_TASK: &[&str] = &["26000", "28", "3D", "42P05", "57P04"];

/// What a function said that the target calls by itself.
const TRIGGER: &str = "see which trigger or constraint of the target's table runs the function that the message names: \
                       one that is ENABLE ALWAYS or ENABLE REPLICA fires for replicated rows too";

/// Codes that say several things, by the routine of the server that raised the error: its words are translated, the
/// routine's name is not.
const ROUTINES: &[(&str, &str, &str)] = &[
    ("23514", "ExecFindPartition", "create the partition for the row in the target's table"),
    ("23514", "ExecPartitionCheckEmitError", "the target's partition does not take the row: see its bounds"),
    ("0A000", "RewriteQuery", "drop the rule of the target's table, or ALTER TABLE .. DISABLE RULE"),
    ("42501", "check_enable_rls", ROW_SECURITY),
    ("42501", "ExecWithCheckOptions", ROW_SECURITY),
];

const ROW_SECURITY: &str = "the table has row-level security: give the role BYPASSRLS, or disable it for the table";

/// What may be done about an SQLSTATE, and what the operator should do.
pub fn classify(code: &str) -> (Class, Option<&'static str>) {
    let found =
        TABLE.iter().find(|(c, ..)| *c == code).or_else(|| TABLE.iter().find(|(c, ..)| code.get(..2) == Some(c)));
    let unlisted = if code.is_empty() { Class::Fatal } else { Class::Table };
    found.map_or((unlisted, None), |(_, class, remedy)| (*class, (!remedy.is_empty()).then_some(*remedy)))
}

/// The error of a client call.
pub fn error(e: tokio_postgres::Error) -> Error {
    if let Some(db) = e.as_db_error() {
        let fields = Fields {
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(str::to_owned),
            hint: db.hint().map(str::to_owned),
            context: db.where_().map(str::to_owned),
            routine: db.routine().map(str::to_owned),
        };
        return fields.into_error();
    }
    let text = e.to_string();
    if e.is_closed() {
        return Error::transient("the connection to the database was closed");
    }
    let io_kind = std::error::Error::source(&e).and_then(|s| s.downcast_ref::<io::Error>()).map(io::Error::kind);
    match io_kind {
        Some(kind) if heals(kind) => Error::transient(text).cause(e.into_source().unwrap_or_else(|| "unknown".into())),
        _ if text.starts_with("error connecting") || text.starts_with("timeout") => {
            with_source(Error::transient(text), e)
        }
        _ if text.contains("TLS") => with_source(Error::refused(text), e)
            .remedy("look at sslmode and sslrootcert in the endpoint's url and at the server's ssl setting"),
        _ if text.starts_with("authentication") || text.starts_with("invalid config") => {
            with_source(Error::refused(text), e).remedy("look at the user and password in the endpoint's url")
        }
        Some(_) if text.starts_with("error communicating") => with_source(Error::transient(text), e),
        _ => with_source(Error::fatal(text), e),
    }
}

/// The error of a replication connection, from the message that the server sent.
pub fn response(body: &ErrorResponseBody) -> Error {
    let mut fields = Fields::default();
    let mut iter = body.fields();
    while let Ok(Some(field)) = iter.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => fields.code = value,
            b'M' => fields.message = value,
            b'D' => fields.detail = Some(value),
            b'H' => fields.hint = Some(value),
            b'W' => fields.context = Some(value),
            b'R' => fields.routine = Some(value),
            _ => {}
        }
    }
    fields.into_error()
}

/// The SQLSTATE that an error's message names, if it came from the server.
pub fn code(error: &Error) -> Option<&str> {
    error.message().split_once("(SQLSTATE ").and_then(|(_, rest)| rest.get(..5))
}

/// Whether the connection was lost, and the server has said nothing of why.
pub fn is_cut(error: &Error) -> bool {
    error.class() == Class::Transient && code(error).is_none()
}

/// The error of a socket.
pub fn io(e: io::Error) -> Error {
    Error::transient("the connection to the database failed").cause(e)
}

fn with_source(error: Error, e: tokio_postgres::Error) -> Error {
    match e.into_source() {
        Some(cause) => error.cause(cause),
        None => error,
    }
}

fn heals(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as K;
    matches!(
        kind,
        K::ConnectionRefused
            | K::ConnectionReset
            | K::ConnectionAborted
            | K::NotConnected
            | K::BrokenPipe
            | K::TimedOut
            | K::UnexpectedEof
            | K::Interrupted
            | K::WouldBlock
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::NotFound
    )
}

#[derive(Default)]
struct Fields {
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    context: Option<String>,
    routine: Option<String>,
}

impl Fields {
    fn into_error(self) -> Error {
        let (class, remedy) = classify(&self.code);
        let raised = |(code, routine, _): &&(&str, &str, &str)| {
            *code == self.code && self.routine.as_deref().is_some_and(|r| r == *routine)
        };
        let remedy = ROUTINES.iter().find(raised).map(|(_, _, remedy)| *remedy).or(remedy);
        let mut message = format!("{} (SQLSTATE {})", self.message, self.code);
        // Where a function raised it, the innermost first.
        let context = self.context.as_deref().and_then(|c| c.lines().next()).filter(|_| remedy == Some(TRIGGER));
        for more in [self.detail.as_deref(), context].into_iter().flatten() {
            message.push_str("; ");
            message.push_str(more);
        }
        let mut error = Error::new(class, message);
        if OF_TASK.iter().any(|code| self.code.starts_with(code)) {
            error = error.of_task();
        }
        match remedy.map(Remedy::from).or(self.hint.map(Remedy::from)) {
            Some(remedy) => error.remedy(remedy),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_codes_win_over_classes() {
        assert_eq!(classify("08006").0, Class::Transient);
        assert_eq!(classify("08P01").0, Class::Fatal);
        assert_eq!(classify("53100"), (Class::Transient, Some("free disk space on the server")));
        assert_eq!(classify("28P01").0, Class::Refused);
        assert_eq!(classify("25006").0, Class::Transient);
        assert_eq!(classify("22P02").0, Class::Table);
        assert_eq!(classify("XX000"), (Class::Table, None));
        assert_eq!(classify("").0, Class::Fatal);
    }

    #[test]
    fn an_error_keeps_its_code() {
        let fields = Fields { code: "42704".to_owned(), message: "gone".to_owned(), ..Fields::default() };
        assert_eq!(code(&fields.into_error().context("doing")), Some("42704"));
        assert_eq!(code(&Error::fatal("x (SQLSTATE")), None);
    }
}
