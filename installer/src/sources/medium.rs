//! The install medium: an iso9660 device that holds a release which our key signed.
//!
//! Route in: block devices, a [`Mount`], the keys in the installer's own initrd. Route out: [`Medium`],
//! mounted; nothing of it is believed but what the signed manifest vouches for.

use sheaf_config::manifest::{FILE, KEYS, Manifest, SIGNATURE};
use sheaf_host::block::Device;
use sheaf_host::mount::{Mount, MountError};
use sheaf_release::keys::{Keys, KeysError};
use sheaf_release::origin::Origin;
use sheaf_release::trust::{Claim, TrustError, trusted};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folder of everything of Sheaf's on a medium.
pub const FOLDER: &str = "sheaf";
/// Folder in it with disk images for VMs.
pub const IMAGES: &str = "images";
/// Whose keys are trusted.
pub(super) const VERIFIER: &str = "installer";

/// A medium whose manifest verified.
#[derive(Clone, Debug)]
pub struct Medium {
    /// Its block device.
    pub device: PathBuf,
    /// Where it is mounted.
    pub mounted: PathBuf,
    /// Its folder [`FOLDER`], as seen now.
    pub folder: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
    /// Length in bytes of each file under [`IMAGES`], by its path there.
    pub images: BTreeMap<String, u64>,
}

/// Why there is no medium to install from.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The installer has no key to trust.
    #[error("no release can be verified: {0}; this installer was not built by `sheaf build`")]
    Key(KeysError),
    /// Nothing was found.
    #[error(
        "no install medium found: looked for an iso9660 file system that holds /{FOLDER}/{FILE} on {looked}; \
         attach the medium made by `sheaf iso`, and try another port or drive if it is attached"
    )]
    None {
        /// Every device that was looked at, and what it had instead.
        looked: String,
    },
    /// More than one was found.
    #[error("several install media found: {}; leave only the one to install from", list(.devices))]
    Several {
        /// Their devices.
        devices: Vec<PathBuf>,
    },
    /// A file of a release folder on a server cannot be had.
    #[error("{url} cannot be fetched")]
    Fetch {
        /// What was asked for.
        url: String,
        /// Why not.
        source: io::Error,
    },
    /// A release folder is there, but not one that we trust.
    #[error("the release folder {url} is refused: {reason}")]
    RemoteRefused {
        /// Its URL.
        url: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A medium is there, but not one that we trust.
    #[error("the medium {} is refused: {reason}", .device.display())]
    Refused {
        /// Its device.
        device: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

fn list(devices: &[PathBuf]) -> String {
    devices.iter().map(|device| device.display().to_string()).collect::<Vec<_>>().join(" and ")
}

/// Devices that may be a medium, whole disks before their partitions.
pub fn candidates(devices: &[Device]) -> Vec<&Device> {
    let tree = devices.iter().flat_map(Device::tree);
    tree.filter(|device| device.fstype.as_deref() == Some("iso9660")).collect()
}

/// Finds the medium among `devices`, mounts it below `mounts` and checks its manifest. `key` is the installer's `release.pub`.
pub fn find(devices: &[Device], mount: &dyn Mount, mounts: &Path, key: &Path) -> Result<Medium, MediumError> {
    let keys = Keys::trusted_at(key).map_err(MediumError::Key)?;
    let mut looked = Vec::new();
    let mut found = Vec::new();
    for device in devices {
        // A stick written with the ISO shows the file system on the disk and again on a partition: one medium.
        for candidate in candidates(std::slice::from_ref(device)) {
            let target = mounts.join(format!("medium-{}", looked.len() + found.len()));
            match mount.read_only(&candidate.path, "iso9660", &target) {
                Ok(dir) if dir.join(FOLDER).join(FILE).exists() => {
                    found.push((candidate.path.clone(), target, dir));
                    break;
                }
                Ok(_) => {
                    looked.push(format!("{} (holds no /{FOLDER}/{FILE})", candidate.path.display()));
                    let _ = mount.unmount(&target);
                }
                Err(MountError::Mount { source, .. }) => {
                    looked.push(format!("{} (cannot be mounted: {source})", candidate.path.display()));
                }
                Err(error) => looked.push(error.to_string()),
            }
        }
    }
    if looked.is_empty() {
        let all = devices.iter().flat_map(Device::tree).map(|device| {
            format!("{} ({})", device.path.display(), device.fstype.as_deref().unwrap_or("no file system"))
        });
        looked = all.collect();
    }
    match found.len() {
        0 if looked.is_empty() => {
            Err(MediumError::None { looked: "this machine, which shows no drives".into() })
        }
        0 => Err(MediumError::None { looked: looked.join(", ") }),
        1 => {
            let (device, mounted, dir) = found.remove(0);
            let folder = dir.join(FOLDER);
            let manifest = trusted_manifest(&folder, &keys)
                .map_err(|reason| MediumError::Refused { device: device.clone(), reason })?;
            let images = images(&folder.join(IMAGES)).map_err(|error| MediumError::Refused {
                device: device.clone(),
                reason: unreadable(IMAGES, &error),
            })?;
            Ok(Medium { device, mounted, folder, manifest, images })
        }
        _ => Err(MediumError::Several { devices: found.into_iter().map(|(device, ..)| device).collect() }),
    }
}

fn unreadable(file: &str, error: &io::Error) -> String {
    format!(
        "/{FOLDER}/{file} cannot be read ({error}); write the medium again, or try another stick or drive"
    )
}

/// The manifest in `folder`, if enough of `keys` signed it, or of those that follow them on the medium.
fn trusted_manifest(folder: &Path, keys: &Keys) -> Result<Manifest, String> {
    let origin = Origin::Folder(folder);
    let read = |file: &str| origin.text(file).map_err(|error| unreadable(file, &error));
    let (manifest, signatures) = (read(FILE)?, read(SIGNATURE)?);
    let newer = origin.optional_text(KEYS).map_err(|error| unreadable(KEYS, &error))?;
    let claim = Claim { manifest: &manifest, signatures: &signatures, keys: newer.as_deref() };
    trusted(claim, keys, VERIFIER).map_err(|error| explained(&error, &format!("/{FOLDER}/")))
}

/// `error` with the place of the files, and what to do.
pub(super) fn explained(error: &TrustError, place: &str) -> String {
    match error.is_foreign() {
        true => format!(
            "{place}{error}; it was changed, or made by a build with another key: use the medium of this installer's \
             release"
        ),
        false => format!("{place}{error}; use an installer of its own release"),
    }
}

/// Every file below `root` by its path there; a medium without images has no such folder.
fn images(root: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                files.insert(name, metadata.len());
            }
        }
    }
    Ok(files)
}
