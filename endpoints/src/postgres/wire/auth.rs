//! Startup and authentication: trust, cleartext, md5, SCRAM-SHA-256 with and without channel binding.

use bytes::Bytes;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use trem_engine::{Error, Result};

use super::frame::Frame;
use super::reader::{Malformed, Reader};
use super::{Conn, server_error};
use crate::postgres::config::PgConfig;
use crate::postgres::connect::{SESSION_SETTINGS, opening, session_sql};
use crate::postgres::transport::Transport;

const PROTOCOL_3: [u8; 4] = [0, 3, 0, 0];

/// Who connects, and with what.
struct Login<'a> {
    user: &'a str,
    password: Option<&'a [u8]>,
    /// Startup parameters, the user excepted.
    parameters: &'a [(&'a str, &'a str)],
    /// The server's certificate, where the connection is encrypted.
    certificate: Option<&'a [u8]>,
    /// Whether the connection is encrypted.
    encrypted: bool,
}

impl Conn {
    /// Opens a session with the fixed settings; with `replication` it takes replication commands as well as SQL.
    pub(crate) async fn connect(config: &PgConfig, application: &str, replication: bool) -> Result<Self> {
        match Self::login(config, application, replication).await {
            Err(error) if config.goes_plain(&error) => {
                let plain = config.plain();
                Self::login(&plain, application, replication).await
            }
            other => other,
        }
    }

    async fn login(config: &PgConfig, application: &str, replication: bool) -> Result<Self> {
        let transport = Transport::open(config).await?;
        let certificate = transport.peer_certificate().map(|c| c.to_vec());
        let mut parameters = vec![("database", config.database.as_str()), ("application_name", application)];
        if replication {
            parameters.push(("replication", "database"));
            parameters.extend_from_slice(SESSION_SETTINGS);
        }
        let login = Login {
            user: &config.user,
            password: config.password.as_deref().map(str::as_bytes),
            parameters: &parameters,
            certificate: certificate.as_deref(),
            encrypted: matches!(transport, Transport::Tls(_)),
        };
        let start = async {
            let (mut conn, encoding) = Self::start(transport, &login).await?;
            if !replication {
                // A pooler does not take them in the first message.
                conn.query(&session_sql()).await?;
            }
            if encoding.as_ref() == b"SQL_ASCII" {
                // The server would refuse what is not UTF-8, and could not say which table and column has it.
                conn.query("SET client_encoding TO 'SQL_ASCII'").await?;
            }
            Ok(conn)
        };
        match tokio::time::timeout(config.connect_timeout, start).await {
            Ok(result) => result.map_err(|e| opening(e).context(format!("connecting to {}", config.describe()))),
            Err(_) => Err(Error::transient(format!("connecting to {}: timed out", config.describe()))),
        }
    }

