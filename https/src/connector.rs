//! What TLS trusts, and by what this program is known, where it asks another one of the cluster.
//!
//! Why here: agents and sheaf-controller are known by CAs that sign nothing else, never by what the machine trusts. Route in: PEM.
//! Route out: a connector of `tokio-rustls`.

use crate::pem::{self, PemError};
use rustls::ClientConfig;
use rustls::crypto::ring;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

const AUTHORITY: &str = "the CA of servers";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// Of the CA, the own certificate, or its key.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The two do not belong together, or rustls knows no such key.
    #[error("the client certificate cannot be used with its key: {0}")]
    Pair(#[source] rustls::Error),
}

/// Trusts what `authority` signed and nothing else; shows `identity`, a certificate (with its chain) and its key, if there is one.
pub fn connector(authority: &[u8], identity: Option<(&[u8], &[u8])>) -> Result<TlsConnector, ConnectorError> {
    let roots = pem::roots(authority, AUTHORITY)?;
    if roots.is_empty() {
        return Err(PemError::Missing(AUTHORITY).into());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(ConnectorError::Pair)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, key) = pem::pair(certificate, key, "the client certificate")?;
            builder.with_client_auth_cert(chain, key).map_err(ConnectorError::Pair)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
