//! A release folder on a server, from `sheaf.payload=URL`: its manifest, trusted.
//!
//! Route in: a [`Remote`], the key in the installer's initrd. Route out: the manifest.

use super::medium::{MediumError, VERIFIER, explained, public_key};
use sheaf_config::manifest::{FILE, Manifest, SIGNATURE};
pub use sheaf_release::remote::Remote;
use sheaf_release::remote::is_page;
use std::path::Path;

/// The manifest of `remote`, if the key in the file `key` signed it.
pub fn manifest(remote: &Remote<'_>, key: &Path) -> Result<Manifest, MediumError> {
    let key = public_key(key)?;
    let refused = |reason| MediumError::RemoteRefused { url: remote.url().to_owned(), reason };
    let text = |file: &str| {
        let url = || format!("{}/{file}", remote.url());
        remote.text(file).map_err(|source| MediumError::Fetch { url: url(), source })
    };
    let bytes = text(FILE)?;
    if is_page(&bytes) {
        return Err(refused(format!(
            "{FILE} is a web page: the folder has another URL, or a proxy answers in the server's place"
        )));
    }
    let trusted = sheaf_release::trust::trusted(&bytes, &text(SIGNATURE)?, &key, VERIFIER);
    trusted.map_err(|error| refused(explained(&error, "")))
}
