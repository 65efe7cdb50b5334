//! What `sheaf build`, `sheaf kube` and `cargo build` left in `target`.
//!
//! Route in: the checkout. Route out: paths, or the command that makes what is missing.

use anyhow::{Context as _, Result, bail};
use sheaf_host::run::{Command, Run as _, System};
use std::path::{Path, PathBuf};

/// Built artefacts.
#[derive(Clone, Debug)]
pub struct Built {
    /// The operator's command.
    pub sheaf: PathBuf,
    /// The control plane's binary, `kubectl` among others.
    pub kube: PathBuf,
    /// The release folder that was built last.
    pub release: PathBuf,
}

impl Built {
    /// Finds everything under the checkout `root`.
    pub fn find(root: &Path) -> Result<Self> {
        let sheaf = root.join("target/release/sheaf");
        if !sheaf.exists() {
            bail!("{} is missing; make it: cargo build --release --bin sheaf", sheaf.display());
        }
        let kube = match std::env::var_os("SHEAF_KUBE") {
            Some(kube) => kube.into(),
            None => System.run(&Command::new(&sheaf).arg("kube").dir(root))?.text().into(),
        };
        let releases = root.join("target/sheaf/releases");
        let release = newest(&releases).with_context(|| {
            format!("{}: no release; make one: sheaf build configs/images/sheaf.toml", releases.display())
        })?;
        Ok(Self { sheaf, kube, release })
    }

    /// The release's manifest, which holds the hash of everything in it.
    pub fn manifest(&self) -> Result<Vec<u8>> {
        let path = self.release.join("manifest.json");
        std::fs::read(&path).with_context(|| path.display().to_string())
    }
}

/// The release whose manifest is youngest.
fn newest(releases: &Path) -> Option<PathBuf> {
    let age =
        |folder: &PathBuf| folder.join("manifest.json").metadata().and_then(|meta| meta.modified()).ok();
    let folders = std::fs::read_dir(releases).ok()?.flatten().map(|entry| entry.path());
    // A folder that is just being made is called `….new`.
    let done = |folder: &PathBuf| folder.extension().is_none_or(|end| end != "new") && age(folder).is_some();
    folders.filter(done).max_by_key(age)
}
