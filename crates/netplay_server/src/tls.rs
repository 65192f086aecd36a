//! TLS by certificates in files, which are read again when asked for.
//!
//! Guaranteed: certificates and key fit together, or they are refused and the ones before stay in use. Not
//! guaranteed: that they are valid at this time and for this server's name; clients see to that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error as RustlsError, InconsistentKeys, ServerConfig};

/// The files of a server's certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's own certificate, and then those that lead to a root, as authorities give them.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {text}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What kind of error.
        kind: io::ErrorKind,
        /// What the system says.
        text: String,
    },
    /// A file is something else.
    #[error("{} holds no {what}; it has to be PEM, with a line -----BEGIN {label}-----", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// How that begins.
        label: &'static str,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {} is not the one of the first certificate in {}: give the two files that were made \
         together, the server's own certificate first",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The library cannot use them.
    #[error("the certificate in {} cannot be used: {text}", certificate.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// Why.
        text: String,
    },
}

/// The certificate of a server. Clones are the same.
#[derive(Clone)]
pub(crate) struct Certificates {
    current: Arc<Current>,
}

impl Certificates {
    pub(crate) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let pair = RwLock::new(read(&files)?);
        Ok(Self { current: Arc::new(Current { files, pair }) })
    }

    /// Reads the files again; if they cannot be used, the certificate stays as it is.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let pair = read(&self.current.files)?;
        *self.current.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let unusable = |error: RustlsError| self.current.files.unusable(&error);
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.current.clone());
        // WebSockets begin as HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Who comes back after a break need not see the certificate again, and nothing is kept for it here.
        config.ticketer = ring::Ticketer::new().map_err(unusable)?;
        Ok(Arc::new(config).into())
    }
}

impl TlsFiles {
    fn unusable(&self, error: &RustlsError) -> TlsError {
        let certificate = self.certificate.clone();
        match error {
            RustlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { certificate, key: self.key.clone() }
            }
            error => TlsError::Unusable { certificate, text: error.to_string() },
        }
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn read(files: &TlsFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let text = content(&files.certificate)?;
    let none =
        |path: &Path, what, label| TlsError::Malformed { path: path.to_owned(), what, label };
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| none(&files.certificate, "certificate", "CERTIFICATE"))?;
    let key = PrivateKeyDer::from_pem_slice(&content(&files.key)?);
    let key = key.map_err(|_| none(&files.key, "private key", "PRIVATE KEY"))?;
    let pair = CertifiedKey::from_der(chain, key, &provider());
    pair.map(Arc::new).map_err(|error| files.unusable(&error))
}

fn content(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| {
        let (path, kind, text) = (path.to_owned(), error.kind(), error.to_string());
        TlsError::File { path, kind, text }
    })
}

/// What the library asks for each handshake.
struct Current {
    files: TlsFiles,
    pair: RwLock<Arc<CertifiedKey>>,
}

impl core::fmt::Debug for Current {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Current").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
