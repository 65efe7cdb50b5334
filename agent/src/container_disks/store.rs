//! The folder of container disks: `/data/container-disks`.
//!
//! A disk gets its name and its place in the index when it is complete, flushed and verified; then it is never written again.
//! Layers on their way are in `parts`, where a later try goes on with them. Blocks: run it off the agent's thread. Route in:
//! a pull's layers and disk. Route out: files, and the [`Index`] of them.

use super::collect::{self, Candidate};
use super::index::{Index, Kept};
use crate::registry::Digest;
use sheaf_host::file::write_atomically;
use sheaf_host::space;
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Everyone reads a disk, nobody writes it: overlays of VMs depend on every byte.
const READ_ONLY: u32 = 0o444;
/// Percent of the file system that no pull takes: below it the node is short of space (`vms/pressure.rs`).
pub const RESERVE: u64 = 10;
/// A part to which nothing was added for so long is not gone on with: longer than any wait between two tries.
const ABANDONED: Duration = Duration::from_secs(600);

/// The folder.
pub struct Store {
    folder: PathBuf,
    /// Percent of the file system that no pull takes.
    reserve: u64,
    index: Mutex<Index>,
    /// Files that VMs wait for.
    needed: Mutex<BTreeSet<String>>,
}

/// What a disk is, once it is in its file.
pub struct Found<'a> {
    /// Digest of the manifest.
    pub image: &'a Digest,
    /// The path that was asked for.
    pub path: Option<&'a str>,
    /// Bytes that a guest sees.
    pub bytes: u64,
    /// Whether it is a qcow2 image.
    pub qcow2: bool,
    /// Whether it is a kernel or an initrd.
    pub boot: bool,
}

impl Store {
    /// Opens `folder`, whose pulls leave `reserve` percent of its file system; what is in it and not in its index is of a pull that was broken off.
    pub fn open(folder: PathBuf, reserve: u64) -> io::Result<Self> {
        fs::create_dir_all(folder.join("parts"))?;
        let read = fs::read(folder.join("index.json")).unwrap_or_default();
        let mut index: Index = serde_json::from_slice(&read).unwrap_or_default();
        let length = |kept: &Kept| fs::metadata(folder.join(&kept.file)).map(|meta| meta.len()).ok();
        index.retain(|kept| length(kept) == Some(kept.length));
        let named: BTreeSet<&str> = index.disks.iter().map(|kept| kept.file.as_str()).collect();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_file() && name != "index.json" && !named.contains(name.as_str()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder, reserve, index: Mutex::new(index), needed: Mutex::default() })
    }

    /// The index as it is now.
    pub fn index(&self) -> Index {
        lock(&self.index).clone()
    }

    /// Where `kept` is.
    pub fn path(&self, kept: &Kept) -> PathBuf {
        self.folder.join(&kept.file)
    }

    /// Where the layer `digest` comes to be for a pull of `namespace`: no two write one file.
    pub fn part(&self, namespace: &str, digest: &Digest) -> PathBuf {
        self.folder.join("parts").join(format!("{namespace}.{}", digest.hex()))
    }

    /// An empty file for a disk that `namespace` pulls.
    pub fn unfinished(&self, namespace: &str) -> io::Result<(PathBuf, File)> {
        let path = self.folder.join(format!("unfinished-{namespace}"));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok((path, file))
    }

    /// Keeps the disk in `unfinished`.
    pub fn keep(&self, unfinished: &Path, image: &str, found: &Found<'_>, now: i64) -> io::Result<Kept> {
        let path = found.path.unwrap_or_default();
        let kind = if found.boot { "\0boot" } else { "" };
        let name = Digest::of(format!("{}\0{path}{kind}", found.image).as_bytes());
        let kept = Kept {
            image: found.image.to_string(),
            path: path.to_owned(),
            file: format!("{}.{}", &name.hex()[..32], if found.qcow2 { "qcow2" } else { "img" }),
            length: fs::metadata(unfinished)?.len(),
            bytes: found.bytes,
            qcow2: found.qcow2,
            boot: found.boot,
            used: now,
        };
        fs::set_permissions(unfinished, Permissions::from_mode(READ_ONLY))?;
        File::open(unfinished)?.sync_all()?;
        fs::rename(unfinished, self.path(&kept))?;
        File::open(&self.folder)?.sync_all()?;
        self.took(image, kept.clone(), now)?;
        Ok(kept)
    }

    /// `image` leads to `kept`, which a VM takes now.
    pub fn took(&self, image: &str, kept: Kept, now: i64) -> io::Result<()> {
        lock(&self.needed).insert(kept.file.clone());
        let mut index = lock(&self.index);
        index.put(image, kept, now);
        self.write(&index)
    }

    /// These files, and no others, are waited for by VMs.
    pub fn need(&self, files: BTreeSet<String>) {
        *lock(&self.needed) = files;
    }

    /// Removes layers of pulls that nobody goes on with: nothing was added to them for some time.
    pub fn remove_parts(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.join("parts"))? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age >= ABANDONED {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes disks that no VM uses until `more` bytes can be written and enough stays free; returns what was removed.
    pub fn collect(&self, more: u64, now: i64) -> io::Result<Vec<Kept>> {
        let (free, total) = (space::free(&self.folder)?, space::total(&self.folder)?);
        let mut index = lock(&self.index);
        let needed = lock(&self.needed).clone();
        let candidate = |kept: &Kept| {
            let meta = fs::metadata(self.path(kept)).ok()?;
            // A VM that uses it has a link of its own.
            let is_needed = meta.nlink() > 1 || needed.contains(&kept.file);
            Some(Candidate {
                file: kept.file.clone(),
                bytes: meta.blocks() * 512,
                used: kept.used,
                is_needed,
            })
        };
        let files = collect::plan(index.disks.iter().filter_map(candidate).collect(), free, total, more, now);
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let gone: Vec<Kept> = index.disks.iter().filter(|kept| files.contains(&kept.file)).cloned().collect();
        // The index first: a file without its entry is rubbish, an entry without its file is a lie.
        index.retain(|kept| !files.contains(&kept.file));
        self.write(&index)?;
        for kept in &gone {
            fs::remove_file(self.path(kept))?;
        }
        Ok(gone)
    }

    /// Bytes that a pull may write.
    pub fn room(&self) -> io::Result<u64> {
        let reserve = space::total(&self.folder)? / 100 * self.reserve;
        Ok(space::free(&self.folder)?.saturating_sub(reserve))
    }

    fn write(&self, index: &Index) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(index).unwrap_or_default();
        write_atomically(&self.folder.join("index.json"), &text, 0o600).map_err(io::Error::other)
    }
}

/// A thread that panicked left the value whole: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
