//! What a server has read from files, and reads again when it is told to.

use std::sync::Arc;

use crate::login::{JwtError, Logins};
use crate::tls::{Certificates, TlsError};

/// The files of a server that are read again while it runs. Clones are the same.
#[derive(Clone)]
pub struct Reload {
    pub(crate) certificates: Option<Certificates>,
    pub(crate) logins: Option<Arc<Logins>>,
}

impl Reload {
    /// The certificate and its key ([`ServerConfig::tls`](crate::ServerConfig::tls)), if there are any:
    /// connections that are made from now on have what is in the files. It waits for the file system.
    ///
    /// # Errors
    /// [`TlsError`], which names the file; then the certificate stays as it is.
    pub fn certificate(&self) -> Option<Result<(), TlsError>> {
        self.certificates.as_ref().map(Certificates::reload)
    }

    /// The keys of [`JwtKeys::Jwks`](crate::JwtKeys::Jwks), if that is how players log in: JWTs that come from
    /// now on are checked with what is in the file. Who is in stays in. It waits for the file system.
    ///
    /// # Errors
    /// [`JwtError`], which names the file; then the keys stay as they are.
    pub fn jwt_keys(&self) -> Option<Result<(), JwtError>> {
        self.logins.as_ref().and_then(|logins| logins.reload())
    }
}
