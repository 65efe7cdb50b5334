//! Whether a manifest is to be believed: signed by the key that the running software carries, and of a known format.
//!
//! Route in: the bytes of manifest and signature, a key. Route out: the manifest, or why it is refused; what to do about it
//! is for the caller to say, who knows where the files came from.

use minisign_verify::{PublicKey, Signature};
use sheaf_config::manifest::{FILE, FORMAT, Manifest, SIGNATURE};

/// Why a manifest is refused. The words follow the place of the files.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The signature's file holds none.
    #[error("{SIGNATURE} is not a signature ({0})")]
    NotASignature(minisign_verify::Error),
    /// Another key signed it, or it was changed.
    #[error("{FILE} does not verify with this {verifier}'s key ({source})")]
    Foreign {
        /// Whose key it is: `installer`, `node`.
        verifier: &'static str,
        /// What does not fit.
        source: minisign_verify::Error,
    },
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

impl TrustError {
    /// Whether the files were changed or signed by another key, rather than made by another version.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::NotASignature(_) | Self::Foreign { .. })
    }
}

/// The manifest in `bytes`, if `key` signed it. `verifier` is whose key that is, in one word.
pub fn trusted(
    bytes: &[u8],
    signature: &[u8],
    key: &PublicKey,
    verifier: &'static str,
) -> Result<Manifest, TrustError> {
    let signature = String::from_utf8_lossy(signature);
    let signature = Signature::decode(&signature).map_err(TrustError::NotASignature)?;
    // Prehashed signatures alone: the legacy form cannot be checked without keeping all in memory.
    key.verify(bytes, &signature, false).map_err(|source| TrustError::Foreign { verifier, source })?;
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(TrustError::NotUnderstood)?;
    if manifest.format != FORMAT {
        return Err(TrustError::Format { verifier, format: manifest.format });
    }
    Ok(manifest)
}
