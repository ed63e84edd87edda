//! TLS for PostgreSQL connections, and the bare transport under a replication connection.

use std::fs::File;
use std::io::{self, BufReader};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trem_engine::{Error, Result};

use super::config::{Host, PgConfig, SslMode};
use super::connect::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, UNANSWERED};
use super::sqlstate;

/// The TLS settings that the endpoint's `sslmode` asks for; `None` when it asks for none.
pub fn client_config(config: &PgConfig) -> Result<Option<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::fatal("internal: TLS protocol versions").cause(e))?;
    let verify = match (config.ssl_mode, &config.ssl_root_cert) {
        (SslMode::Disable, _) => return Ok(None),
        (SslMode::Prefer, _) | (SslMode::Require, None) => Verify::Nothing(provider),
        (SslMode::Require | SslMode::VerifyCa, _) => Verify::Chain(chain_verifier(config, provider)?),
        (SslMode::VerifyFull, _) => {
            let verifier = chain_verifier(config, provider)?;
            return Ok(Some(builder.with_webpki_verifier(verifier).with_no_client_auth()));
        }
    };
    Ok(Some(builder.dangerous().with_custom_certificate_verifier(Arc::new(verify)).with_no_client_auth()))
}

fn chain_verifier(config: &PgConfig, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    match &config.ssl_root_cert {
        Some(path) => {
            let wrong = |e: String| {
                Error::refused(format!("sslrootcert {}: {e}", path.display()))
                    .remedy("name a readable PEM file with the certificates of the trusted authorities")
            };
            let file = File::open(path).map_err(|e| wrong(e.to_string()))?;
            for cert in CertificateDer::pem_reader_iter(BufReader::new(file)) {
                let cert = cert.map_err(|e| wrong(e.to_string()))?;
                roots.add(cert).map_err(|e| wrong(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("holds no certificate".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Error::refused("the system has no trusted certificate authorities")
                    .remedy("name a PEM file with sslrootcert in the endpoint's url"));
            }
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| Error::refused("the trusted certificate authorities cannot be used").cause(e))
}

/// Verifies less than rustls would: what libpq's weaker modes promise, and no more.
#[derive(Debug)]
enum Verify {
    Nothing(Arc<CryptoProvider>),
    Chain(Arc<WebPkiServerVerifier>),
}

impl ServerCertVerifier for Verify {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Self::Chain(inner) = self else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at after the chain has been found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self {
            Self::Nothing(p) => verify_tls12_signature(message, cert, dss, &p.signature_verification_algorithms),
            Self::Chain(inner) => inner.verify_tls12_signature(message, cert, dss),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self {
            Self::Nothing(p) => verify_tls13_signature(message, cert, dss, &p.signature_verification_algorithms),
            Self::Chain(inner) => inner.verify_tls13_signature(message, cert, dss),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self {
            Self::Nothing(p) => p.signature_verification_algorithms.supported_schemes(),
            Self::Chain(inner) => inner.supported_verify_schemes(),
        }
    }
}

/// A connection to the server on which nothing but the TLS negotiation has been said.
#[derive(Debug)]
pub enum Transport {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The code of an SSLRequest message.
const SSL_REQUEST: i32 = 80_877_103;

impl Transport {
    /// Connects and negotiates TLS as the endpoint's `sslmode` says.
    pub async fn open(config: &PgConfig) -> Result<Self> {
        match tokio::time::timeout(config.connect_timeout, Self::open_untimed(config)).await {
            Ok(result) => result.map_err(|e| e.context(format!("connecting to {}", config.describe()))),
            Err(_) => Err(Error::transient(format!("connecting to {}: timed out", config.describe()))),
        }
    }

    async fn open_untimed(config: &PgConfig) -> Result<Self> {
        let host = match &config.host {
            Host::Unix(path) => {
                let socket = path.join(format!(".s.PGSQL.{}", config.port));
                return UnixStream::connect(socket).await.map(Self::Unix).map_err(sqlstate::io);
            }
            Host::Tcp(host) => host,
        };
        let mut tcp = TcpStream::connect((host.as_str(), config.port)).await.map_err(sqlstate::io)?;
        tcp.set_nodelay(true).map_err(sqlstate::io)?;
        watch(&tcp).map_err(sqlstate::io)?;
        let Some(tls) = client_config(config)? else { return Ok(Self::Tcp(tcp)) };
        let mut request = [0; 8];
        request[..4].copy_from_slice(&8i32.to_be_bytes());
        request[4..].copy_from_slice(&SSL_REQUEST.to_be_bytes());
        tcp.write_all(&request).await.map_err(sqlstate::io)?;
        match tcp.read_u8().await.map_err(sqlstate::io)? {
            b'S' => {}
            _ if config.ssl_mode == SslMode::Prefer => return Ok(Self::Tcp(tcp)),
            _ => {
                return Err(Error::refused("the server does not offer TLS")
                    .remedy("set ssl = on at the server, or sslmode=prefer in the endpoint's url"));
            }
        }
        let name = ServerName::try_from(host.clone())
            .map_err(|e| Error::refused("the host is no name that a certificate can hold").cause(e))?;
        let connected = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await;
        connected.map(|t| Self::Tls(Box::new(t))).map_err(handshake_error)
    }

    /// The server's own certificate, for SCRAM channel binding.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.peer_certificates().and_then(<[_]>::first),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

/// Has the operating system notice a line that went dead in silence.
fn watch(tcp: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    let alive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "windows"))]
    let alive = alive.with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNANSWERED))?;
    socket.set_tcp_keepalive(&alive)
}

fn handshake_error(e: io::Error) -> Error {
    if e.kind() == io::ErrorKind::InvalidData {
        return Error::refused("the TLS handshake failed")
            .cause(e)
            .remedy("look at sslmode and sslrootcert in the endpoint's url and at the server's certificate");
    }
    sqlstate::io(e)
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_silent_line_is_watched() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        watch(&tcp).unwrap();
        let socket = SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
    }
}
