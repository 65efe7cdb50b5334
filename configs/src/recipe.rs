//! Recipe (`configs/images/*.toml`): what goes into an image and how its release is made.
//!
//! Route in: [`Recipe::load`]. Route out: a recipe that holds only what is valid, for os-image; every mistake
//! with its line otherwise ([`rules`]). Keys are documented for builders in docs/building.md.

mod rules;

use crate::diagnose::{Errors, Report};
use crate::spanned::{Document, read};
use std::path::{Path, PathBuf};

/// The only version of the format so far.
pub const VERSION: i64 = 1;

/// What one image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// `[release]`
    pub release: Release,
    /// `[packages]`
    pub packages: Packages,
    /// `[root] compression`
    pub compression: Compression,
    /// `[boot] arguments`: added to the node's kernel command line.
    pub arguments: Vec<String>,
    /// `[payload] zstd-level`
    pub zstd_level: i32,
    /// `[kube]`
    pub kube: Kube,
}

/// `[release]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `sheaf`
    pub name: String,
    /// `0.1.0`
    pub version: String,
    /// Timestamp of every file in the image (SOURCE_DATE_EPOCH), in seconds.
    pub epoch: u64,
    /// minisign secret key without password; none: a throw-away key.
    pub signing_key: Option<PathBuf>,
}

/// `[packages]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packages {
    /// Lists under os-image/image/packages, without `.list`.
    pub lists: Vec<String>,
    /// Further Debian packages.
    pub add: Vec<Item>,
    /// Firmware of real servers, microcode of their processors.
    pub firmware: bool,
    /// Debian's components.
    pub components: Vec<String>,
    /// Debian mirror; none: Debian's own.
    pub mirror: Option<String>,
    /// Mirror of Debian's security updates; none: Debian's own.
    pub security_mirror: Option<String>,
}

/// A value of a list, and the line that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// `htop`
    pub value: String,
    /// The recipe's file name and line: `sheaf.toml:9`.
    pub line: String,
}

/// How the root is stored in its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is: fastest to read, and zstd on the medium packs it best.
    #[default]
    None,
    /// lz4: half the size on disk.
    Lz4,
}

/// Where the control plane's binary comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kube {
    /// Built from kubernetes/, which needs Go.
    #[default]
    Source,
    /// A file on the build host.
    File(PathBuf),
    /// Fetched, and checked against the SHA-256.
    Url {
        /// `https://…`
        url: String,
        /// 64 hex digits.
        sha256: String,
    },
}

impl Recipe {
    /// Reads `path`; paths in it are relative to its directory.
    pub fn load(path: &Path) -> Result<Self, Errors> {
        let text = read(path)?;
        Self::parse(&path.display().to_string(), &text, path.parent().unwrap_or(Path::new(".")))
    }

    /// Reads `text`, which messages call `file`; paths in it are relative to `dir`.
    pub fn parse(file: &str, text: &str, dir: &Path) -> Result<Self, Errors> {
        let report = Report::new(file, text);
        let recipe = Document::parse(&report).and_then(|document| rules::recipe(document.root(&report), dir));
        report.finish(recipe)
    }
}
