//! Whether a manifest is to be believed: signed by enough of the keys that the running software trusts, and of a known format.
//!
//! Route in: the bytes of a release's manifest, signatures and keys, the keys that are trusted. Route out: the manifest, or why
//! it is refused; what to do about it is for the caller to say, who knows where the files came from.

use crate::keys::{Chain, Keys, KeysError};
use sheaf_config::manifest::{FILE, FORMAT, KEYS, Manifest, SIGNATURE};
use std::collections::BTreeSet;

/// Why a manifest is refused. The words follow the place of the files.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The signature's file holds none.
    #[error("{SIGNATURE} is not a signature ({0})")]
    NotASignature(String),
    /// Another key signed it, or it was changed.
    #[error("{FILE} does not verify with this {verifier}'s key ({what})")]
    Foreign {
        /// Whose key it is: `installer`, `node`.
        verifier: &'static str,
        /// What does not fit.
        what: &'static str,
    },
    /// Too few keys signed it.
    #[error("{FILE} has {have} of {need} signatures by the keys that this {verifier} trusts (version {version}){}", others(.unknown))]
    Threshold {
        /// Whose keys they are.
        verifier: &'static str,
        /// Keys that signed it.
        have: usize,
        /// How many must.
        need: usize,
        /// Version of the keys.
        version: u64,
        /// IDs of other keys that signed it.
        unknown: BTreeSet<String>,
    },
    /// It has no list of keys, and the software knows one: a release from before.
    #[error("there is no {KEYS}, and this {verifier} knows version {version} of it already")]
    NoKeys {
        /// Whose keys they are.
        verifier: &'static str,
        /// Version of the keys.
        version: u64,
    },
    /// Its list of keys is not to be believed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// It has fields that this software does not know, or lacks some.
    #[error("{FILE} is not understood ({0})")]
    NotUnderstood(serde_json::Error),
    /// It has another format.
    #[error("{FILE} has format {format}, this {verifier} reads {FORMAT}")]
    Format {
        /// Whose software reads it.
        verifier: &'static str,
        /// The manifest's.
        format: u32,
    },
}

fn others(unknown: &BTreeSet<String>) -> String {
    match unknown.is_empty() {
        true => String::new(),
        false => format!("; not among them: {}", unknown.iter().cloned().collect::<Vec<_>>().join(", ")),
    }
}

impl TrustError {
    /// Whether the files were changed or signed by other keys, rather than made by another version.
    pub fn is_foreign(&self) -> bool {
        !matches!(self, Self::NotUnderstood(_) | Self::Format { .. })
    }
}

/// The small files of a release by which it is believed or not.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// [`FILE`]
    pub manifest: &'a [u8],
    /// [`SIGNATURE`]
    pub signatures: &'a [u8],
    /// [`KEYS`]; releases from before it have none.
    pub keys: Option<&'a [u8]>,
}

