//! The drive labelled SHEAF-CONF, from which a key is read. What is written to it is [`sheaf_installer::record`]'s.
//!
//! Route in: a file's name. Route out: its text; the drive may be taken out then.

use anyhow::{Context, Result, bail};
use sheaf_host::block::{self, Device};
use sheaf_host::mount::Mount;
use sheaf_host::run::Run;
use sheaf_installer::sources::config::LABEL;
use std::path::{Path, PathBuf};

/// How it is reached.
pub struct Drive<'a> {
    /// Lists drives.
    pub run: &'a dyn Run,
    /// Mounts it, for the moment.
    pub mount: &'a dyn Mount,
    /// Folder for the mount.
    pub mounts: &'a Path,
}

impl Drive<'_> {
    /// The text of the file `name` in its root.
    pub fn read(&self, name: &str) -> Result<String> {
        let drive = self.find()?;
        let fstype = drive.fstype.clone().unwrap_or_default();
        let target = self.target();
        let dir = self.mount.read_only(&drive.path, &fstype, &target)?;
        let text = std::fs::read_to_string(dir.join(name));
        self.mount.unmount(&target)?;
        text.with_context(|| format!("{name} on {} cannot be read", drive.path.display()))
    }

    fn target(&self) -> PathBuf {
        self.mounts.join("drive")
    }

    fn find(&self) -> Result<Device> {
        let devices = block::devices(self.run)?;
        let all = devices.iter().flat_map(Device::tree);
        let drives: Vec<_> = all.filter(|device| device.label.as_deref() == Some(LABEL)).collect();
        match drives[..] {
            [drive] => Ok(drive.clone()),
            [] => bail!("No drive is labelled {LABEL}; plug one in (FAT, with that label) and try again"),
            _ => bail!("{} drives are labelled {LABEL}; leave only one", drives.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::{FakeMount, FakeRun};
    use tempfile::TempDir;

    fn lsblk(fstypes: &[&str]) -> FakeRun {
        let drive = |(number, fstype): (usize, &&str)| {
            format!(r#"{{"path":"/dev/sd{number}","type":"disk","label":"{LABEL}","fstype":"{fstype}"}}"#)
        };
        let drives: Vec<_> = fstypes.iter().enumerate().map(drive).collect();
        FakeRun::default().prints("lsblk", &format!(r#"{{"blockdevices":[{}]}}"#, drives.join(",")))
    }

    fn with<T>(fstypes: &[&str], act: impl FnOnce(&Drive<'_>, &Path) -> T) -> T {
        let dir = TempDir::new().unwrap();
        let mount = FakeMount::default().holds("/dev/sd0", dir.path());
        act(&Drive { run: &lsblk(fstypes), mount: &mount, mounts: dir.path() }, dir.path())
    }

    #[test]
    fn a_file_of_the_drive_is_read() {
        with(&["vfat"], |drive, dir| {
            std::fs::write(dir.join("admin.pub"), "key").unwrap();
            assert_eq!(drive.read("admin.pub").unwrap(), "key");
        });
    }

    #[test]
    fn without_a_drive_or_with_two_it_is_said_what_to_do() {
        let none = with(&[], |drive, _| drive.read("admin.pub").unwrap_err().to_string());
        assert!(none.starts_with("No drive is labelled SHEAF-CONF; plug one in"), "{none}");
        let two = with(&["vfat", "vfat"], |drive, _| drive.read("a").unwrap_err().to_string());
        assert_eq!(two, "2 drives are labelled SHEAF-CONF; leave only one");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let missing = with(&["vfat"], |drive, _| drive.read("admin.pub").unwrap_err().to_string());
        assert_eq!(missing, "admin.pub on /dev/sd0 cannot be read");
    }
}
