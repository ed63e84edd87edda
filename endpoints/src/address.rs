//! Where a database server is and how to reach it: the `url` of an endpoint, taken apart.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use trem_engine::{Error, Result};

/// How far TLS goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server offers it; nothing is verified.
    #[default]
    Prefer,
    /// Always; the certificate is not verified (with `sslrootcert` it is, as `verify-ca`).
    Require,
    /// Always; the certificate must come from a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and it must name the host.
    VerifyFull,
}

/// Host and port, or the folder of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address.
    Tcp(String),
    /// The folder of the socket.
    Unix(PathBuf),
}

/// What the urls of a kind of endpoint look like.
#[derive(Debug)]
pub struct Form {
    /// What they begin with, `://` left out; the first is the one that is told.
    pub schemes: &'static [&'static str],
    /// The port where none is named.
    pub port: u16,
    /// How one is written, for remedies.
    pub example: &'static str,
}

/// A server, and whom to be there. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The password, if one is given.
    pub password: Option<String>,
    /// The database, if one is named.
    pub database: Option<String>,
    /// How far TLS goes.
    pub ssl_mode: SslMode,
    /// A PEM file of trusted authorities; the system's own otherwise.
    pub ssl_root_cert: Option<PathBuf>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

const PARAMETERS: &str = "sslmode, sslrootcert, connect_timeout, host, port";
/// Behind an example of a url.
const ENCODED: &str = "with characters such as @ : / ? # % in user or password percent-encoded";

impl Form {
    /// Takes an endpoint's url apart. Errors never repeat the url, which holds the password.
    ///
    /// # Errors
    /// Class `Refused`, with how it is written.
    pub fn parse(&self, url: &str) -> Result<Address> {
        self.address(url).map_err(|e| match e.advice() {
            Some(_) => e,
            None => e.remedy(format!("write {}, {ENCODED}", self.example)),
        })
    }

    fn address(&self, url: &str) -> Result<Address> {
        let rest = self.schemes.iter().find_map(|scheme| url.strip_prefix(scheme)?.strip_prefix("://"));
        let rest = rest.ok_or_else(|| refused(&format!("does not begin with {}://", self.schemes[0])))?;
        let (main, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (userinfo, place) = main.rsplit_once('@').ok_or_else(|| refused("names no user"))?;
        let (user, password) = match userinfo.split_once(':') {
            Some((user, password)) => (user, Some(decode("password", password)?)),
            None => (userinfo, None),
        };
        let user = decode("user", user)?;
        if user.is_empty() {
            return Err(refused("names no user"));
        }
        let (hostport, database) = place.split_once('/').unwrap_or((place, ""));
        let database = if database.is_empty() { None } else { Some(decode("database", database)?) };
        let (host, port) = host_and_port(hostport)?;
        let mut address = Address {
            host,
            port: port.unwrap_or(self.port),
            user,
            password,
            database,
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            connect_timeout: Duration::from_secs(10),
        };
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| refused("a parameter without a value"))?;
            self.set(&mut address, key, decode("a parameter", value)?)?;
        }
        Ok(address)
    }

    fn set(&self, address: &mut Address, key: &str, value: String) -> Result<()> {
        match key {
            "sslmode" => {
                address.ssl_mode = match value.as_str() {
                    "disable" => SslMode::Disable,
                    "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => {
                        return Err(Error::refused("the value of sslmode is unknown")
                            .remedy("write disable, prefer, require, verify-ca or verify-full"));
                    }
                }
            }
            "sslrootcert" => address.ssl_root_cert = Some(PathBuf::from(value)),
            "connect_timeout" => {
                let seconds = value.parse().ok().filter(|s| *s > 0);
                address.connect_timeout = Duration::from_secs(
                    seconds.ok_or_else(|| Error::refused("connect_timeout is not a number of seconds above 0"))?,
                );
            }
            "host" if value.starts_with('/') => address.host = Host::Unix(PathBuf::from(value)),
            "host" => address.host = Host::Tcp(value),
            "port" => address.port = port(&value)?,
            // Not repeated: with a `?` in it, a password ends up here.
            _ => {
                let remedy = format!("known parameters: {PARAMETERS}; write {}, {ENCODED}", self.example);
                return Err(Error::refused("a parameter is unknown").remedy(remedy));
            }
        }
        Ok(())
    }
}

