//! The one place where a PostgreSQL error becomes an [`Error`] with a class and a remedy.

use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;
use trem_engine::schema::TableId;
use trem_engine::{Class, Error, Remedy};

/// Sessions that a pooler has mixed up.
const POOLED: &str = "a connection pooler hands out sessions of others: name the server itself in the endpoint's \
                      url, or set the pooler to pool whole sessions";

/// Exact codes first, then classes (the first two characters); what is not listed is `Fatal`. A table that is suspended
/// is loaded again when this is mended: the runner adds that.
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
    ("53400", Class::Transient, "raise the limit that the message names, such as max_replication_slots"),
    ("53", Class::Transient, "the server is out of resources"),
    ("55P03", Class::Transient, "another session holds a lock on the table: see pg_locks and pg_stat_activity"),
    ("55006", Class::Transient, "the object is in use by another session"),
    ("55000", Class::Fatal, ""),
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
    ("42P05", Class::Refused, POOLED),
    ("26000", Class::Refused, POOLED),
    ("42704", Class::Refused, "create the missing type, or the extension it belongs to"),
    ("2BP01", Class::Refused, "drop the objects that depend on it first"),
    (
        "23502",
        Class::Table,
        "drop the NOT NULL constraint of the target column, or give the column a value at the source",
    ),
    ("23503", Class::Table, "drop the target's foreign key, or let the role set session_replication_role"),
    ("23514", Class::Table, "drop the target's check constraint, which the source does not have"),
    (
        "22P02",
        Class::Table,
        "the target's type does not take the value (a new enum label? ALTER TYPE .. ADD VALUE there)",
    ),
    ("22", Class::Table, "the target's column does not take the value: change its type"),
    ("42P01", Class::Table, "see who has dropped the target's table"),
    ("42703", Class::Table, "see who has dropped a column of the target's table"),
    ("42804", Class::Table, "see who has changed a column's type in the target's table"),
    ("0A000", Class::Refused, ""),
];

/// What may be done about an SQLSTATE, and what the operator should do.
pub fn classify(code: &str) -> (Class, Option<&'static str>) {
    let found =
        TABLE.iter().find(|(c, ..)| *c == code).or_else(|| TABLE.iter().find(|(c, ..)| code.get(..2) == Some(c)));
    found.map_or((Class::Fatal, None), |(_, class, remedy)| (*class, (!remedy.is_empty()).then_some(*remedy)))
}

/// The error of a client call.
pub fn error(e: tokio_postgres::Error) -> Error {
    if let Some(db) = e.as_db_error() {
        let fields = Fields {
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(str::to_owned),
            hint: db.hint().map(str::to_owned),
            schema: db.schema().map(str::to_owned),
            table: db.table().map(str::to_owned),
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
            b's' => fields.schema = Some(value),
            b't' => fields.table = Some(value),
            _ => {}
        }
    }
    fields.into_error()
}

/// The SQLSTATE that an error's message names, if it came from the server.
pub fn code(error: &Error) -> Option<&str> {
    error.message().split_once("(SQLSTATE ").and_then(|(_, rest)| rest.get(..5))
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
    schema: Option<String>,
    table: Option<String>,
}

impl Fields {
    fn into_error(self) -> Error {
        let (class, remedy) = classify(&self.code);
        let mut message = format!("{} (SQLSTATE {})", self.message, self.code);
        if let Some(detail) = &self.detail {
            message.push_str("; ");
            message.push_str(detail);
        }
        let mut error = Error::new(class, message);
        if let (Some(schema), Some(table)) = (self.schema, self.table) {
            error = error.table(&TableId::new(schema, table));
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
    fn exact_codes_win_over_classes_and_the_unknown_is_fatal() {
        assert_eq!(classify("08006").0, Class::Transient);
        assert_eq!(classify("08P01").0, Class::Fatal);
        assert_eq!(classify("53100"), (Class::Transient, Some("free disk space on the server")));
        assert_eq!(classify("28P01").0, Class::Refused);
        assert_eq!(classify("25006").0, Class::Transient);
        assert_eq!(classify("22P02").0, Class::Table);
        assert_eq!(classify("XX000"), (Class::Fatal, None));
        assert_eq!(classify("").0, Class::Fatal);
    }

    #[test]
    fn an_error_keeps_its_code() {
        let fields = Fields { code: "42704".to_owned(), message: "gone".to_owned(), ..Fields::default() };
        assert_eq!(code(&fields.into_error().context("doing")), Some("42704"));
        assert_eq!(code(&Error::fatal("x (SQLSTATE")), None);
    }
}
