//! A recording of a disk's writes, as QEMU's blklogwrites and Linux's dm-log-writes keep it.
//!
//! Why here: the order in which a disk saw its writes, and where it was told to flush, is all that a power cut depends
//! on. A superblock, then one header of a sector for each request and its data; all numbers are little-endian
//! (Documentation/admin-guide/device-mapper/log-writes.rst, QEMU's block/blklogwrites.c).
//! Route in: a file. Route out: [`Entry`]s one after the other; data stays in the file and is read by its place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// `struct log_write_super`: magic number, version.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Flags of an entry.
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
/// dm-log-writes also says which writes are a file system's metadata; it makes no difference here.
const METADATA: u64 = 1 << 4;
/// Largest sector of a log in bytes that either writer makes.
const LARGEST_SECTOR: u64 = 1 << 23;

/// A recording that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be opened or read.
    #[error("{}: cannot be read at byte {at}", .path.display())]
    Read {
        /// The log.
        path: PathBuf,
        /// First byte that was asked for.
        at: u64,
        /// Why not.
        source: io::Error,
    },
    /// It is something else.
    #[error("{}: is not a log of writes ({what})", .path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// An entry makes no sense, so nothing after it does.
    #[error("{}: entry {number} is damaged: {what}", .path.display())]
    Entry {
        /// The log.
        path: PathBuf,
        /// Its number, from 0.
        number: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// What a request asked of the disk's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data, from this byte of the log.
    Write(u64),
    /// The contents are of no use any more.
    Discard,
    /// Nothing: a flush only, or a mark.
    Nothing,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the log, from 0.
    pub number: u64,
    /// What it asked.
    pub kind: Kind,
    /// First byte on the disk.
    pub offset: u64,
    /// Length on the disk in bytes.
    pub length: u64,
    /// Whatever was written before it is on the disk for good.
    pub flush: bool,
    /// What it wrote itself is on the disk for good.
    pub fua: bool,
}

/// An open recording.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// Bytes of a sector of the log, in which places and lengths on the disk are counted too.
    sector: u64,
    entries: u64,
    length: u64,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Log {
    /// Opens the log at `path`.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let read = |source| LogError::Read { path: path.to_owned(), at: 0, source };
        let not = |what: String| LogError::NotALog { path: path.to_owned(), what };
        let file = File::open(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let mut superblock = [0; 28];
        if length < superblock.len() as u64 {
            return Err(not(format!("it has {length} bytes; was the machine started with it?")));
        }
        file.read_exact_at(&mut superblock, 0).map_err(read)?;
        let (magic, version) = (number(&superblock[..8]), number(&superblock[8..16]));
        let (entries, sector) = (number(&superblock[16..24]), number(&superblock[24..28]));
        if magic != MAGIC {
            return Err(not("it begins otherwise".into()));
        }
        if version != VERSION {
            return Err(not(format!("it has version {version}, {VERSION} is expected")));
        }
        if !sector.is_power_of_two() || !(512..=LARGEST_SECTOR).contains(&sector) {
            return Err(not(format!("its sectors have {sector} bytes")));
        }
        Ok(Self { path: path.to_owned(), file, sector, entries, length })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its requests, in the order in which the disk finished them.
    pub fn entries(&self) -> Entries<'_> {
        Entries { log: self, next: 0, at: self.sector }
    }

    /// Data of a write, from byte `at` of the log.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), LogError> {
        // What the log ends with may be zeros that were never written out.
        let there = self.length.saturating_sub(at).min(buffer.len() as u64) as usize;
        let (data, rest) = buffer.split_at_mut(there);
        rest.fill(0);
        let path = || self.path.clone();
        self.file.read_exact_at(data, at).map_err(|source| LogError::Read { path: path(), at, source })
    }

    fn entry(&self, number_: u64, at: u64) -> Result<(Entry, u64), LogError> {
        let damaged = |what: String| LogError::Entry { path: self.path.clone(), number: number_, what };
        let mut header = [0; 32];
        if at + header.len() as u64 > self.length {
            return Err(damaged("the log ends before it".into()));
        }
        self.read_at(at, &mut header)?;
        let (first, count) = (number(&header[..8]), number(&header[8..16]));
        let flags = number(&header[16..24]);
        if flags & !(FLUSH | FUA | DISCARD | MARK | METADATA) != 0 {
            return Err(damaged(format!("its flags are {flags:#x}")));
        }
        let (Some(offset), Some(length)) = (first.checked_mul(self.sector), count.checked_mul(self.sector))
        else {
            return Err(damaged(format!("it is of {count} sectors from sector {first}")));
        };
        let data = at + self.sector;
        let (kind, end) = match flags {
            // Its text is in the sector of the header.
            flags if flags & MARK != 0 => (Kind::Nothing, Some(data)),
            _ if count == 0 => (Kind::Nothing, Some(data)),
            flags if flags & DISCARD != 0 => (Kind::Discard, Some(data)),
            _ => (Kind::Write(data), data.checked_add(length)),
        };
        let end = end.ok_or_else(|| damaged(format!("it is of {count} sectors")))?;
        let (flush, fua) = (flags & FLUSH != 0, flags & FUA != 0);
        Ok((Entry { number: number_, kind, offset, length, flush, fua }, end))
    }
}

