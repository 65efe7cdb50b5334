//! The disk that VMs boot in demo and tests: Debian's cloud kernel, BusyBox and dropbear.
//!
//! Why here: a VM must be shown to run, to be the same VM after a restart of the agent, to read its seed and to obey
//! the power button; the smallest Linux that says all this on its serial line is made from Debian's packages in some
//! seconds, and is never committed. Route in: the tools chroot and this folder's texts. Route out: a raw disk that
//! BIOS boots (KubeVirt's default firmware), kept until one of the texts changes.

mod cpio;
mod disk;
mod grub;
pub mod medium;
mod packages;
mod rootfs;

use crate::Tools;
use crate::packages::PackagesError;
use sha2::{Digest, Sha256};
use sheaf_host::run::{Command, Run as _, RunError, System};
use std::io;
use std::path::{Path, PathBuf};

/// Goes into the key of the cache: raise it when a step of the build changes its result.
const RECIPE_VERSION: u32 = 3;

/// A guest disk that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// A program failed.
    #[error("guest disk: {step}")]
    Program {
        /// The step.
        step: &'static str,
        /// What the program said.
        source: RunError,
    },
    /// A file could not be read or written.
    #[error("guest disk: {step}: {}", .path.display())]
    File {
        /// The step.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Debian's packages.
    #[error("guest disk")]
    Packages(#[from] PackagesError),
    /// A package does not hold what it used to.
    #[error("guest disk: {what} is in none of Debian's packages {packages}")]
    Missing {
        /// The file.
        what: String,
        /// Where it was looked for.
        packages: String,
    },
}

/// Makes the disk at `out`, unless it is there and made by the same recipe. `work` keeps packages and left-overs.
/// Gives whether it was made.
pub fn build(tools: &Tools, work: &Path, out: &Path) -> Result<bool, GuestError> {
    let stamp = out.with_extension("key");
    let key = key();
    if out.exists() && std::fs::read_to_string(&stamp).is_ok_and(|found| found == key) {
        return Ok(false);
    }
    let tree = packages::unpack(tools, work)?;
    let files = rootfs::build(&tree, work)?;
    disk::build(tools, work, &files, out)?;
    write(&stamp, key.as_bytes(), "its key cannot be written")?;
    Ok(true)
}

fn key() -> String {
    let mut hash = Sha256::new();
    hash.update(RECIPE_VERSION.to_le_bytes());
    for text in rootfs::TEXTS.iter().map(|(_, text)| *text).chain([
        rootfs::MODULES,
        disk::GRUB_CFG,
        packages::PACKAGES,
    ]) {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn program(step: &'static str, command: &Command) -> Result<(), GuestError> {
    System.run(command).map(drop).map_err(|source| GuestError::Program { step, source })
}

fn write(path: &Path, bytes: &[u8], step: &'static str) -> Result<(), GuestError> {
    std::fs::write(path, bytes).map_err(|source| GuestError::File { step, path: path.to_owned(), source })
}

fn read(path: &Path, step: &'static str) -> Result<Vec<u8>, GuestError> {
    std::fs::read(path).map_err(|source| GuestError::File { step, path: path.to_owned(), source })
}

fn fresh_folder(path: &Path) -> Result<(), GuestError> {
    let failed =
        |source| GuestError::File { step: "its folder cannot be made", path: path.to_owned(), source };
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    std::fs::create_dir_all(path).map_err(failed)
}
