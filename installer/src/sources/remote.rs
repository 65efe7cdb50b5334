//! A release folder on a server, from `sheaf.payload=URL`: its manifest, trusted.
//!
//! Route in: a [`Remote`], the keys in the installer's initrd. Route out: the manifest.

use super::medium::{MediumError, VERIFIER, explained};
use sheaf_config::manifest::{FILE, KEYS, Manifest, SIGNATURE};
use sheaf_release::keys::Keys;
use sheaf_release::origin::Origin;
pub use sheaf_release::remote::Remote;
use sheaf_release::remote::is_page;
use sheaf_release::trust::{Claim, trusted};
use std::path::Path;

/// The manifest of `remote`, if enough of the keys signed it that the installer trusts; its `release.pub` is `key`.
pub fn manifest(remote: &Remote<'_>, key: &Path) -> Result<Manifest, MediumError> {
    let keys = Keys::trusted_at(key).map_err(MediumError::Key)?;
    let refused = |reason| MediumError::RemoteRefused { url: remote.url().to_owned(), reason };
    let fail = |file: &str, source| MediumError::Fetch { url: format!("{}/{file}", remote.url()), source };
    let text = |file: &str| remote.text(file).map_err(|source| fail(file, source));
    let bytes = text(FILE)?;
    if is_page(&bytes) {
        return Err(refused(format!(
            "{FILE} is a web page: the folder has another URL, or a proxy answers in the server's place"
        )));
    }
    let signatures = text(SIGNATURE)?;
    let newer = Origin::Server(remote).optional_text(KEYS).map_err(|source| fail(KEYS, source))?;
    let claim = Claim { manifest: &bytes, signatures: &signatures, keys: newer.as_deref() };
    trusted(claim, &keys, VERIFIER).map_err(|error| refused(explained(&error, "")))
}