/// Iterator over a log: reads one header at a time.
#[derive(Debug)]
pub struct Entries<'l> {
    log: &'l Log,
    next: u64,
    at: u64,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.log.entries {
            return None;
        }
        let read = self.log.entry(self.next, self.at);
        match &read {
            Ok((_, end)) => (self.next, self.at) = (self.next + 1, *end),
            // Nothing after it can be found.
            Err(_) => self.next = self.log.entries,
        }
        Some(read.map(|(entry, _)| entry))
    }
}

/// Writes logs, for tests: what a machine's disk would have seen.
#[doc(hidden)]
pub mod recorder {
    use super::{DISCARD, FLUSH, FUA, MAGIC, MARK, VERSION};
    use std::fs::File;
    use std::io::{self, Write as _};
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    /// Bytes of a sector.
    const SECTOR: usize = 512;

    /// A log that is being written.
    #[derive(Debug)]
    pub struct Recorder {
        file: File,
        entries: u64,
    }

    impl Recorder {
        /// Begins the log at `path`.
        pub fn create(path: &Path) -> io::Result<Self> {
            let mut file = File::create(path)?;
            file.write_all(&[0; SECTOR])?;
            let recorder = Self { file, entries: 0 };
            recorder.count()?;
            Ok(recorder)
        }

        /// Number of the next entry.
        pub fn next(&self) -> u64 {
            self.entries
        }

        fn count(&self) -> io::Result<()> {
            let numbers = [MAGIC, VERSION, self.entries, SECTOR as u64];
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            self.file.write_all_at(&bytes, 0)
        }

        fn entry(&mut self, sector: u64, count: u64, flags: u64, behind: &[u8]) -> io::Result<()> {
            let numbers = [sector, count, flags, behind.len() as u64];
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            bytes.extend(behind);
            bytes.resize(SECTOR, 0);
            self.file.write_all(&bytes)?;
            self.entries += 1;
            self.count()
        }

        /// A write of whole sectors from `sector`.
        pub fn write(&mut self, sector: u64, bytes: &[u8]) -> io::Result<()> {
            self.entry(sector, (bytes.len() / SECTOR) as u64, 0, &[])?;
            self.file.write_all(bytes)
        }

        /// A write that is on the disk for good at once.
        pub fn write_through(&mut self, sector: u64, bytes: &[u8]) -> io::Result<()> {
            self.entry(sector, (bytes.len() / SECTOR) as u64, FUA, &[])?;
            self.file.write_all(bytes)
        }

        /// A discard.
        pub fn discard(&mut self, sector: u64, count: u64) -> io::Result<()> {
            self.entry(sector, count, DISCARD, &[])
        }

        /// A flush.
        pub fn flush(&mut self) -> io::Result<()> {
            self.entry(0, 0, FLUSH, &[])
        }

