//! One arm for each step; nothing is decided here.
//!
//! File systems are made as the installer makes them (`installer/src/execute/ext4.rs`), on the partition itself. Route in: a
//! [`Step`]. Route out: it is done, and on the disk.

use super::Hosts;
use super::plan::Step;
use crate::human;
use anyhow::Context as _;
use sheaf_host::disk::{Disk, DiskError, Hold};
use sheaf_host::file::write_atomically;
use sheaf_host::run::Command;
use sheaf_release::records::reset;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that one call overwrites; a line says how far it is.
const STRIDE: u64 = 4 << 30;
/// Bytes at either end of a pool's device: LVM's label and metadata are in the first MiB, and other tools' marks at either end.
const END: u64 = 1 << 20;
/// The first two sectors, with LVM's label in the second (pvcreate(8), `--labelsector`): while that is there the device is found again.
const LABEL: u64 = 1024;

/// Does it.
pub fn apply(hosts: &Hosts, step: &Step, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
    match step {
        Step::Overwrite { name, device } => overwrite(hosts, name, device, say)?,
        Step::Discard(device) => discard(hosts, device, 0),
        Step::ErasePool { device, .. } => {
            discard(hosts, device, END);
            let disk = claimed(hosts, device)?;
            let end = END.min(disk.size());
            zero(&*disk, disk.size() - end, end)?;
            zero(&*disk, LABEL, end.saturating_sub(LABEL))?;
            zero(&*disk, 0, LABEL.min(end))?;
        }
        Step::MakeData(device) => {
            let tree = tree(hosts, "data", &["images", "disks", "vms"])?;
            mkfs(hosts, device, "data", &tree, (128, 0))?;
        }
        Step::MakeState { device, config } => {
            let tree = tree(hosts, "state", &["var"])?;
            if let Some(config) = config {
                write_atomically(&tree.join("node.toml"), config.as_bytes(), 0o600)?;
            }
            mkfs(hosts, device, "state", &tree, (64, 1))?;
        }
        Step::ClearMark(records) => reset::clear(&*(hosts.open)(records)?)?,
    }
    Ok(())
}

/// The device at `path`, which nothing else may use.
fn claimed(hosts: &Hosts, path: &Path) -> Result<Box<dyn Disk + Send>, DiskError> {
    let disk = (hosts.open)(path)?;
    disk.hold(Hold::Alone)?;
    Ok(disk)
}

/// Zeros on all of `device`: by the disk itself where it can, which spares its bus, and never by a promise to forget (BLKZEROOUT, which
/// passes BLKDEV_ZERO_NOUNMAP on).
fn overwrite(hosts: &Hosts, name: &str, device: &Path, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
    let size = (hosts.open)(device)?.size();
    let mut done = 0;
    while done < size {
        let next = (size - done).min(STRIDE);
        let range = ["--zeroout", "--offset", &done.to_string(), "--length", &next.to_string()];
        hosts.run.run(&Command::new("blkdiscard").args(range).arg(device))?;
        done += next;
        say(&format!("{name}: {} of {}", human::binary(done), human::binary(size)));
    }
    Ok((hosts.open)(device)?.sync()?)
}

/// Zeros on `length` bytes from `offset`, on the disk when it returns.
fn zero(disk: &dyn Disk, offset: u64, length: u64) -> Result<(), DiskError> {
    disk.write_at(offset, &vec![0; length as usize])?;
    disk.sync()
}

/// Discards `device` from the byte `offset`. A disk that cannot is none the worse: what has keys is overwritten as well.
fn discard(hosts: &Hosts, device: &Path, offset: u64) {
    let command = Command::new("blkdiscard").arg("--offset").arg(offset.to_string()).arg(device);
    if let Err(error) = hosts.run.run(&command) {
        tracing::info!("{}: not discarded: {error}", device.display());
    }
}

/// A folder in memory with `folders` in it, from which a file system is filled.
fn tree(hosts: &Hosts, name: &str, folders: &[&str]) -> anyhow::Result<PathBuf> {
    let tree = hosts.scratch.join(name);
    let make = || {
        // What an earlier try left.
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        folders.iter().try_for_each(|folder| fs::create_dir_all(tree.join(folder)))
    };
    make().with_context(|| format!("{}: cannot be made", tree.display()))?;
    Ok(tree)
}

/// Makes an ext4 on `device` that holds what `tree` holds; MiB of the journal, and percent that are kept back for root.
fn mkfs(
    hosts: &Hosts,
    device: &Path,
    label: &str,
    tree: &Path,
    (journal, reserved): (u32, u32),
) -> anyhow::Result<()> {
    let mut command = Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-L", label]);
    // The installer names file systems by their partitions.
    if let Some(uuid) = device.file_name() {
        command = command.arg("-U").arg(uuid);
    }
    let command = command
        .args(["-m", &reserved.to_string(), "-J", &format!("size={journal}")])
        .args(["-E", "nodiscard,root_owner=0:0", "-d"])
        .args([tree, device]);
    hosts.run.run(&command)?;
    // mkfs leaves what it wrote to the kernel.
    Ok((hosts.open)(device)?.sync()?)
}
