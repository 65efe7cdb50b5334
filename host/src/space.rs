//! How large a file system is, and how much of it is free.
//!
//! Route in: a path on it. Route out: bytes.

use std::io;
use std::path::Path;

/// Size of the file system that holds `path`, in bytes.
pub fn total(path: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(path)?;
    Ok(facts.f_blocks.saturating_mul(facts.f_frsize))
}

/// What those who are not root may still write to it, in bytes.
pub fn free(path: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(path)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}
