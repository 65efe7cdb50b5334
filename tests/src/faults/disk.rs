//! The disk of one etcd: a small ext4 file system on a loop device, which can be slow, frozen or full.
//!
//! Why a loop device: the kernel here has no device mapper, and a Go program takes no preloaded library. Slow: the block layer gives the
//! device a few writes in a second (cgroup v1, `blkio.throttle.write_iops_device` of the root group, so that the journal's
//! writes wait too). Frozen: fsfreeze(8); a writer then cannot even be killed, so what thaws it is started first. Full: fallocate(1)
//! until no block is free. Route in: nothing. Route out: a folder for etcd; dropped, or swept by the next run, it leaves
//! nothing behind.

use anyhow::{Context as _, Result, ensure};
use nix::sys::statvfs::statvfs;
use sheaf_host::run::{Command, Run as _, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;
use tempfile::TempDir;

/// etcd allocates two log files of 64 MiB, and the database and its copies are small here.
const SIZE: &str = "320M";
/// Writes in a second that a slow disk takes: an fsync is three of them, so etcd's takes a second.
const SLOW: u32 = 4;
/// A disk is full when no log file, page or snapshot of etcd fits: bytes.
const FULL: u64 = 64 << 10;
/// Where the block layer takes limits.
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device";
/// First part of the name of its folder; the process follows.
const PREFIX: &str = "sheaf-faults-";

/// The disk.
pub struct EtcdDisk {
    folder: TempDir,
    /// `7:0`.
    device: String,
}

impl EtcdDisk {
    /// An empty one.
    pub fn make() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir()?;
        let image = folder.path().join("disk.img");
        let at = folder.path().join("at");
        fs::create_dir(&at)?;
        for command in [
            Command::new("truncate").args(["--size", SIZE]).arg(&image),
            // Without blocks for root: etcd is root here.
            Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image),
            Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at),
        ] {
            System.run(&command)?;
        }
        let source = System.run(&Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&at))?.text();
        let name = source.rsplit('/').next().unwrap_or_default();
        let path = format!("/sys/block/{name}/dev");
        let device = fs::read_to_string(&path).context(path)?.trim().to_owned();
        Ok(Self { folder, device })
    }

    /// Where it is mounted.
    pub fn at(&self) -> PathBuf {
        self.folder.path().join("at")
    }

    /// Has it take a few writes in a second, or as many as it can.
    pub fn slow(&self, is_slow: bool) -> Result<()> {
        throttle(&self.device, if is_slow { SLOW } else { 0 })
    }

    /// Has it answer no write for this long; the answer ends when it does again, whatever becomes of this process.
    pub fn freeze(&self, lasts: Duration) -> Result<Child> {
        let at = self.at();
        let script = "sleep \"$1\"; exec fsfreeze --unfreeze \"$2\"";
        let thaw = Command::new("sh").args(["-c", script, "thaw"]).arg(lasts.as_secs().to_string()).arg(&at);
        let thaws = System.start(&thaw)?;
        System.run(&Command::new("fsfreeze").arg("--freeze").arg(&at))?;
        Ok(thaws)
    }

    /// Takes every free block.
    pub fn fill(&self) -> Result<()> {
        let mut number = 0;
        for size in [None, Some(1 << 20), Some(FULL), Some(4 << 10)] {
            loop {
                let free = self.free()?;
                let size = size.unwrap_or(free);
                if free < size.max(1) {
                    break;
                }
                number += 1;
                let file = self.at().join(format!("fill-{number}"));
                let take = Command::new("fallocate").args(["--length", &size.to_string()]).arg(file);
                // It takes what there is and reports that there was not more: the free space decides.
                System.run(&take.any_code())?;
                if self.free()? == free {
                    break;
                }
            }
        }
        let free = self.free()?;
        ensure!(free < FULL, "{}: {free} bytes are still free", self.at().display());
        Ok(())
    }

    /// Gives the blocks back.
    pub fn empty(&self) -> Result<()> {
        for entry in fs::read_dir(self.at())?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("fill-") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Bytes that are free.
    pub fn free(&self) -> Result<u64> {
        let stat = statvfs(&self.at())?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }
}

impl Drop for EtcdDisk {
    fn drop(&mut self) {
        release(&self.folder.path().join("at"), &self.device);
    }
}

/// Limits the writes of a device in a second; 0 is no limit.
fn throttle(device: &str, writes: u32) -> Result<()> {
    let context = || format!("{THROTTLE}: a slow disk needs the blkio controller of cgroup v1");
    fs::write(THROTTLE, format!("{device} {writes}")).with_context(context)
}

/// Takes a disk out of use, whatever state it is in.
fn release(at: &Path, device: &str) {
    // It is rarely frozen.
    System.run(&Command::new("fsfreeze").arg("--unfreeze").arg(at)).ok();
    throttle(device, 0).ok();
    if let Err(error) = System.run(&Command::new("umount").arg(at)) {
        eprintln!("{error}");
        System.run(&Command::new("umount").arg("--lazy").arg(at)).ok();
    }
}

/// Removes disks of test processes that were killed.
pub fn sweep() -> Result<()> {
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let Ok(image) = fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        let image = PathBuf::from(image.trim_end().trim_end_matches(" (deleted)"));
        let Some(folder) = image.parent().filter(|folder| owner(folder).is_some_and(is_gone)) else {
            continue;
        };
        let device = fs::read_to_string(entry.path().join("dev")).unwrap_or_default();
        release(&folder.join("at"), device.trim());
        fs::remove_dir_all(folder).ok();
    }
    Ok(())
}

/// The process that made a folder of a disk.
fn owner(folder: &Path) -> Option<u32> {
    folder.file_name()?.to_str()?.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_gone(process: u32) -> bool {
    !Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_the_process_that_made_it() {
        assert_eq!(owner(Path::new("/tmp/sheaf-faults-812-x7Yz")), Some(812));
        assert_eq!(owner(Path::new("/tmp/sheaf-fault-812-x7Yz")), None);
        assert!(!is_gone(std::process::id()));
    }
}