/// The manifest of `claim`, if enough keys signed it: those of `trusted`, or those that follow them in its own list. `verifier` is
/// who trusts them, in one word.
pub fn trusted(claim: Claim<'_>, trusted: &Keys, verifier: &'static str) -> Result<Manifest, TrustError> {
    let keys = match claim.keys {
        Some(bytes) => trusted.follow(&Chain::parse(bytes)?)?,
        None if trusted.version > 0 => return Err(TrustError::NoKeys { verifier, version: trusted.version }),
        None => trusted.clone(),
    };
    let signatures = String::from_utf8_lossy(claim.signatures);
    let signers = keys.signers(claim.manifest, &signatures);
    let signers = signers.map_err(|error| TrustError::NotASignature(error.to_string()))?;
    let (have, need) = (signers.known.len(), keys.threshold);
    if have < need {
        return Err(match (need, signers.wrong.is_empty()) {
            (1, false) => TrustError::Foreign { verifier, what: "the signature is not of these bytes" },
            (1, true) => TrustError::Foreign { verifier, what: "another key signed it" },
            _ => TrustError::Threshold {
                verifier,
                have,
                need,
                version: keys.version,
                unknown: signers.unknown,
            },
        });
    }
    let manifest: Manifest = serde_json::from_slice(claim.manifest).map_err(TrustError::NotUnderstood)?;
    if manifest.format != FORMAT {
        return Err(TrustError::Format { verifier, format: manifest.format });
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::id;
    use crate::keys::tests::{keys, pair, sign, signed};
    use minisign::KeyPair;

    /// Signed by `by`, with the versions of `chain`; it is not a manifest, which is found out after its signatures.
    fn refusal(trusted_keys: &Keys, chain: Option<&Chain>, by: &[&KeyPair]) -> String {
        let signatures = sign(b"{}", by);
        let chain = chain.map(|chain| serde_json::to_vec(chain).unwrap());
        let claim = Claim { manifest: b"{}", signatures: signatures.as_bytes(), keys: chain.as_deref() };
        trusted(claim, trusted_keys, "node").unwrap_err().to_string()
    }

    const BELIEVED: &str = "manifest.json is not understood (missing field `format`";

    #[test]
    fn a_release_with_a_single_key_is_believed_as_before() {
        let [a, b] = [pair(), pair()];
        let single = keys(0, 1, &[&a]);
        assert!(refusal(&single, None, &[&a]).starts_with(BELIEVED));
        assert_eq!(
            refusal(&single, None, &[&b]),
            "manifest.json does not verify with this node's key (another key signed it)"
        );
        let signatures = sign(b"{}", &[&a]);
        let changed = Claim { manifest: b"{ }", signatures: signatures.as_bytes(), keys: None };
        assert_eq!(
            trusted(changed, &single, "node").unwrap_err().to_string(),
            "manifest.json does not verify with this node's key (the signature is not of these bytes)"
        );
        let none = Claim { manifest: b"{}", signatures: b"<html>", keys: None };
        assert!(matches!(trusted(none, &single, "node"), Err(TrustError::NotASignature(_))));
    }

    #[test]
    fn a_release_brings_the_keys_that_sign_it_and_needs_as_many_as_they_say() {
        let [a, b, c, foreign] = [pair(), pair(), pair(), pair()];
        let (one, two) = (keys(1, 1, &[&a]), keys(2, 2, &[&b, &c]));
        let chain = Chain(vec![signed(&one, &[&a]), signed(&two, &[&a, &b, &c])]);
        assert!(refusal(&one, Some(&chain), &[&b, &c]).starts_with(BELIEVED));
        assert!(refusal(&one, Some(&chain), &[&a, &b, &c]).starts_with(BELIEVED), "also with one more");
        assert_eq!(
            refusal(&one, Some(&chain), &[&b]),
            "manifest.json has 1 of 2 signatures by the keys that this node trusts (version 2)"
        );
        assert_eq!(
            refusal(&one, Some(&chain), &[&b, &foreign]),
            format!(
                "manifest.json has 1 of 2 signatures by the keys that this node trusts (version 2); not among them: {}",
                id(&foreign.pk.to_base64())
            )
        );
    }

    #[test]
    fn a_release_of_older_keys_or_of_none_is_refused_where_newer_ones_are_known() {
        let [a, b] = [pair(), pair()];
        let (one, two) = (keys(1, 1, &[&a]), keys(2, 1, &[&b]));
        let older = Chain(vec![signed(&one, &[&a])]);
        assert_eq!(
            refusal(&two, Some(&older), &[&a, &b]),
            "keys.json ends with version 1, and version 2 is known here already"
        );
        assert_eq!(
            refusal(&two, None, &[&a, &b]),
            "there is no keys.json, and this node knows version 2 of it already"
        );
        let forged = Chain(vec![signed(&one, &[&a]), signed(&two, &[&b])]);
        assert_eq!(
            refusal(&one, Some(&forged), &[&b]),
            "keys.json: version 2 has 0 of 1 signatures by the keys of version 1"
        );
    }
}
