//! What TLS takes and presents.
//!
//! Why here: which protocols, whether sessions are resumed and when a client's certificate is asked for is decided once. Route
//! in: PEM. Route out: an acceptor of `tokio-rustls`.

use crate::pem::{self, PemError};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{NoClientAuth, NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Why certificates cannot be served with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptorError {
    /// Of the certificate, its key, or the CA of clients.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The two do not belong together, or rustls knows no such key.
    #[error("the serving certificate cannot be used with its key: {0}")]
    Pair(#[source] rustls::Error),
    /// No certificate at all.
    #[error("the CA of clients cannot be used: {0}")]
    Verifier(#[source] VerifierBuilderError),
}

/// Accepts connections by the certificate (with its chain) and key in PEM. With `clients`, a CA in PEM, a client may present a
/// certificate, which must then be signed by it; one without a certificate is let in and has none in its [`Peer`](crate::Peer).
///
/// No session is resumed: that would skip the check of a certificate that ended meanwhile, and takes memory.
pub fn acceptor(
    certificate: &[u8],
    key: &[u8],
    clients: Option<&[u8]>,
) -> Result<TlsAcceptor, AcceptorError> {
    let (chain, key) = pem::pair(certificate, key, "the serving certificate")?;
    let provider = Arc::new(ring::default_provider());
    let verifier = match clients {
        None => Arc::new(NoClientAuth) as _,
        Some(ca) => {
            let roots = pem::roots(ca, "the CA of clients")?;
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(AcceptorError::Verifier)?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(AcceptorError::Pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(AcceptorError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn refused(certificate: &str, key: &str, clients: Option<&str>) -> String {
        acceptor(certificate.as_bytes(), key.as_bytes(), clients.map(str::as_bytes))
            .err()
            .unwrap()
            .to_string()
    }

    #[test]
    fn what_cannot_be_served_with_is_named() {
        let ((certificate, key), (other, _)) = (pair(), pair());
        assert!(acceptor(certificate.as_bytes(), key.as_bytes(), Some(other.as_bytes())).is_ok());
        assert_eq!(
            refused("", &key, None),
            "the serving certificate is missing: there is no CERTIFICATE in the PEM"
        );
        assert!(
            refused(&certificate, "", None).starts_with("the key of the serving certificate is not PEM: ")
        );
        assert!(
            refused(&other, &key, None).starts_with("the serving certificate cannot be used with its key: ")
        );
        assert!(refused(&certificate, &key, Some("")).starts_with("the CA of clients cannot be used: "));
        let damaged = certificate.replace("-----END", "!!\n-----END");
        assert!(refused(&damaged, &key, None).starts_with("the serving certificate is not PEM: "));
        assert!(refused(&certificate, &key, Some(&damaged)).starts_with("the CA of clients is not PEM: "));
    }
}
