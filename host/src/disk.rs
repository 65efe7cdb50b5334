//! Raw disks: reads and writes at an offset, past the page cache where the kernel allows it.
//!
//! Why here: anyone who writes a disk says where and what, and gets errors that name the disk and the place.
//! Route in: a device path (or a plain file: the same code, which is how tests run it). Route out: [`Disk`].

use rustix::fs::{Advice, FlockOperation, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Addresses, offsets and lengths of direct writes are multiples of this many bytes: the largest sector in use.
pub const ALIGNMENT: usize = 4096;

/// A disk that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It could not be opened or measured.
    #[error("{}: cannot be opened or measured", .path.display())]
    Open {
        /// The disk.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another program holds it.
    #[error("{}: is in use by another program or a mount", .path.display())]
    Busy {
        /// The disk.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its path leads to another device than the one that is open.
    #[error("{}: is no longer the disk that was opened", .path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// A transfer failed.
    #[error("{}: {action} of {len} bytes at byte {offset} (sector {}) failed", .path.display(), .offset / 512)]
    Transfer {
        /// The disk.
        path: PathBuf,
        /// "read" or "write".
        action: &'static str,
        /// Where, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was written did not reach the disk.
    #[error("{}: written data could not be flushed to the disk", .path.display())]
    Sync {
        /// The disk.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Who may touch the disk besides us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nobody: no mount, no volume manager, no udev probe.
    Alone,
    /// Programs that want the disk for themselves (mkfs); udev still keeps off.
    Lent,
    /// Programs that also take udev's lock (mtools).
    Free,
}

/// A disk, by offset.
pub trait Disk: Sync {
    /// Its path, for programs that write to it themselves.
    fn path(&self) -> &Path;
    /// Its length in bytes.
    fn size(&self) -> u64;
    /// The kernel's number of the device that is open, `8:16`; none for a plain file. The kernel gives neither this
    /// number nor the device's name to another disk while it is open.
    fn number(&self) -> Option<String>;
    /// Says who else may touch it from now on.
    fn hold(&self, hold: Hold) -> Result<(), DiskError>;
    /// Fills `buffer` from `offset`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Waits until all that was written, by us or by programs, has reached the disk; later reads come from it.
    fn sync(&self) -> Result<(), DiskError>;
}

/// A block device, or a file that stands for one. Its path is resolved once; every descriptor is of the same device.
#[derive(Debug)]
pub struct RawDisk {
    path: PathBuf,
    size: u64,
    /// Past the page cache; absent where the file system does not offer it.
    direct: Option<File>,
    cached: File,
    /// Open with O_EXCL while no other program may use a block device.
    claim: Mutex<Option<File>>,
    is_device: bool,
}

/// Opens the file behind `file` once more: its path may lead elsewhere by now.
fn reopen(file: &File, options: &mut std::fs::OpenOptions, flags: OFlags) -> io::Result<File> {
    options.custom_flags(flags.bits().cast_signed()).open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

impl RawDisk {
    /// Opens `path` for reading and writing; nothing is claimed yet.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        Self::open_for(path, true)
    }

    /// Opens `path` for reading alone: a write through it fails.
    pub fn open_to_read(path: &Path) -> Result<Self, DiskError> {
        Self::open_for(path, false)
    }

    fn open_for(path: &Path, writes: bool) -> Result<Self, DiskError> {
        let fail = |source| DiskError::Open { path: path.to_owned(), source };
        let cached = File::options().read(true).write(writes).open(path).map_err(fail)?;
        let is_device = cached.metadata().map_err(fail)?.file_type().is_block_device();
        let size = rustix::fs::seek(&cached, rustix::fs::SeekFrom::End(0)).map_err(|e| fail(e.into()))?;
        let direct = match reopen(&cached, File::options().read(true).write(writes), OFlags::DIRECT) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            Err(error) => return Err(fail(error)),
        };
        Ok(Self { path: path.to_owned(), size, direct, cached, claim: Mutex::new(None), is_device })
    }

    /// A number that is another one after anyone has written the disk or discarded blocks of it: for a reader that must not
    /// mix two states.
    pub fn changes(&self) -> Result<u64, DiskError> {
        let fail = |source| DiskError::Open { path: self.path.clone(), source };
        let Some(number) = self.number() else {
            let metadata = self.cached.metadata().map_err(fail)?;
            let seconds = metadata.mtime().cast_unsigned().wrapping_mul(1_000_000_000);
            return Ok(seconds.wrapping_add(metadata.mtime_nsec().cast_unsigned()));
        };
        let text = std::fs::read_to_string(format!("/sys/dev/block/{number}/stat")).map_err(fail)?;
        changes_in(&text).ok_or_else(|| fail(io::ErrorKind::InvalidData.into()))
    }

    /// Fails when the path leads to another device than the one that is open: programs are given the path.
    fn is_at_its_path(&self) -> Result<(), DiskError> {
        let fail = |source| DiskError::Open { path: self.path.clone(), source };
        let (open, named) =
            (self.cached.metadata().map_err(fail)?, std::fs::metadata(&self.path).map_err(fail)?);
        let same = match self.is_device {
            true => open.rdev() == named.rdev(),
            false => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        };
        if same { Ok(()) } else { Err(DiskError::Replaced { path: self.path.clone() }) }
    }

    /// The descriptor for a transfer: the direct one demands alignment of all three.
    fn file(&self, offset: u64, address: *const u8, len: usize) -> &File {
        let aligned = offset.is_multiple_of(ALIGNMENT as u64)
            && len.is_multiple_of(ALIGNMENT)
            && address.addr().is_multiple_of(ALIGNMENT);
        self.direct.as_ref().filter(|_| aligned).unwrap_or(&self.cached)
    }
}

impl Disk for RawDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn number(&self) -> Option<String> {
        let rdev = self.cached.metadata().ok().filter(|_| self.is_device)?.rdev();
        Some(format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev)))
    }

    fn hold(&self, hold: Hold) -> Result<(), DiskError> {
        let busy = |source| DiskError::Busy { path: self.path.clone(), source };
        let mut claim = self.claim.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match hold {
            Hold::Alone if self.is_device && claim.is_none() => {
                *claim = Some(reopen(&self.cached, File::options().read(true), OFlags::EXCL).map_err(busy)?);
            }
            Hold::Alone => {}
            Hold::Lent | Hold::Free => {
                self.is_at_its_path()?;
                *claim = None;
            }
        }
        // udev leaves a whole disk alone while someone holds its BSD lock.
        let lock = if hold == Hold::Free { FlockOperation::Unlock } else { FlockOperation::LockExclusive };
        rustix::fs::flock(&self.cached, lock).map_err(|errno| busy(errno.into()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let len = buffer.len();
        self.file(offset, buffer.as_ptr(), len).read_exact_at(buffer, offset).map_err(|source| {
            DiskError::Transfer { path: self.path.clone(), action: "read", offset, len, source }
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file(offset, bytes.as_ptr(), bytes.len()).write_all_at(bytes, offset).map_err(|source| {
            DiskError::Transfer { path: self.path.clone(), action: "write", offset, len: bytes.len(), source }
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        let fail = |source| DiskError::Sync { path: self.path.clone(), source };
        self.cached.sync_all().map_err(fail)?;
        // Clean pages are dropped so that a later read shows what the disk holds, not what memory does.
        rustix::fs::fadvise(&self.cached, 0, None, Advice::DontNeed).map_err(|errno| fail(errno.into()))
    }
}

/// Writes and discards in a `stat` of the kernel (`Documentation/block/stat.rst`): its fields 5 and 12.
fn changes_in(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // Kernels before 4.18 count no discards.
    Some(fields.get(4)?.wrapping_add(fields.get(11).copied().unwrap_or_default()))
}

/// Memory whose address suits direct transfers.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start, len }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sheaf-disk-{}-{name}", std::process::id()));
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    #[test]
    fn aligned_and_unaligned_writes_read_back() {
        let path = file("rw", 1 << 20);
        let disk = RawDisk::open(&path).unwrap();
        disk.hold(Hold::Alone).unwrap();
        let mut aligned = Buffer::zeroed(8192);
        aligned.fill(7);
        disk.write_at(4096, &aligned).unwrap();
        disk.write_at(446, b"table").unwrap();
        disk.sync().unwrap();
        let mut back = Buffer::zeroed(16384);
        disk.read_at(0, &mut back).unwrap();
        assert_eq!((&back[446..451], back[4095], back[4096], back[12288]), (&b"table"[..], 0, 7, 0));
        assert_eq!(disk.size(), 1 << 20);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_disk_that_is_open_to_read_is_not_written_and_shows_that_others_wrote_it() {
        let path = file("read", 1 << 20);
        let disk = RawDisk::open_to_read(&path).unwrap();
        let before = disk.changes().unwrap();
        assert!(disk.write_at(0, b"x").is_err());
        assert_eq!(disk.changes().unwrap(), before);
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
        File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_ne!(disk.changes().unwrap(), before);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn writes_and_discards_of_a_device_are_counted_and_reads_are_not() {
        let stat = |read: u64, written: u64, discarded: u64| {
            changes_in(&format!("  {read} 0 8 1 {written} 0 8 1 0 1 1 {discarded} 0 8 1 0 0\n"))
        };
        assert_eq!(stat(1, 5, 7), Some(12));
        assert_eq!(stat(1, 5, 7), stat(99, 5, 7));
        assert_eq!(changes_in("1 0 8 1 5 0 8 1 0 1 1"), Some(5));
        assert_eq!(changes_in("no numbers"), None);
    }

    #[test]
    fn a_path_that_leads_to_another_disk_is_not_given_to_programs() {
        let path = file("swapped", 4096);
        let disk = RawDisk::open(&path).unwrap();
        disk.hold(Hold::Lent).unwrap();
        let other = file("other", 4096);
        std::fs::rename(&other, &path).unwrap();
        let error = disk.hold(Hold::Free).unwrap_err();
        assert!(matches!(error, DiskError::Replaced { .. }), "{error}");
        // What was opened is still written, not what took its name.
        disk.hold(Hold::Alone).unwrap();
        disk.write_at(0, b"first").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [0; 4096]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_read_past_the_end_names_the_disk_and_the_place() {
        let path = file("end", 4096);
        let error = RawDisk::open(&path).unwrap().read_at(4096, &mut [0; 512]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}: read of 512 bytes at byte 4096 (sector 8) failed", path.display())
        );
        std::fs::remove_file(path).unwrap();
    }
}
