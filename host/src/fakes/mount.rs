//! A [`Mount`] whose devices are directories.

use crate::mount::{Mount, MountError};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Knows which directory stands for which device; everything else fails to mount.
#[derive(Default)]
pub struct FakeMount {
    devices: BTreeMap<PathBuf, PathBuf>,
}

impl FakeMount {
    /// `device` holds what `dir` holds.
    #[must_use]
    pub fn holds(mut self, device: impl AsRef<Path>, dir: impl AsRef<Path>) -> Self {
        self.devices.insert(device.as_ref().to_owned(), dir.as_ref().to_owned());
        self
    }
}

impl Mount for FakeMount {
    fn read_only(&self, device: &Path, fstype: &str, target: &Path) -> Result<PathBuf, MountError> {
        self.devices.get(device).cloned().ok_or_else(|| MountError::Mount {
            device: device.to_owned(),
            fstype: fstype.into(),
            target: target.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    fn writable(&self, device: &Path, fstype: &str, target: &Path) -> Result<PathBuf, MountError> {
        self.read_only(device, fstype, target)
    }

    fn show_file(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        let fail = |source| MountError::Target { target: target.to_owned(), source };
        std::fs::copy(source, target).map(drop).map_err(fail)
    }

    fn unmount(&self, _: &Path) -> Result<(), MountError> {
        Ok(())
    }
}
