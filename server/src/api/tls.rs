//! TLS for the API: certificates from PEM files, read again when they are renewed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate and those between it and an authority, as PEM.
    pub certificate: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
    /// The authorities that clients' certificates must be of; without it clients need none.
    pub clients: Option<PathBuf>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Says which file is wrong, and why.
    pub fn config(&self) -> Result<RustlsConfig, String> {
        Ok(RustlsConfig::from_config(Arc::new(self.read()?)))
    }

    /// Reads the files again: connections from here on see what is in them now. What cannot be used changes nothing.
    ///
    /// # Errors
    /// See [`Tls::config`].
    pub fn reload(&self, config: &RustlsConfig) -> Result<(), String> {
        config.reload_from_config(Arc::new(self.read()?));
        Ok(())
    }

    fn read(&self) -> Result<ServerConfig, String> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| wrong(&self.key, &e))?;
        let builder = ServerConfig::builder();
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(file)? {
                    roots.add(authority).map_err(|e| wrong(file, &e))?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(|e| wrong(file, &e))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| wrong(&self.certificate, &e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).map_err(|e| wrong(file, &e))?;
    let all = read.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(file, &e))?;
    if all.is_empty() { Err(wrong(file, &"it holds no certificate")) } else { Ok(all) }
}

fn wrong(file: &Path, why: &dyn std::fmt::Display) -> String {
    format!("{}: {why}", file.display())
}
