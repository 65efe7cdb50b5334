//! Releases whose every byte is known: what a disk is compared with.
//!
//! Route in: a release folder. Route out: [`Release`]: its boot files as they are, its images block by block.

use crate::content::{Digest, Known, digest};
use sheaf_config::manifest::{self, Compressed, FILE, Manifest};
use sheaf_release::boot;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of a block of root and tree.
pub const BLOCK: usize = 4096;
/// Length of the MBR's code in bytes; the disk's signature and the table follow.
pub const CODE: usize = 440;
/// Of boot.img, see installer/src/execute/bios.rs: sector of the core (8 bytes), drive, check of the drive (2 bytes).
const KERNEL_SECTOR: usize = 0x5c;
const BOOT_DRIVE: usize = 0x64;
const DRIVE_CHECK: usize = 0x66;
/// Of core.img: where its rest is, as sector (8 bytes) and number of sectors (2 bytes).
const BLOCK_LIST: usize = 0x1f4;
/// Bytes of a sector of BIOS.
const SECTOR: usize = 512;

/// A release folder that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A file is missing or cannot be read.
    #[error("{}: cannot be read; build the release again", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The manifest is of another format.
    #[error("{}: is not a manifest of a release", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// GRUB's images are too short.
    #[error("{}: is not an image of GRUB", .path.display())]
    Grub {
        /// The file.
        path: PathBuf,
    },
}

/// Bytes of the files that start a release.
#[derive(Debug)]
pub struct Files {
    /// The UKI.
    pub uki: Vec<u8>,
    /// systemd-boot.
    pub loader: Vec<u8>,
    /// GRUB's boot.img.
    pub boot: Vec<u8>,
    /// GRUB's core.img.
    pub core: Vec<u8>,
    /// GRUB's script.
    pub menu: Vec<u8>,
    /// The installer's UKI.
    pub installer: Vec<u8>,
}

/// A release.
#[derive(Debug)]
pub struct Release {
    /// Its version.
    pub version: String,
    /// Its UKI.
    pub uki: Known,
    /// systemd-boot.
    pub loader: Known,
    /// GRUB's boot.img and core.img, without places.
    boot: Vec<u8>,
    core: Vec<u8>,
    /// GRUB's script that chooses a slot.
    pub menu: Known,
    /// GRUB's script that starts it.
    pub entry: Known,
    /// The installer's UKI, which is the recovery.
    pub recovery: Known,
    /// GRUB's script that starts the recovery.
    pub recovery_script: Known,
    /// Blocks of the root.
    pub root: Vec<Digest>,
    /// Blocks of the hash tree.
    pub tree: Vec<Digest>,
}

impl Release {
    /// A release of these parts. `arguments` are a node's own kernel arguments.
    pub fn new(
        version: &str,
        (uki, installer): (&manifest::Uki, &manifest::Uki),
        files: Files,
        (root, tree): (Vec<Digest>, Vec<Digest>),
        arguments: &[String],
    ) -> Self {
        let entry = boot::entry(uki, version, arguments).into_bytes();
        Self {
            version: version.to_owned(),
            uki: Known::new(files.uki),
            loader: Known::new(files.loader),
            boot: files.boot,
            core: files.core,
            menu: Known::new(files.menu),
            entry: Known::new(entry),
            recovery: Known::new(files.installer),
            recovery_script: Known::new(boot::recovery_script(installer).into_bytes()),
            root,
            tree,
        }
    }

    /// The release in `folder`.
    pub fn read(folder: &Path, arguments: &[String]) -> Result<Self, ReleaseError> {
        let path = folder.join(FILE);
        let manifest: Manifest = serde_json::from_slice(&file(folder, FILE)?)
            .map_err(|source| ReleaseError::Manifest { path, source })?;
        let files = Files {
            uki: file(folder, &manifest.node_uki.file)?,
            loader: file(folder, &manifest.boot_loader.file)?,
            boot: file(folder, &manifest.bios.boot.file)?,
            core: file(folder, &manifest.bios.core.file)?,
            menu: file(folder, &manifest.bios.menu.file)?,
            installer: file(folder, &manifest.installer_uki.file)?,
        };
        let grub = |name: &str| ReleaseError::Grub { path: folder.join(name) };
        if files.boot.len() < CODE {
            return Err(grub(&manifest.bios.boot.file));
        }
        if files.core.len() <= SECTOR {
            return Err(grub(&manifest.bios.core.file));
        }
        let images = (blocks(folder, &manifest.root)?, blocks(folder, &manifest.verity)?);
        Ok(Self::new(
            &manifest.version,
            (&manifest.node_uki, &manifest.installer_uki),
            files,
            images,
            arguments,
        ))
    }

    /// The MBR's code for a core from sector `first`, as the installer writes it.
    pub fn code(&self, first: u64) -> Vec<u8> {
        let mut code = self.boot[..CODE].to_vec();
        code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&first.to_le_bytes());
        code[BOOT_DRIVE] = 0xff;
        code[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
        code
    }

    /// GRUB's core as it lies on a disk from sector `first`.
    pub fn core(&self, first: u64) -> Vec<u8> {
        let mut core = self.core.clone();
        let rest = core.len().div_ceil(SECTOR) - 1;
        core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(first + 1).to_le_bytes());
        core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&(rest as u16).to_le_bytes());
        core
    }
}

fn file(folder: &Path, name: &str) -> Result<Vec<u8>, ReleaseError> {
    let path = folder.join(name);
    fs::read(&path).map_err(|source| ReleaseError::Read { path, source })
}

/// Digests of the blocks of `image`, which is decoded as it is read; zeros fill the last block, as on a disk.
fn blocks(folder: &Path, image: &Compressed) -> Result<Vec<Digest>, ReleaseError> {
    let path = folder.join(&image.file);
    let read = || -> io::Result<Vec<Digest>> {
        let mut decoder = zstd::Decoder::new(File::open(&path)?)?;
        let mut blocks = Vec::with_capacity(image.raw_size as usize / BLOCK);
        let mut left = image.raw_size as usize;
        while left > 0 {
            let mut block = [0; BLOCK];
            let length = left.min(BLOCK);
            decoder.read_exact(&mut block[..length])?;
            blocks.push(digest(&block));
            left -= length;
        }
        Ok(blocks)
    };
    read().map_err(|source| ReleaseError::Read { path: path.clone(), source })
}