impl Address {
    /// Host and port.
    pub fn server(&self) -> String {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", self.port),
            Host::Tcp(host) => format!("{host}:{}", self.port),
            Host::Unix(path) => format!("{}:{}", path.display(), self.port),
        }
    }

    /// Whom and where, without secrets: for messages.
    pub fn describe(&self) -> String {
        let database = self.database.as_ref().map_or_else(String::new, |database| format!("/{database}"));
        format!("{}@{}{database}", self.user, self.server())
    }
}

fn host_and_port(text: &str) -> Result<(Host, Option<u16>)> {
    if text.contains(',') {
        return Err(refused("names more than one host"));
    }
    let (host, port_text) = match text.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or_else(|| refused("`[` without `]` around the host"))?;
            (host.to_owned(), rest.strip_prefix(':').unwrap_or(rest))
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            (decode("host", host)?, port)
        }
    };
    let port = if port_text.is_empty() { None } else { Some(port(port_text)?) };
    let host = match host.as_str() {
        "" => Host::Tcp("localhost".to_owned()),
        path if path.starts_with('/') => Host::Unix(PathBuf::from(path)),
        _ => Host::Tcp(host),
    };
    Ok((host, port))
}

/// Does not repeat the text: a password with an `@` or a `/` in it would end up here.
fn port(text: &str) -> Result<u16> {
    text.parse().ok().filter(|p| *p > 0).ok_or_else(|| refused("the port is not a number from 1 to 65535"))
}

fn decode(what: &str, text: &str) -> Result<String> {
    let wrong = || refused(&format!("{what} has a % that is not followed by two hexadecimal digits of UTF-8 text"));
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or_else(wrong);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| wrong())
}

fn refused(message: &str) -> Error {
    Error::refused(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const FORM: Form = Form {
        schemes: &["postgres", "postgresql"],
        port: 5432,
        example: "postgres://user:password@host:5432/database?sslmode=prefer",
    };

    #[test]
    fn a_whole_url() {
        let c = FORM
            .parse("postgres://tr%40em:p%2Fw%25@db.example:6543/sh%20op?sslmode=verify-full&connect_timeout=3")
            .unwrap();
        assert_eq!((c.user.as_str(), c.password.as_deref()), ("tr@em", Some("p/w%")));
        assert_eq!((&c.host, c.port, c.database.as_deref()), (&Host::Tcp("db.example".into()), 6543, Some("sh op")));
        assert_eq!((c.ssl_mode, c.connect_timeout), (SslMode::VerifyFull, Duration::from_secs(3)));
        assert_eq!(c.describe(), "tr@em@db.example:6543/sh op");
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let c = FORM.parse("postgresql://u@h").unwrap();
        assert_eq!((c.port, c.database, c.ssl_mode), (5432, None, SslMode::Prefer));
        assert_eq!(FORM.parse("postgres://u@[::1]:5/d").unwrap().host, Host::Tcp("::1".into()));
        assert_eq!(FORM.parse("postgres://u@%2Frun%2Fpg/d").unwrap().host, Host::Unix("/run/pg".into()));
        assert_eq!(FORM.parse("postgres://u@/d?host=%2Frun%2Fpg").unwrap().host, Host::Unix("/run/pg".into()));
    }

    #[test]
    fn secrets_never_show() {
        let c = FORM.parse("postgres://u:topsecret@h/d").unwrap();
        assert!(!format!("{c:?}").contains("topsecret"));
        for bad in [
            "postgres://u:topsecret/@h:x/d",
            "postgres://u:topsecret%@h/d",
            "topsecret://u@h",
            "postgres://u:topsecret",
            "postgres://u:p@x?topsecret=y@h/d",
            "postgres://u:p@x?topsecret=%@h/d",
            "postgres://u:p@x?sslmode=topsecret@h/d",
        ] {
            let e = FORM.parse(bad).unwrap_err();
            assert!(!format!("{e} {e:?}").contains("topsecret"), "{e}");
        }
    }

    #[test]
    fn mistakes_say_what_is_known() {
        let message = |url: &str| FORM.parse(url).unwrap_err().to_string();
        assert!(message("postgres://u@h/d?sslmde=x").contains("known parameters: sslmode"));
        assert!(message("postgres://u@h/d?sslmode=x").contains("verify-full"));
        assert!(message("postgres://u@a,b/d").contains("more than one host"));
        assert!(message("postgres://h/d").contains("names no user"));
    }
}
