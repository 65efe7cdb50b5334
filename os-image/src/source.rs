//! The checkout that an image is built from.
//!
//! Route in: a directory at or below its top. Route out: the paths stages read.

use std::path::{Path, PathBuf};

/// A checkout of Sheaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    top: PathBuf,
}

impl Source {
    /// The checkout that holds `dir`.
    pub fn find(dir: &Path) -> Option<Self> {
        let top = dir.ancestors().find(|dir| dir.join("os-image/image/packages").is_dir())?;
        Some(Self { top: top.to_owned() })
    }

    /// Its top directory.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// A path below the top.
    pub fn path(&self, below: &str) -> PathBuf {
        self.top.join(below)
    }

    /// A path below `os-image/image`.
    pub fn image(&self, below: &str) -> PathBuf {
        self.top.join("os-image/image").join(below)
    }

    /// A package list.
    pub fn list(&self, name: &str) -> PathBuf {
        self.image("packages").join(format!("{name}.list"))
    }

    /// A set of kernel modules.
    pub fn modules(&self, set: &str) -> PathBuf {
        self.image("modules").join(format!("{set}.list"))
    }
}
