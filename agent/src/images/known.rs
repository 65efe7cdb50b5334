//! Which files were verified: `/var/lib/sheaf/images.json`.
//!
//! Why here: reading back gigabytes at each boot only to compute what was computed before. A file counts as the
//! one that was verified while its size and its time of change are the same. Route in: a verified file.
//! Route out: whether a file has to be read again.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VerifiedFile {
    /// Its SHA-256, hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Time of its last change, nanoseconds since 1970.
    pub changed: i128,
}

impl VerifiedFile {
    /// Describes the file at `path` whose contents hash to `sha256`.
    pub(super) fn of(path: &Path, sha256: &str) -> io::Result<Self> {
        let facts = std::fs::metadata(path)?;
        let changed = i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec());
        Ok(Self { sha256: sha256.to_owned(), bytes: facts.len(), changed })
    }
}

/// Verified files by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Known(BTreeMap<String, VerifiedFile>);

impl Known {
    /// What is remembered; nothing when the file is not there or damaged, which costs a verification.
    pub(super) fn read(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), sheaf_host::file::WriteError> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        sheaf_host::file::write_atomically(path, &text, 0o600)
    }

    pub(super) fn get(&self, name: &str) -> Option<&VerifiedFile> {
        self.0.get(name)
    }

    pub(super) fn put(&mut self, name: &str, file: VerifiedFile) {
        self.0.insert(name.to_owned(), file);
    }
}
