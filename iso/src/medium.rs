//! What lies where on a medium.
//!
//! Route in: a checked release, a node config, disk images for VMs. Route out: [`Medium`], a list of files, for
//! [`crate::write`]. Nothing is written here.

use crate::release::Release;
use sheaf_config::diagnose::Errors;
use sheaf_config::manifest::{FILE, SIGNATURE};
use sheaf_config::syntax;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Volume id by which the installer and its user know the medium.
pub const VOLUME: &str = "SHEAF";
/// Folder of everything of ours.
const FOLDER: &str = "sheaf";
/// Prefix of an image URL in a node config that means this medium.
const OF_MEDIUM: &str = "medium:";

/// A medium to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// What firmware starts: the installer's UKI.
    pub boot: PathBuf,
    /// Files by their path on the medium.
    pub files: BTreeMap<String, PathBuf>,
    /// Timestamp of everything, in seconds.
    pub epoch: u64,
    /// Hex digits that differ from release to release, for the FAT's serial number.
    pub serial: String,
}

/// A disk image to put on the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Its name there, and in `medium:NAME`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

impl ImageFile {
    /// `FILE` or `NAME=FILE`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
            None => {
                let path = PathBuf::from(text);
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                (name.ok_or_else(|| format!("\"{text}\" names no file"))?, path)
            }
        };
        let name = syntax::image_name(&name).map_err(|wrong| format!("{}; {}", wrong.0, wrong.1))?;
        Ok(Self { name, path })
    }
}

/// Why there is no such medium.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The node config has mistakes.
    #[error(transparent)]
    Config(#[from] Errors),
    /// Two images would lie at one place.
    #[error("two images are called {name}; give one another name: --image OTHER={}", .path.display())]
    Twice {
        /// Their name.
        name: String,
        /// The second.
        path: PathBuf,
    },
    /// The node config counts on an image that the medium lacks.
    #[error("{}: image \"{name}\" comes from the medium; add --image {file}=FILE", .config.display())]
    NoImage {
        /// The node config.
        config: PathBuf,
        /// The image's name in it.
        name: String,
        /// The image's file on the medium.
        file: String,
    },
}

/// Plans the medium of `release`.
pub fn plan(release: &Release, config: Option<&Path>, images: &[ImageFile]) -> Result<Medium, MediumError> {
    let manifest = &release.manifest;
    let payload = [FILE, SIGNATURE, &manifest.root.file, &manifest.verity.file, &manifest.node_uki.file, &manifest.boot_loader.file];
    let mut files: BTreeMap<String, PathBuf> =
        payload.iter().map(|name| (format!("{FOLDER}/{name}"), release.file(name))).collect();
    for image in images {
        let place = format!("{FOLDER}/images/{}", image.name);
        if files.insert(place, image.path.clone()).is_some() {
            return Err(MediumError::Twice { name: image.name.clone(), path: image.path.clone() });
        }
    }
    if let Some(path) = config {
        let node = sheaf_config::load::node_config(path)?;
        for image in &node.images {
            if let Some(file) = image.url.strip_prefix(OF_MEDIUM)
                && !files.contains_key(&format!("{FOLDER}/images/{file}"))
            {
                let (config, name, file) = (path.to_owned(), image.name.clone(), file.to_owned());
                return Err(MediumError::NoImage { config, name, file });
            }
        }
        files.insert(format!("{FOLDER}/node.toml"), path.to_owned());
    }
    Ok(Medium {
        boot: release.file(&manifest.installer_uki.file),
        files,
        epoch: manifest.created,
        serial: manifest.installer_uki.sha256.chars().take(8).collect(),
    })
}
