//! State and data: made by mkfs.ext4 at their offsets, filled as they are made.
//!
//! Route in: partition, node config, disk images of the medium. Route out: file systems on the disk, flushed.
//! Images are shown to mkfs by bind mounts: copying them to memory first could need more than there is.

use super::{Env, StepError};
use crate::plan::{MediumFile, Partition};
use sheaf_host::disk::Hold;
use sheaf_host::run::Command;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Block size in bytes; also what sizes are given in.
const BLOCK: u64 = 4096;

/// `/state`: the node config, readable by root alone, and an empty `/var`.
pub(super) fn state(env: &Env<'_>, partition: &Partition) -> Result<(), StepError> {
    let tree = Tree::new(env, "state")?;
    tree.folder("var")?;
    tree.file("node.toml", env.node_toml.as_bytes(), 0o600)?;
    // etcd and the journal write small and sync often: 64 MiB of journal never fills between two commits.
    make(env, partition, &tree, 64, 1)
}

/// `/data`: base images, writable disks, files of each VM.
pub(super) fn data(
    env: &Env<'_>,
    partition: &Partition,
    images: &[(MediumFile, String)],
) -> Result<(), StepError> {
    let tree = Tree::new(env, "data")?;
    for folder in ["images", "disks", "vms"] {
        tree.folder(folder)?;
    }
    let mut shown = Vec::new();
    let mut made = Ok(());
    for (file, name) in images {
        let target = tree.root.join("images").join(name);
        made = env.mount.show_file(&env.medium.join(&file.file), &target).map_err(StepError::from);
        if made.is_err() {
            break;
        }
        shown.push(target);
    }
    // Nothing but root's own files here: no blocks are kept back for root.
    let made = made.and_then(|()| make(env, partition, &tree, 128, 0));
    for target in shown {
        env.mount.unmount(&target)?;
    }
    made
}

fn make(
    env: &Env<'_>,
    partition: &Partition,
    tree: &Tree,
    journal_mib: u32,
    reserved_percent: u32,
) -> Result<(), StepError> {
    env.disk.hold(Hold::Lent)?;
    env.run.run(&mkfs(env.disk.path(), partition, &tree.root, journal_mib, reserved_percent))?;
    Ok(env.disk.sync()?)
}

fn mkfs(disk: &Path, partition: &Partition, tree: &Path, journal_mib: u32, reserved_percent: u32) -> Command {
    Command::new("mkfs.ext4")
        .args(["-q", "-F", "-F"]) // twice: the whole disk is meant, at an offset
        .args(["-b", &BLOCK.to_string(), "-m", &reserved_percent.to_string()])
        .args(["-U", &partition.uuid.to_string(), "-L", &partition.name])
        .args(["-J", &format!("size={journal_mib}")])
        // Discarding is left to the running node: some disks take minutes over it.
        .args(["-E", &format!("offset={},nodiscard,root_owner=0:0", partition.offset)])
        .arg("-d")
        .arg(tree)
        .arg(disk)
        .arg((partition.size / BLOCK).to_string())
}

/// A folder in memory that a file system is filled from.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new(env: &Env<'_>, name: &str) -> Result<Self, StepError> {
        let tree = Self { root: env.scratch.join(name) };
        tree.folder("")?;
        Ok(tree)
    }

    fn folder(&self, name: &str) -> Result<(), StepError> {
        let path = self.root.join(name);
        let make = || {
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        };
        make().map_err(|source| scratch(&path, source))
    }

    fn file(&self, name: &str, contents: &[u8], mode: u32) -> Result<(), StepError> {
        let path = self.root.join(name);
        sheaf_host::file::write_atomically(&path, contents, mode)
            .map_err(|error| scratch(&path, io::Error::other(error)))
    }
}

fn scratch(path: &Path, source: io::Error) -> StepError {
    StepError::Scratch { path: path.to_owned(), source }
}
