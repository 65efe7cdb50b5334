//! Documents that only control-plane nodes of this cluster can read and write.
//!
//! Why a key of the cluster CA's: every control-plane node has that key, and who has it is an administrator already, so nothing
//! more has to be handed out or kept. AES-256-GCM with a key that HKDF-SHA256 derives from it; the name of the document is
//! authenticated, so that one cannot take another's place. Route in: CA keys in PEM, bytes. Route out: bytes. Source: RFC 5869.

use crate::cluster::keys::Key;
use anyhow::{Context as _, anyhow};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

/// Keeps this use of the CA's key apart from every other.
const SALT: &[u8] = b"sheaf.dev/shared-keys/v1";

/// Seals and opens; never shown.
pub struct SealKey(LessSafeKey);

impl SealKey {
    /// The one of the cluster whose CA has this key, PEM.
    pub fn of(ca_key: &str) -> anyhow::Result<Self> {
        // The same bytes, however kubeadm or the agent wrote the file.
        let material = Key::from_pem(ca_key)?.to_pem()?;
        let derive = || {
            let secret = Salt::new(HKDF_SHA256, SALT).extract(material.as_bytes());
            Some(UnboundKey::from(secret.expand(&[], &AES_256_GCM).ok()?))
        };
        Ok(Self(LessSafeKey::new(derive().context("HKDF gives no key of AES-256")?)))
    }

    /// `plain` for the document `name`: a nonce, then the ciphertext with its tag.
    pub fn seal(&self, name: &str, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| anyhow!("no random numbers: {error}"))?;
        let mut data = plain.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut data)
            .map_err(|_| anyhow!("{name} cannot be encrypted"))?;
        Ok([nonce.to_vec(), data].concat())
    }

    /// What was sealed for the document `name` with this key; none if it was not, or was changed.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, data) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut data = data.to_vec();
        let plain =
            self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name), &mut data).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_of_the_same_ca_opens_a_document_and_only_under_its_own_name() {
        let ca = Key::generate().unwrap().to_pem().unwrap();
        let key = SealKey::of(&ca).unwrap();
        let mut sealed = key.seal("encryption", b"of the cluster").unwrap();
        assert!(!sealed.windows(7).any(|bytes| bytes == b"cluster"), "it is not encrypted");
        let same = SealKey::of(&ca).unwrap();
        assert_eq!(same.open("encryption", &sealed).as_deref(), Some(&b"of the cluster"[..]));
        assert_eq!(same.open("authorities", &sealed), None, "another document's name");
        let other = SealKey::of(&Key::generate().unwrap().to_pem().unwrap()).unwrap();
        assert_eq!(other.open("encryption", &sealed), None, "another cluster's CA");
        assert_eq!(same.open("encryption", &sealed[..5]), None, "it was cut");
        *sealed.last_mut().unwrap() ^= 1;
        assert_eq!(same.open("encryption", &sealed), None, "it was changed");
    }
}
