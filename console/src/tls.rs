//! The certificate by which the console answers.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

/// A certificate with its chain, and its key.
pub struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Pair {
    /// From PEM files.
    pub fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let read =
            |path: &Path| std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()));
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{}: is not a certificate in PEM", certificate.display()))?;
        anyhow::ensure!(!chain.is_empty(), "{}: has no certificate in PEM", certificate.display());
        let key = PrivateKeyDer::from_pem_slice(&read(key)?)
            .with_context(|| format!("{}: is not a private key in PEM", key.display()))?;
        Ok(Self { chain, key })
    }

    /// One that lives as long as the process.
    pub fn throw_away() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .context("a TLS certificate cannot be made")?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        Ok(Self { chain: vec![made.cert.der().clone()], key })
    }

    /// SHA-256 of the certificate, as browsers show it.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.chain.first().map_or(&[][..], |certificate| certificate.as_ref()));
        let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        bytes.join(":")
    }

    /// Accepts connections with it.
    pub fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .context("the certificate and the key do not belong together")?;
        // Screens are upgrades, which HTTP/2 has not here.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
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
