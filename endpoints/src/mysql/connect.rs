//! Sessions, with settings under which values mean the same everywhere.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, SslOpts};
use trem_engine::{Error, Result};

use super::config::MyConfig;
use super::error;
use super::row::get;
use crate::address::{Host, SslMode};

/// A line that is silent for so long is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Settings of every session of ours: an account's and a server's own must not decide what values mean, or whether one
/// that does not fit is an error. Statements that wait for a lock give way.
const SETTINGS: &str = "SET SESSION time_zone = '+00:00', \
    sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', \
    lock_wait_timeout = 5, innodb_lock_wait_timeout = 5, net_write_timeout = 600, net_read_timeout = 600, \
    wait_timeout = 86400, sql_safe_updates = 0, autocommit = 1";

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavor {
    MySql,
    MariaDb,
}

/// A session.
pub(super) struct Session {
    pub(super) conn: Conn,
    pub(super) flavor: Flavor,
    /// As the server says it.
    pub(super) version: String,
}

impl MyConfig {
    /// Opens a session with the fixed settings.
    ///
    /// # Errors
    /// Class `Transient` where it may heal.
    pub(super) async fn connect(&self, application: &str) -> Result<Session> {
        let limit = self.connect_timeout * 2;
        let connected = match tokio::time::timeout(limit, self.open(application)).await {
            Ok(result) => result,
            Err(_) => Err(Error::transient("timed out")),
        };
        connected.map_err(|e| e.context(format!("connecting to {}", self.describe())))
    }

    async fn open(&self, application: &str) -> Result<Session> {
        let mut conn = match Conn::new(self.options(application)).await {
            // A server that has no TLS says so in its first words.
            Err(mysql_async::Error::Driver(mysql_async::DriverError::NoClientSslFlagFromServer))
                if self.ssl_mode == SslMode::Prefer =>
            {
                Conn::new(self.plain().options(application)).await
            }
            other => other,
        }
        .map_err(error::error)?;
        let version: Option<mysql_async::Row> = conn.query_first("SELECT VERSION()").await.map_err(error::error)?;
        let version: String = get(&version.ok_or_else(|| Error::fatal("the server does not say its version"))?, 0)?;
        let flavor = if version.contains("MariaDB") { Flavor::MariaDb } else { Flavor::MySql };
        let unlimited = match flavor {
            Flavor::MariaDb => "SET SESSION max_statement_time = 0",
            Flavor::MySql => "SET SESSION max_execution_time = 0",
        };
        for statement in ["SET NAMES utf8mb4", SETTINGS, unlimited] {
            conn.query_drop(statement).await.map_err(error::error)?;
        }
        Ok(Session { conn, flavor, version })
    }

    fn options(&self, application: &str) -> OptsBuilder {
        let options = OptsBuilder::default()
            .user(Some(&self.user))
            .pass(self.password.as_ref())
            .tcp_port(self.port)
            .prefer_socket(false)
            .tcp_keepalive(Some(KEEPALIVE))
            .connect_attribute("program_name", application)
            .ssl_opts(self.ssl());
        match &self.host {
            Host::Tcp(host) => options.ip_or_hostname(host),
            Host::Unix(path) => options.socket(Some(path.display().to_string())),
        }
    }

    /// What `sslmode` promises, as for PostgreSQL.
    fn ssl(&self) -> Option<SslOpts> {
        let roots = self.ssl_root_cert.iter().map(|path| path.clone().into()).collect();
        let ssl = SslOpts::default().with_root_certs(roots).with_disable_built_in_roots(self.ssl_root_cert.is_some());
        match (self.ssl_mode, &self.ssl_root_cert) {
            (SslMode::Disable, _) => None,
            (SslMode::Prefer, _) | (SslMode::Require, None) => {
                Some(ssl.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true))
            }
            (SslMode::Require | SslMode::VerifyCa, _) => Some(ssl.with_danger_skip_domain_validation(true)),
            (SslMode::VerifyFull, _) => Some(ssl),
        }
    }
}
