//! The certificate by which the console answers.
//!
//! Route in: PEM files, or nothing. Route out: an acceptor of TLS, a fingerprint.

use std::path::Path;

use anyhow::Context as _;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

/// A certificate with its chain, and its key, in PEM.
pub struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// The certificate in DER.
    first: CertificateDer<'static>,
}

impl Pair {
    /// From PEM files.
    pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let read =
            |path: &Path| std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()));
        let (pem, key) = (read(certificate)?, read(key)?);
        let first = CertificateDer::from_pem_slice(&pem)
            .with_context(|| format!("{}: has no certificate in PEM", certificate.display()))?;
        Ok(Self { certificate: pem, key, first })
    }

    /// One that lives as long as the process.
    pub fn throw_away() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .context("a TLS certificate cannot be made")?;
        Ok(Self {
            certificate: made.cert.pem().into_bytes(),
            key: made.signing_key.serialize_pem().into_bytes(),
            first: made.cert.der().clone(),
        })
    }

    /// SHA-256 of the certificate, as browsers show it.
    pub fn fingerprint(&self) -> String {
        let bytes: Vec<String> =
            Sha256::digest(&self.first).iter().map(|byte| format!("{byte:02X}")).collect();
        bytes.join(":")
    }

    /// Accepts connections with it.
    pub fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        Ok(sheaf_https::acceptor(&self.certificate, &self.key, None)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_shown_by_its_fingerprint_and_files_that_are_none_are_named() {
        let pair = Pair::throw_away().unwrap();
        assert_eq!(pair.fingerprint().len(), 32 * 3 - 1);
        assert!(pair.acceptor().is_ok());
        let other = Pair::throw_away().unwrap();
        assert_ne!(pair.fingerprint(), other.fingerprint());
        let missing = Path::new("/nowhere/console.crt");
        let error = Pair::read(missing, missing).err().unwrap();
        assert_eq!(error.to_string(), "/nowhere/console.crt: cannot be read");
    }
}
