//! Recipe (`configs/images/*.toml`): what goes into an image and how its release is made.
//!
//! Route in: [`Recipe::load`]. Route out: a recipe that holds only what is valid, for os-image; every mistake
//! with its line otherwise ([`rules`]). Keys are documented for builders in docs/building.md.

mod rules;
mod values;

pub use values::{component, package};

use crate::diagnose::{Errors, Report};
use crate::spanned::{At, Document, Wrong, read};
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
    /// `[root] overlays`: folders laid over `os-image/image/rootfs`, a later one over an earlier.
    pub overlays: Vec<PathBuf>,
    /// `[root] scripts`: run in the finished tree, in order.
    pub scripts: Vec<PathBuf>,
    /// `[units]`
    pub units: Units,
    /// `[modules]`
    pub modules: Modules,
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
    /// Which nodes may take it, and until when.
    pub terms: Terms,
    /// What signs it; none: a throw-away key.
    pub signing: Option<Signing>,
    /// `keys.json`: which keys sign releases from this one on; none: the one that signs this.
    pub keys: Option<PathBuf>,
}

/// Keys of `[release]` that become part of [`crate::manifest::Terms`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// No node updates to it from then on, in seconds since 1970.
    pub expires: Option<u64>,
    /// `stable`
    pub channel: Option<String>,
    /// Nothing older is started on purpose on a node that found this release good.
    pub floor: Option<String>,
    /// The oldest version that updates to it directly.
    pub min_from: Option<String>,
}

/// What signs a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signing {
    /// minisign secret key, with or without passphrase.
    Key(PathBuf),
    /// A program that is given a file and writes its signature beside it, as `minisign -S -m FILE` does.
    Command {
        /// The program and its arguments; the file comes after them.
        command: Vec<String>,
        /// minisign public key that its signatures verify by.
        public_key: PathBuf,
    },
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
    /// Further sets of firmware: of [`FIRMWARE_SETS`].
    pub firmware_sets: Vec<String>,
    /// Debian's components.
    pub components: Vec<String>,
    /// Debian mirror; none: Debian's own.
    pub mirror: Option<String>,
    /// Mirror of Debian's security updates; none: Debian's own.
    pub security_mirror: Option<String>,
}

/// Sets of firmware by name: `packages/firmware-NAME.list`.
pub const FIRMWARE_SETS: [&str; 4] = ["graphics", "netronome", "sound", "wireless"];
/// Sets of kernel modules by name, which a node lacks unless they are kept: `modules/NAME.list`.
pub const MODULE_SETS: [&str; 8] =
    ["filesystems", "graphics", "infiniband", "media", "protocols", "sound", "usb", "wireless"];

/// `[units]`: what systemd does with units, beyond the preset of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Started at boot.
    pub enable: Vec<String>,
    /// Never started.
    pub mask: Vec<String>,
}

/// `[modules]`: of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    /// Sets that stay in the image.
    pub keep: Vec<String>,
    /// Loaded at boot.
    pub load: Vec<String>,
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
    /// Reads `path` and the recipe it extends, if any; paths in each are relative to its own directory.
    pub fn load(path: &Path) -> Result<Self, Errors> {
        Self::load_as(path, &[])
    }

    /// The same as the release `version`; what is wrong with it, and what to write, otherwise.
    pub fn with_version(mut self, version: &str) -> Result<Self, String> {
        let said = |Wrong(what, remedy)| format!("{what}; {remedy}");
        self.release.version = values::version(version).map_err(said)?;
        let Terms { floor, min_from, .. } = &self.release.terms;
        for (key, older) in [("floor", floor), ("min-from", min_from)] {
            let Some(older) = older else { continue };
            values::not_newer(older, version)
                .map_err(|Wrong(what, remedy)| format!("release.{key}: {what}; {remedy}"))?;
        }
        Ok(self)
    }

    /// The same until `expires`: `2027-06-01T00:00:00Z`, or seconds since 1970.
    pub fn with_expiry(mut self, expires: &str) -> Result<Self, String> {
        let expires = match expires.parse() {
            Ok(seconds) => Ok(seconds),
            Err(_) => values::time(expires),
        };
        let expires = expires.and_then(|expires| values::after(expires, self.release.epoch));
        self.release.terms.expires =
            Some(expires.map_err(|Wrong(what, remedy)| format!("{what}; {remedy}"))?);
        Ok(self)
    }

    /// Reads `text`, which messages call `file`; paths in it are relative to `dir`.
    pub fn parse(file: &str, text: &str, dir: &Path) -> Result<Self, Errors> {
        Self::parse_as(file, text, dir, &[])
    }

    /// Reads `path`, which the recipes of `chain` extend.
    fn load_as(path: &Path, chain: &[PathBuf]) -> Result<Self, Errors> {
        let text = read(path)?;
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let chain: Vec<_> = chain.iter().cloned().chain([real]).collect();
        Self::parse_as(&path.display().to_string(), &text, path.parent().unwrap_or(Path::new(".")), &chain)
    }

    fn parse_as(file: &str, text: &str, dir: &Path, chain: &[PathBuf]) -> Result<Self, Errors> {
        let report = Report::new(file, text);
        let Some(document) = Document::parse(&report) else { return report.finish(None) };
        let mut root = document.root(&report);
        let base = root.optional("extends", |value| value.text(values::file));
        let base = match base.map(|at| base_of(&report, &at, dir, chain)) {
            None => None,
            Some(None) => return report.finish(None),
            Some(Some(path)) => Some((Self::load_as(&path, chain)?, path)),
        };
        let base = base.as_ref().map(|(recipe, path)| rules::Base { recipe, path });
        let recipe = rules::recipe(root, dir, base);
        report.finish(recipe)
    }
}

/// The file that a recipe extends; none: it cannot be, and the report has why.
fn base_of(report: &Report<'_>, named: &At<String>, dir: &Path, chain: &[PathBuf]) -> Option<PathBuf> {
    let path = dir.join(&named.value);
    match path.canonicalize() {
        Err(error) => {
            let what = format!("\"{}\" cannot be read: {error}", named.value);
            named.wrong(
                report,
                what,
                "write the path of a recipe; a relative one starts at this one's directory",
            );
            None
        }
        Ok(real) if chain.contains(&real) => {
            let what = format!("\"{}\" extends this recipe itself", named.value);
            named.wrong(report, what, "remove extends from one of the two");
            None
        }
        Ok(_) => Some(path),
    }
}