    /// Starts a session on a socket. Returns the encoding of the database too.
    async fn start(socket: Transport, login: &Login<'_>) -> Result<(Self, Bytes)> {
        let mut conn = Self::new(socket);
        let mut body = PROTOCOL_3.to_vec();
        for (name, value) in [("user", login.user)].iter().chain(login.parameters) {
            for text in [name, value] {
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        conn.output.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        conn.output.extend_from_slice(&body);
        conn.flush().await?;
        conn.authenticate(login).await?;
        let mut encoding = Bytes::new();
        loop {
            let frame = conn.any().await?;
            match frame.tag {
                b'Z' => return Ok((conn, encoding)),
                b'S' => {
                    let name = b"server_encoding\0";
                    if let Some(value) = frame.body.strip_prefix(name).and_then(|v| v.strip_suffix(b"\0")) {
                        encoding = frame.body.slice_ref(value);
                    }
                }
                b'E' => return Err(server_error(&frame.body)),
                _ => {}
            }
        }
    }

    async fn authenticate(&mut self, login: &Login<'_>) -> Result<()> {
        loop {
            let body = self.authentication().await?;
            let mut r = Reader(&body.body);
            match r.u32("an authentication request")? {
                0 => return Ok(()),
                3 => self.send_secret(&[secret(login)?, b"\0"].concat()).await?,
                5 => {
                    let salt: [u8; 4] = r.0.try_into().map_err(|_| Malformed("the salt of an md5 authentication"))?;
                    let hash = md5_hash(login.user.as_bytes(), secret(login)?, salt);
                    self.send_secret(&[hash.as_bytes(), b"\0"].concat()).await?;
                }
                10 => self.scram(r, login).await?,
                other => {
                    return Err(Error::refused(format!("the server asks for authentication method {other}"))
                        .remedy("use scram-sha-256, md5, password or trust for this user in pg_hba.conf"));
                }
            }
        }
    }

    async fn authentication(&mut self) -> Result<Frame> {
        let frame = self.next().await?;
        if frame.tag == b'R' { Ok(frame) } else { Err(Malformed("the authentication").into()) }
    }

    async fn send_secret(&mut self, body: &[u8]) -> Result<()> {
        self.queue(b'p', body);
        self.flush().await
    }

    async fn scram(&mut self, mut offered: Reader<'_>, login: &Login<'_>) -> Result<()> {
        const WHAT: &str = "the SASL authentication";
        let mut plus = false;
        let mut plain = false;
        while let Ok(name) = offered.text(WHAT) {
            plus |= name == "SCRAM-SHA-256-PLUS";
            plain |= name == "SCRAM-SHA-256";
        }
        let binding = login.certificate.and_then(end_point_hash);
        let (mechanism, binding) = match binding {
            Some(hash) if plus => ("SCRAM-SHA-256-PLUS", ChannelBinding::tls_server_end_point(hash)),
            // Saying "unsupported" where the server offers it would look like an attack to the server.
            _ if plain && plus && login.encrypted => ("SCRAM-SHA-256", ChannelBinding::unsupported()),
            Some(_) if plain => ("SCRAM-SHA-256", ChannelBinding::unrequested()),
            _ if plain => ("SCRAM-SHA-256", ChannelBinding::unsupported()),
            _ => return Err(Error::refused("the server offers no SASL mechanism that is known here")),
        };
        let mut scram = ScramSha256::new(secret(login)?, binding);
        let mut first = mechanism.as_bytes().to_vec();
        first.push(0);
        first.extend_from_slice(&(scram.message().len() as u32).to_be_bytes());
        first.extend_from_slice(scram.message());
        self.send_secret(&first).await?;
        scram.update(&self.sasl(11).await?).map_err(failed)?;
        let answer = scram.message().to_vec();
        self.send_secret(&answer).await?;
        scram.finish(&self.sasl(12).await?).map_err(failed)
    }

    async fn sasl(&mut self, kind: u32) -> Result<Vec<u8>> {
        let frame = self.authentication().await?;
        let mut r = Reader(&frame.body);
        if r.u32("the SASL authentication")? != kind {
            return Err(Malformed("the SASL authentication").into());
        }
        Ok(r.0.to_vec())
    }
}

fn secret<'a>(login: &Login<'a>) -> Result<&'a [u8]> {
    login.password.ok_or_else(|| {
        Error::refused(format!("the server asks for a password for user {}", login.user))
            .remedy("put the password into the endpoint's url, best as ${VARIABLE}")
    })
}

fn failed(e: std::io::Error) -> Error {
    Error::refused("the SASL authentication failed").cause(e)
}

/// The certificate's hash for `tls-server-end-point` (RFC 5929), by the hash of its own signature; `None` where
/// that is not one of those with a name there.
fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let oid = signature_algorithm(certificate)?;
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    let suite = match (oid.strip_prefix(RSA), oid.strip_prefix(ECDSA)) {
        // md5, sha1 and sha256; RFC 5929 says SHA-256 for the first two.
        (Some([4 | 5 | 11]), _) | (_, Some([2])) => TLS13_AES_128_GCM_SHA256,
        (Some([12]), _) | (_, Some([3])) => TLS13_AES_256_GCM_SHA384,
        _ => return None,
    };
    let hash = suite.tls13()?.common.hash_provider.hash(certificate);
    Some(hash.as_ref().to_vec())
}

/// The content of Certificate.signatureAlgorithm.algorithm.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (0x30, inside, _) = der(certificate)? else { return None };
    let (0x30, _, after_body) = der(inside)? else { return None };
    let (0x30, algorithm, _) = der(after_body)? else { return None };
    let (0x06, oid, _) = der(algorithm)? else { return None };
    Some(oid)
}

/// The first DER element: its tag, its content and what follows it.
fn der(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        length = digits.iter().fold(0, |n, d| n << 8 | usize::from(*d));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    /// A certificate's skeleton: an empty body, the algorithm, an empty signature.
    fn skeleton(oid: &[u8]) -> Vec<u8> {
        let mut algorithm = vec![0x06, oid.len() as u8];
        algorithm.extend_from_slice(oid);
        let mut inside = vec![0x30, 0, 0x30, algorithm.len() as u8];
        inside.extend(algorithm);
        inside.extend([0x03, 0]);
        let mut all = vec![0x30, 0x81, inside.len() as u8];
        all.extend(inside);
        all
    }

    #[test]
    fn the_hash_follows_the_certificates_signature() {
        let rsa = |n| skeleton(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, n]);
        assert_eq!(end_point_hash(&rsa(11)).unwrap().len(), 32);
        assert_eq!(end_point_hash(&rsa(12)).unwrap().len(), 48);
        assert_eq!(end_point_hash(&rsa(13)), None);
        let ecdsa = skeleton(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]);
        assert_eq!(end_point_hash(&ecdsa).unwrap().len(), 48);
        assert_eq!(end_point_hash(&skeleton(&[0x2b, 0x65, 0x70])), None);
    }

    proptest! {
        #[test]
        fn no_certificate_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = end_point_hash(&bytes);
        }
    }
}
