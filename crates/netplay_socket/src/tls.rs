//! TLS to the server.

use std::io;
use std::sync::Arc;

use netplay_protocol::ServerAddress;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};

use crate::ServerError;

/// How to reach one server by TLS. Clones share what resumes a session of TLS.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(server: &ServerAddress, trusted: Option<&[u8]>) -> Result<Self, ServerError> {
        let name = ServerName::try_from(server.host().to_owned())
            .map_err(|_| ServerError::Host(server.host().to_owned()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ServerError::Certificate(error.to_string()))?
            .with_root_certificates(roots(trusted)?)
            .with_no_client_auth();
        let connector = Arc::new(config).into();
        Ok(Self { connector, name })
    }

    pub(super) async fn connect(&self, server: &ServerAddress) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(server.authority()).await?;
        stream.set_nodelay(true)?;
        self.connector.connect(self.name.clone(), stream).await.map_err(explain)
    }
}

fn roots(trusted: Option<&[u8]>) -> Result<RootCertStore, ServerError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let known = roots.len();
    for certificate in trusted.into_iter().flat_map(CertificateDer::pem_slice_iter) {
        let certificate =
            certificate.map_err(|error| ServerError::Certificate(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| ServerError::Certificate(error.to_string()))?;
    }
    if trusted.is_some() && roots.len() == known {
        let why = "it holds none; it has to be PEM, with a line -----BEGIN CERTIFICATE-----";
        return Err(ServerError::Certificate(why.to_owned()));
    }
    Ok(roots)
}

/// Says what a player or a developer can do, where the library names an error of the protocol.
fn explain(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>());
    let why = match tls {
        Some(TlsError::InvalidCertificate(why)) => why,
        // What a server without TLS says is no message of it.
        Some(TlsError::InvalidMessage(_)) => {
            return io::Error::new(
                error.kind(),
                "the server does not speak TLS there: is it ws:// ?",
            );
        }
        _ => return error,
    };
    let what = match why {
        CertificateError::UnknownIssuer => {
            "nobody whom this game trusts has signed it; one of your own has to be given to the game".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet, or this machine's clock is wrong".to_owned()
        }
        other => other.to_string(),
    };
    let text = format!("the certificate of the lobby server is not trusted: {what}");
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(url: &str, trusted: Option<&[u8]>) -> Result<Tls, ServerError> {
        Tls::new(&url.parse().expect("it is an address"), trusted)
    }

    #[test]
    fn servers_are_known_by_the_names_of_their_hosts() {
        for (url, name) in
            [("wss://host", "host"), ("wss://192.0.2.1:9", "192.0.2.1"), ("wss://[::1]", "::1")]
        {
            assert_eq!(tls(url, None).unwrap().name, ServerName::try_from(name).unwrap());
        }
        let error = tls("wss://a_b*", None).err().unwrap();
        assert!(error.to_string().contains("certificate"), "{error}");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in ["", "secret", "-----BEGIN CERTIFICATE-----\n", broken] {
            let error = tls("wss://host", Some(pem.as_bytes())).err();
            assert!(matches!(error, Some(ServerError::Certificate(_))), "{pem}: {error:?}");
        }
    }
}
