//! The bare transport under a connection of our own: TCP, a Unix socket or TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls_pki_types::{CertificateDer, ServerName};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trem_engine::{Error, Result};

use super::config::PgConfig;
use super::connect::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, UNANSWERED};
use super::sqlstate;
use super::tls::client_config;
use crate::address::{Host, SslMode};

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
