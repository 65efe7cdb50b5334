//! Mounts: install media, config drives, single files shown elsewhere.
//!
//! Route in: device, type, directory. Route out: where its files are found, until [`Mount::unmount`].

use rustix::mount::{MountFlags, UnmountFlags};
use std::io;
use std::path::{Path, PathBuf};

/// A mount that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The directory or file to mount on could not be made.
    #[error("{}: cannot be made to mount on", .target.display())]
    Target {
        /// Where.
        target: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{} cannot be mounted ({fstype}) on {}", .device.display(), .target.display())]
    Mount {
        /// What.
        device: PathBuf,
        /// Its file system.
        fstype: String,
        /// Where.
        target: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is still in use.
    #[error("{} cannot be unmounted", .target.display())]
    Unmount {
        /// Where it is mounted.
        target: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Something that mounts: [`System`], or [`crate::fakes::FakeMount`] in tests.
pub trait Mount: Send + Sync {
    /// Mounts `device` read-only on `target`, made when missing; returns where its files are.
    fn read_only(&self, device: &Path, fstype: &str, target: &Path) -> Result<PathBuf, MountError>;
    /// Mounts `device` for writing; what was written is on it once it is unmounted.
    fn writable(&self, device: &Path, fstype: &str, target: &Path) -> Result<PathBuf, MountError>;
    /// Shows the file `source` as `target` too, without copying it.
    fn show_file(&self, source: &Path, target: &Path) -> Result<(), MountError>;
    /// Ends a mount.
    fn unmount(&self, target: &Path) -> Result<(), MountError>;
}

/// The machine itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Mount for System {
    fn read_only(&self, device: &Path, fstype: &str, target: &Path) -> Result<PathBuf, MountError> {
        mount(device, fstype, target, MountFlags::RDONLY)
    }

    fn writable(&self, device: &Path, fstype: &str, target: &Path) -> Result<PathBuf, MountError> {
        mount(device, fstype, target, MountFlags::empty())
    }

    fn show_file(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        std::fs::File::create(target)
            .map_err(|source| MountError::Target { target: target.to_owned(), source })?;
        rustix::mount::mount_bind(source, target).map_err(|errno| refused(source, "bind", target, errno))
    }

    fn unmount(&self, target: &Path) -> Result<(), MountError> {
        rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)
            .map_err(|errno| MountError::Unmount { target: target.to_owned(), source: errno.into() })
    }
}

/// Whatever comes from elsewhere is data: no devices, no programs.
fn mount(device: &Path, fstype: &str, target: &Path, flags: MountFlags) -> Result<PathBuf, MountError> {
    std::fs::create_dir_all(target)
        .map_err(|source| MountError::Target { target: target.to_owned(), source })?;
    let flags = flags | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount(device, target, fstype, flags, None)
        .map_err(|errno| refused(device, fstype, target, errno))?;
    Ok(target.to_owned())
}

fn refused(device: &Path, fstype: &str, target: &Path, errno: rustix::io::Errno) -> MountError {
    MountError::Mount {
        device: device.to_owned(),
        fstype: fstype.into(),
        target: target.to_owned(),
        source: errno.into(),
    }
}
