//! The pin of a cluster's CA: SHA-256 of its certificate's SubjectPublicKeyInfo, as kubeadm prints it.
//!
//! Why here: a node that joins and the operator's command line compare it alike. Route in: `sha256:<64 hex>` of a
//! config or argument, certificates as PEM. Route out: equal or not.

use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use x509_cert::Certificate;
use x509_cert::der::{DecodePem, Encode};

/// A CA public key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CaPin([u8; 32]);

/// Text or a certificate that gives no pin.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Not of the form `sha256:<64 hex digits>`.
    #[error(
        "\"{0}\" is not a CA hash; write \"sha256:\" and 64 hex digits, as `sheaf-agent status` shows it"
    )]
    Form(String),
    /// Not a certificate in PEM.
    #[error("this is not a certificate in PEM: {0}")]
    Certificate(x509_cert::der::Error),
}

impl CaPin {
    /// Pin of the first certificate in `pem`.
    pub fn of_certificate(pem: &str) -> Result<Self, PinError> {
        let start = pem.find("-----BEGIN CERTIFICATE-----").unwrap_or(0);
        let end = pem[start..].find("-----END CERTIFICATE-----").map_or(pem.len(), |at| start + at + 25);
        let certificate = Certificate::from_pem(&pem[start..end]).map_err(PinError::Certificate)?;
        let spki = certificate.tbs_certificate().subject_public_key_info();
        Ok(Self::of_public_key(&spki.to_der().map_err(PinError::Certificate)?))
    }

    /// Pin of a public key given as SubjectPublicKeyInfo in DER.
    pub fn of_public_key(spki: &[u8]) -> Self {
        Self(Sha256::digest(spki).into())
    }

    /// The hash alone, 64 hex digits.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl FromStr for CaPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let form = || PinError::Form(text.to_owned());
        let hex =
            text.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.is_ascii()).ok_or_else(form)?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| form())?;
            if pair.starts_with('+') {
                return Err(form());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| form())?;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CA that kubeadm made; its pin by `openssl x509 -pubkey | openssl pkey -pubin -outform der | sha256sum`.
    const CA: &str = include_str!("../tests/ca.crt");
    const PIN: &str = include_str!("../tests/ca.pin");

    #[test]
    fn the_pin_of_a_certificate_is_what_openssl_computes() {
        assert_eq!(CaPin::of_certificate(CA).unwrap().to_string(), PIN.trim());
    }

    #[test]
    fn text_around_the_certificate_does_not_matter() {
        assert!(CaPin::of_certificate(&format!("CA of ours\n{CA}\n{CA}")).is_ok());
    }

    #[test]
    fn a_pin_reads_back() {
        assert_eq!(PIN.trim().parse::<CaPin>().unwrap().to_string(), PIN.trim());
    }

    #[test]
    fn other_forms_are_refused_with_what_to_write() {
        for bad in [
            "",
            "sha256:",
            "sha1:00",
            &PIN.trim()[..70],
            &PIN.trim().replace(':', "="),
            &format!("sha256:{}", "+1".repeat(32)),
        ] {
            let error = bad.parse::<CaPin>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "\"{bad}\" is not a CA hash; write \"sha256:\" and 64 hex digits, as `sheaf-agent status` shows it"
                )
            );
        }
        assert!(
            CaPin::of_certificate("nonsense")
                .unwrap_err()
                .to_string()
                .starts_with("this is not a certificate")
        );
    }
}
