//! Ordinary SQL connections, with session settings under which values print the same everywhere.

use std::time::Duration;

use tokio_postgres::config::SslMode as PgSslMode;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use trem_engine::{Class, Error, Result};

use super::config::PgConfig;
use super::{quote, sqlstate, tls};
use crate::address::{Host, SslMode};

/// Settings of every session of ours, replication included: canonical text must not depend on a role's,
/// a database's or a server's own settings.
pub const SESSION_SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("search_path", "pg_catalog"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // Rows that a policy hides are an error rather than missing.
    ("row_security", "off"),
    ("idle_in_transaction_session_timeout", "0"),
    ("xmloption", "content"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("quote_all_identifiers", "off"),
    ("idle_session_timeout", "0"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "warning"),
];

/// A line that is silent for so long is asked for a sign of life: a peer that vanished without a word is noticed
/// within a minute, in the middle of a COPY too.
pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// How long an answer to that may take before it is asked again.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is asked again.
pub(super) const KEEPALIVE_RETRIES: u32 = 3;
/// How long bytes may wait for the peer, which includes a server too busy to read them.
pub(super) const UNANSWERED: Duration = Duration::from_secs(120);

/// One statement string that makes [`SESSION_SETTINGS`] hold.
pub fn session_sql() -> String {
    let set = |(name, value): &(&str, &str)| match *name {
        // A quoted list would be one strange element.
        "DateStyle" | "search_path" => format!("SET {name} TO {value};"),
        _ => format!("SET {name} TO {};", quote::literal(value)),
    };
    // Servers before 17 do not know it.
    let newer = "SELECT set_config('transaction_timeout', '0', false) \
                 WHERE current_setting('transaction_timeout', true) IS NOT NULL;";
    SESSION_SETTINGS.iter().map(set).chain(std::iter::once(newer.to_owned())).collect()
}

impl PgConfig {
    /// Opens a connection with the fixed session settings. Its driving task ends when the client is dropped.
    pub async fn connect(&self, application_name: &str) -> Result<Client> {
        let limit = self.connect_timeout * 2;
        let connected = match tokio::time::timeout(limit, self.open(application_name)).await {
            Ok(result) => result,
            Err(_) => Err(Error::transient("timed out")),
        };
        connected.map_err(|e| e.context(format!("connecting to {}", self.describe())))
    }

    async fn open(&self, application_name: &str) -> Result<Client> {
        let client = match self.login(application_name).await {
            Err(error) if self.goes_plain(&error) => self.plain().login(application_name).await?,
            other => other?,
        };
        client.batch_execute(&session_sql()).await.map_err(sqlstate::error).map_err(opening)?;
        Ok(client)
    }

    async fn login(&self, application_name: &str) -> Result<Client> {
        let options = self.driver_options(application_name);
        match tls::client_config(self)? {
            Some(tls) => {
                let (client, connection) = options.connect(MakeRustlsConnect::new(tls)).await.map_err(connect_error)?;
                tokio::spawn(drive(connection));
                Ok(client)
            }
            None => {
                let (client, connection) = options.connect(NoTls).await.map_err(connect_error)?;
                tokio::spawn(drive(connection));
                Ok(client)
            }
        }
    }

    /// Whether a login that failed with this is tried again without TLS: as libpq does for `prefer` where the server
    /// lets the role in by plain connections only.
    pub(super) fn goes_plain(&self, error: &Error) -> bool {
        self.ssl_mode == SslMode::Prefer && sqlstate::code(error) == Some("28000")
    }

    fn driver_options(&self, application_name: &str) -> tokio_postgres::Config {
        let mut options = tokio_postgres::Config::new();
        options.user(&self.user).dbname(&self.database).port(self.port).application_name(application_name);
        match &self.host {
            Host::Tcp(host) => options.host(host),
            Host::Unix(path) => options.host_path(path),
        };
        if let Some(password) = &self.password {
            options.password(password);
        }
        options.ssl_mode(match self.ssl_mode {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => PgSslMode::Require,
        });
        options
            .connect_timeout(self.connect_timeout)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(UNANSWERED);
        options
    }
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // Whoever uses the client sees the same failure as an error of the call at hand.
    if let Err(e) = connection.await {
        tracing::debug!(error = %e, "a database connection ended");
    }
}

/// What an error means while a session is opened. What a connection pooler does not pass on, it calls a violation of
/// the protocol.
pub(super) fn opening(error: Error) -> Error {
    match sqlstate::code(&error) {
        Some("08P01") => Error::refused(format!("a connection pooler may stand in between: {}", error.message()))
            .remedy("name the server itself in the endpoint's url, past a pooler such as PgBouncer"),
        // Of a table it would be that table's matter; here it is said of the database.
        Some("55000") => Error::transient(error.message())
            .remedy("let the database accept connections (ALTER DATABASE ... ALLOW_CONNECTIONS true)"),
        _ => error,
    }
}

fn connect_error(e: tokio_postgres::Error) -> Error {
    let error = opening(sqlstate::error(e));
    match error.class() {
        Class::Transient if error.advice().is_none() => {
            error.remedy("see that the server runs and accepts connections at this host and port")
        }
        _ => error,
    }
}

/// A text that two connections have in common exactly when they are to the same database: the cluster's own
/// number and the database's in it.
pub async fn database_identity(client: &Client) -> Result<String> {
    let sql = "SELECT 'postgres:' || system_identifier || ':' || d.oid \
               FROM pg_control_system(), pg_database d WHERE d.datname = current_database()";
    let row = client.query_one(sql, &[]).await.map_err(sqlstate::error)?;
    row.try_get(0).map_err(sqlstate::error)
}
