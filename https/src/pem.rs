//! Certificates and keys of PEM, as rustls takes them.
//!
//! Route in: PEM, and what it is, for messages. Route out: types of rustls; an error says what is wrong with which.

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What is wrong with PEM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// Damaged.
    #[error("{0} is not PEM: {1}")]
    Damaged(&'static str, #[source] pem::Error),
    /// No certificate.
    #[error("{0} is missing: there is no CERTIFICATE in the PEM")]
    Missing(&'static str),
    /// The key of a certificate: damaged, missing, or no key.
    #[error("the key of {0} is not PEM: {1}")]
    Key(&'static str, #[source] pem::Error),
    /// A certificate that is none of a CA.
    #[error("{0} cannot be used: {1}")]
    NoRoot(&'static str, #[source] rustls::Error),
}

/// A certificate with its chain, and its key.
pub fn pair(
    certificate: &[u8],
    key: &[u8],
    what: &'static str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PemError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| PemError::Damaged(what, error))?;
    if chain.is_empty() {
        return Err(PemError::Missing(what));
    }
    Ok((chain, PrivateKeyDer::from_pem_slice(key).map_err(|error| PemError::Key(what, error))?))
}

/// All CAs of the PEM, which may be none.
pub fn roots(pem: &[u8], what: &'static str) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        let root = root.map_err(|error| PemError::Damaged(what, error))?;
        roots.add(root).map_err(|error| PemError::NoRoot(what, error))?;
    }
    Ok(roots)
}