        /// A mark.
        pub fn mark(&mut self, text: &str) -> io::Result<()> {
            self.entry(0, 0, MARK, text.as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::recorder::Recorder;
    use super::*;

    fn recorded(write: impl FnOnce(&mut Recorder)) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("writes.log");
        write(&mut Recorder::create(&path).unwrap());
        (folder, path)
    }

    #[test]
    fn requests_come_in_order_and_data_is_found_by_its_place() {
        let (_folder, path) = recorded(|log| {
            log.mark("here it begins").unwrap();
            log.write(8, &[7; 1024]).unwrap();
            log.discard(100, 50).unwrap();
            log.write_through(1, &[9; 512]).unwrap();
            log.flush().unwrap();
        });
        let log = Log::open(&path).unwrap();
        let entries: Vec<Entry> = log.entries().map(Result::unwrap).collect();
        let places: Vec<_> = entries.iter().map(|entry| (entry.offset, entry.length)).collect();
        assert_eq!(places, [(0, 0), (4096, 1024), (51200, 25600), (512, 512), (0, 0)]);
        let flags: Vec<_> = entries.iter().map(|entry| (entry.flush, entry.fua)).collect();
        assert_eq!(flags, [(false, false), (false, false), (false, false), (false, true), (true, false)]);
        assert_eq!((entries[0].kind, entries[2].kind), (Kind::Nothing, Kind::Discard));
        let Kind::Write(at) = entries[3].kind else { panic!("{entries:?}") };
        let mut sector = [0; 512];
        log.read_at(at, &mut sector).unwrap();
        assert_eq!(sector, [9; 512]);
    }

    #[test]
    fn zeros_at_the_end_that_the_file_does_not_have_are_zeros() {
        let (_folder, path) = recorded(|log| log.write(0, &[0; 4096]).unwrap());
        File::options().write(true).open(&path).unwrap().set_len(1024 + 512).unwrap();
        let log = Log::open(&path).unwrap();
        assert_eq!(log.entries().count(), 1);
        let mut sector = [1; 1024];
        log.read_at(1024, &mut sector).unwrap();
        assert_eq!(sector, [0; 1024]);
    }

    #[test]
    fn what_is_not_a_log_is_refused_by_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |bytes: &[u8]| {
            let path = folder.path().join("file");
            std::fs::write(&path, bytes).unwrap();
            let text = Log::open(&path).unwrap_err().to_string();
            text.replace(&path.display().to_string(), "file")
        };
        assert_eq!(
            refusal(b""),
            "file: is not a log of writes (it has 0 bytes; was the machine started with it?)"
        );
        assert_eq!(refusal(&[1; 512]), "file: is not a log of writes (it begins otherwise)");
        let with = |version: u64, sector: u32| {
            let mut bytes = [MAGIC, version, 0].map(u64::to_le_bytes).concat();
            bytes.extend(sector.to_le_bytes());
            bytes
        };
        assert_eq!(refusal(&with(2, 512)), "file: is not a log of writes (it has version 2, 1 is expected)");
        assert_eq!(refusal(&with(1, 500)), "file: is not a log of writes (its sectors have 500 bytes)");
    }

    #[test]
    fn a_damaged_entry_ends_the_log_with_its_number() {
        let (_folder, path) = recorded(|log| {
            log.write(0, &[1; 512]).unwrap();
            log.flush().unwrap();
            log.flush().unwrap();
        });
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff], 512 + 1024 + 16).unwrap();
        let log = Log::open(&path).unwrap();
        let read: Vec<_> = log.entries().collect();
        assert_eq!(read.len(), 2);
        let text = read[1].as_ref().unwrap_err().to_string();
        assert!(text.ends_with("entry 1 is damaged: its flags are 0xff"), "{text}");
        file.set_len(1024).unwrap();
        let log = Log::open(&path).unwrap();
        let last = log.entries().last().unwrap().unwrap_err().to_string();
        assert!(last.ends_with("entry 1 is damaged: the log ends before it"), "{last}");
    }
}
