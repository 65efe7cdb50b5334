//! Real files and partitions whose disk fails at one call that a test chooses.
//!
//! Why real ones: the calls are those of the code that runs on a node, in its order; only their results are made up. Route in:
//! the number of a call, counted over files and partitions together, and what becomes of it. Route out: [`Files`] and
//! [`Disk`]s, and the list of calls.

use crate::disk::{Disk, DiskError, Hold};
use crate::files::{Files, Kernel};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a call of a slow disk takes.
const SLOW: Duration = Duration::from_millis(5);

/// What a disk does instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It reports an error, and does nothing.
    Io,
    /// It is full: half of a write is on it.
    NoSpace,
    /// It writes half, and reports so.
    Short,
    /// It takes its time. This and every later call is slow.
    Slow,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<(String, PathBuf)>,
    fault: Option<(usize, Fault)>,
    was_hit: bool,
}

/// A disk that fails once, at one call. Its clones share that.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// At call number `call`, from 0.
    pub fn at(call: usize, fault: Fault) -> Self {
        Self(Arc::new(Mutex::new(State { fault: Some((call, fault)), ..State::default() })))
    }

    /// No call fails from now on.
    pub fn clear(&self) {
        self.state().fault = None;
    }

    /// Whether the call was made.
    pub fn was_hit(&self) -> bool {
        self.state().was_hit
    }

    /// Every call, as verb and name of the file.
    pub fn calls(&self) -> Vec<String> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.state().calls.iter().map(|(verb, path)| format!("{verb} {}", name(path))).collect()
    }

    /// Verb and path of call number `call`.
    pub fn call(&self, call: usize) -> Option<(String, PathBuf)> {
        self.state().calls.get(call).cloned()
    }

    /// `disk`, whose writes and flushes are among the calls.
    pub fn disk(&self, disk: Box<dyn Disk + Send>) -> Box<dyn Disk + Send> {
        Box::new(FaultyDisk { disk, faults: self.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; what becomes of it.
    fn next(&self, verb: &str, path: &Path) -> Option<Fault> {
        let mut state = self.state();
        let number = state.calls.len();
        state.calls.push((verb.to_owned(), path.to_owned()));
        let fault = match state.fault {
            Some((at, fault)) if at == number => Some(fault),
            Some((at, Fault::Slow)) if at < number => Some(Fault::Slow),
            _ => None,
        };
        state.was_hit |= fault.is_some();
        drop(state);
        if fault == Some(Fault::Slow) {
            #[allow(clippy::disallowed_methods)] // it plays a disk that is slow
            std::thread::sleep(SLOW);
        }
        fault
    }

    /// A call that writes no contents: a short one does not exist.
    fn whole<T>(&self, verb: &str, path: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.next(verb, path) {
            Some(fault @ (Fault::Io | Fault::NoSpace)) => Err(error(fault)),
            Some(Fault::Short | Fault::Slow) | None => work(),
        }
    }
}

fn error(fault: Fault) -> io::Error {
    // EIO, ENOSPC
    io::Error::from_raw_os_error(if fault == Fault::NoSpace { 28 } else { 5 })
}

fn half(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().div_ceil(2)]
}

impl Files for Faults {
    fn create_folders(&self, path: &Path) -> io::Result<()> {
        self.whole("mkdir", path, || Kernel.create_folders(path))
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.whole("create", path, || Kernel.create(path, mode))
    }

    fn write(&self, path: &Path, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        match self.next("write", path) {
            Some(Fault::Io) => Err(error(Fault::Io)),
            Some(Fault::NoSpace) => {
                Kernel.write(path, file, offset, half(bytes))?;
                Err(error(Fault::NoSpace))
            }
            Some(Fault::Short) => Kernel.write(path, file, offset, half(bytes)),
            Some(Fault::Slow) | None => Kernel.write(path, file, offset, bytes),
        }
    }

    fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
        // Contents are read back through the page cache: a flush that works need not be waited for.
        self.whole("fsync", path, || file.metadata().map(drop))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.whole("rename", from, || Kernel.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.whole("remove", path, || Kernel.remove(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.whole("remove", path, || Kernel.remove_folder(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.whole("fsync", path, || path.metadata().map(drop))
    }
}

struct FaultyDisk {
    disk: Box<dyn Disk + Send>,
    faults: Faults,
}

impl Disk for FaultyDisk {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn number(&self) -> Option<String> {
        self.disk.number()
    }

    fn hold(&self, hold: Hold) -> Result<(), DiskError> {
        self.disk.hold(hold)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let failed = |fault| DiskError::Transfer {
            path: self.disk.path().to_owned(),
            action: "write",
            offset,
            len: bytes.len(),
            source: error(fault),
        };
        match self.faults.next("write", self.disk.path()) {
            Some(Fault::Io) => Err(failed(Fault::Io)),
            Some(Fault::NoSpace) => {
                self.disk.write_at(offset, half(bytes))?;
                Err(failed(Fault::NoSpace))
            }
            // The kernel's short write, which the caller of write(2) continues.
            Some(Fault::Short) => {
                let first = half(bytes);
                self.disk.write_at(offset, first)?;
                self.disk.write_at(offset + first.len() as u64, &bytes[first.len()..])
            }
            Some(Fault::Slow) | None => self.disk.write_at(offset, bytes),
        }
    }

    fn sync(&self) -> Result<(), DiskError> {
        match self.faults.next("fsync", self.disk.path()) {
            Some(fault @ (Fault::Io | Fault::NoSpace)) => {
                Err(DiskError::Sync { path: self.disk.path().to_owned(), source: error(fault) })
            }
            Some(Fault::Short | Fault::Slow) | None => Ok(()),
        }
    }
}
