//! TLS settings of PostgreSQL connections: what libpq's `sslmode` promises.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use trem_engine::{Error, Result};

use super::config::PgConfig;
use crate::address::SslMode;

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
