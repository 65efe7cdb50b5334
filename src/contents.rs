//! What is in a release, read from its folder: for `sheaf inspect` and `sheaf diff`.
//!
//! Route in: a release folder, whose signature and hashes are checked first. Route out: [`Contents`].

use crate::workplace::Workplace;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use sheaf_config::manifest::{self, Manifest};
use sheaf_config::recipe::Recipe;
use sheaf_iso::Release;
use sheaf_os_image::contents::{self, Package};
use sheaf_os_image::files::{self, Entry};
use sheaf_os_image::{release, sbom};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Kernel arguments that differ between any two roots and say nothing else.
const IDENTITY: [&str; 3] = ["roothash=", "systemd.verity_root_data=", "systemd.verity_root_hash="];

/// What a release is made of.
#[derive(Serialize)]
pub struct Contents {
    /// Name, version, kernel, files.
    pub manifest: Manifest,
    /// The public key whose signature it has.
    pub key: String,
    /// Debian's packages; those left out of the image, too.
    pub packages: Vec<Package>,
    /// Crates and Go modules, by purl.
    pub components: Vec<String>,
    /// Arguments of the node's kernel, without those that name the root.
    pub arguments: Vec<String>,
    /// What becomes of each unit at boot.
    pub units: BTreeMap<String, String>,
    /// Files of the root.
    pub files: BTreeMap<String, Entry>,
}

/// The release folder that `given` is, or that the recipe `given` was built to.
pub fn folder(given: &Path) -> Result<PathBuf> {
    match given.is_dir() {
        true => Ok(given.to_owned()),
        false => Ok(release::dir(&Workplace::find()?.build_context().target, &Recipe::load(given)?)),
    }
}

impl Contents {
    /// Of the release in `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        let manifest = Release::open(dir)?.manifest;
        let has = |name: &str| manifest.documents.iter().any(|document| document.file == name);
        ensure!(
            [contents::FILE, files::FILE, sbom::FILE].into_iter().all(has),
            "{}: an older sheaf built it, and did not write what is in it; build it again",
            dir.display()
        );
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))
        };
        let of =
            |name: &str| format!("{}: is not understood; build the release again", dir.join(name).display());
        let bill: serde_json::Value =
            serde_json::from_str(&read(sbom::FILE)?).with_context(|| of(sbom::FILE))?;
        let files = files::parse(&read(files::FILE)?).with_context(|| of(files::FILE))?;
        let key = read(manifest::PUBLIC_KEY)?.lines().last().unwrap_or_default().to_owned();
        let line = manifest.node_uki.command_line.split_ascii_whitespace();
        let arguments = line.filter(|argument| !IDENTITY.iter().any(|own| argument.starts_with(own)));
        Ok(Self {
            key,
            packages: serde_json::from_str(&read(contents::FILE)?).with_context(|| of(contents::FILE))?,
            components: components(&bill),
            arguments: arguments.map(str::to_owned).collect(),
            units: files::units(&files),
            files,
            manifest,
        })
    }

    /// Its files: name, bytes.
    pub fn parts(&self) -> Vec<(&str, u64)> {
        let Manifest { root, verity, node_uki, installer_uki, boot_loader, bios, documents, .. } =
            &self.manifest;
        let compressed = [root, verity].map(|part| (part.file.as_str(), part.size));
        let ukis = [node_uki, installer_uki].map(|part| (part.file.as_str(), part.size));
        let plain = [boot_loader, &bios.boot, &bios.core, &bios.menu].into_iter().chain(documents);
        compressed.into_iter().chain(ukis).chain(plain.map(|part| (part.file.as_str(), part.size))).collect()
    }
}

/// Purls of what is not Debian's.
fn components(bill: &serde_json::Value) -> Vec<String> {
    let purl = |package: &serde_json::Value| {
        let purl = package["externalRefs"][0]["referenceLocator"].as_str()?;
        (!purl.starts_with("pkg:deb/")).then(|| purl.to_owned())
    };
    bill["packages"].as_array().into_iter().flatten().filter_map(purl).collect()
}
