//! An installed disk as a file, written on a machine that is not the node.
//!
//! Why here: it is the same plan and the same steps as on a node, so a disk that was written here boots as an installed one
//! does. No device, no mount and no right of root is needed: mtools and mkfs write into the file, inside a chroot that has them.
//! Route in: a plan of [`crate::plan::plan_file`], the release's folder, a chroot. Route out: the file, every byte of it read back
//! where an installation reads it back.

use crate::execute::{self, Env, Failure, StepError, Timing};
use crate::plan::InstallPlan;
use crate::progress::Progress;
use sheaf_host::chroot::{BINDS, Chroot};
use sheaf_host::disk::RawDisk;
use sheaf_host::efi::EfiVars;
use sheaf_host::mount;
use sheaf_host::run::{Command, Output, Run, RunError};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The file cannot be made.
    #[error("{}: cannot be made as a disk of {size} bytes", .path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Its length.
        size: u64,
        /// Why not.
        source: std::io::Error,
    },
    /// It cannot be opened as a disk.
    #[error(transparent)]
    Open(#[from] sheaf_host::disk::DiskError),
    /// A step failed; the file is of no use.
    #[error(transparent)]
    Install(#[from] Failure),
}

/// What a disk is written with.
pub struct Place<'a> {
    /// Runs programs.
    pub run: &'a dyn Run,
    /// Has mkfs.vfat, mkfs.ext4 and mtools.
    pub chroot: Chroot,
    /// An empty folder on the file system that the disk is made on.
    pub work: &'a Path,
    /// The release's folder, verified.
    pub release: &'a Path,
    /// The node config as it is written to the disk.
    pub node_toml: &'a str,
    /// Who is told how far it is.
    pub progress: &'a Progress,
}

/// Makes the file that `plan` names, below [`Place::work`], and carries the plan out on it. Only its owner may read it: node.toml
/// holds secrets.
pub fn write(plan: &InstallPlan, place: &Place<'_>) -> Result<Timing, OfflineError> {
    let (path, size) = (&plan.disk.path, plan.disk.size);
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_len(size))
        .map_err(|source| OfflineError::Create { path: path.clone(), size, source })?;
    let disk = RawDisk::open(path)?;
    let inside = Inside::new(place.run, place.chroot.clone(), place.work, place.release);
    let env = Env {
        run: &inside,
        // Neither is asked: the plan has no image of a medium and no step for the firmware.
        mount: &mount::System,
        firmware: &EfiVars::default(),
        disk: &disk,
        data_disks: &[],
        medium: place.release,
        remote: None,
        scratch: &place.work.join("scratch"),
        node_toml: place.node_toml,
        progress: place.progress,
    };
    Ok(execute::install(plan, &env)?)
}

impl OfflineError {
    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Install(failure) => match failure.source.as_ref() {
                StepError::MediumRead { .. } | StepError::MediumDamaged { .. } => "build the release again",
                _ => "check the space and the health of the disk that the file is on",
            },
            Self::Create { .. } | Self::Open(_) => "choose another folder for the file",
        }
    }
}

/// Runs programs in a chroot that shows two folders, under their names there.
struct Inside<'a> {
    run: &'a dyn Run,
    chroot: Chroot,
    /// Path on the host, path inside; a path that lies in another comes first.
    folders: Vec<(String, String)>,
}

impl<'a> Inside<'a> {
    fn new(run: &'a dyn Run, chroot: Chroot, work: &Path, release: &Path) -> Self {
        let seen = |folder: &Path, name: &str| (folder.display().to_string(), format!("{BINDS}/{name}"));
        let mut folders = vec![seen(work, "work"), seen(release, "release")];
        folders.sort_by_key(|(outside, _)| std::cmp::Reverse(outside.len()));
        Self { run, chroot: chroot.write(work, "work").read(release, "release"), folders }
    }

    fn seen(&self, arg: &str) -> String {
        self.folders
            .iter()
            .fold(arg.to_owned(), |arg, (outside, inside)| arg.replace(outside.as_str(), inside))
    }
}

impl Run for Inside<'_> {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let args = command.args.iter().map(|arg| self.seen(&arg.to_string_lossy()).into()).collect();
        self.run.run(&self.chroot.enter(&Command { args, ..command.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::chroot::Privilege;
    use sheaf_host::fakes::FakeRun;

    #[test]
    fn programs_see_disk_and_release_by_their_paths_in_the_chroot() {
        let run = FakeRun::default();
        let chroot = Chroot::new("/tools", Privilege::Root);
        // The folder of the file may be the release's own.
        let inside = Inside::new(&run, chroot, Path::new("/r/sheaf/.disk-1"), Path::new("/r/sheaf"));
        assert_eq!(inside.seen("/r/sheaf/.disk-1/disk.raw@@2097152"), "/mnt/work/disk.raw@@2097152");
        assert_eq!(inside.seen("/r/sheaf/node.efi"), "/mnt/release/node.efi");
        assert_eq!(inside.seen("::/EFI/BOOT/BOOTX64.EFI"), "::/EFI/BOOT/BOOTX64.EFI");
    }
}
