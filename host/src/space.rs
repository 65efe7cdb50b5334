//! How large a file system is.
//!
//! Route in: a path on it. Route out: bytes.

use std::io;
use std::path::Path;

/// Size of the file system that holds `path`, in bytes.
pub fn total(path: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(path)?;
    Ok(facts.f_blocks * facts.f_frsize)
}
