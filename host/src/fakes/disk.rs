//! A [`Disk`] in memory: sparse, remembers the order of its writes, fails when told.

use crate::disk::{Disk, DiskError, Hold};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// Memory is kept in pieces of this many bytes.
const PIECE: u64 = 64 * 1024;

/// Holds only what was written; the rest reads as zeros.
pub struct FakeDisk {
    path: PathBuf,
    size: u64,
    number: Option<String>,
    busy: bool,
    state: Mutex<State>,
    failing: Option<std::ops::Range<u64>>,
    lost: Option<u64>,
}

#[derive(Default)]
struct State {
    pieces: BTreeMap<u64, Vec<u8>>,
    writes: Vec<(u64, usize)>,
}

impl FakeDisk {
    /// An empty disk of `size` bytes called `path`.
    pub fn new(path: impl AsRef<Path>, size: u64) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            size,
            number: None,
            busy: false,
            state: Mutex::default(),
            failing: None,
            lost: None,
        }
    }

    /// The kernel has the number `number` for it, `8:16`.
    #[must_use]
    pub fn numbered(mut self, number: &str) -> Self {
        self.number = Some(number.to_owned());
        self
    }

    /// Another program holds it.
    #[must_use]
    pub fn busy(mut self) -> Self {
        self.busy = true;
        self
    }

    /// The `n`th write (counted from 0) fails with EIO.
    #[must_use]
    pub fn fails_at_write(mut self, n: u64) -> Self {
        self.failing = Some(n..n + 1);
        self
    }

    /// The `n`th write and all that follow fail with EIO: what a power cut leaves.
    #[must_use]
    pub fn fails_from_write(mut self, n: u64) -> Self {
        self.failing = Some(n..u64::MAX);
        self
    }

    /// The `n`th write is reported as done, and is not.
    #[must_use]
    pub fn loses_write(mut self, n: u64) -> Self {
        self.lost = Some(n);
        self
    }

    /// Puts `bytes` at `offset` without counting it as a write: what the disk held before.
    #[must_use]
    pub fn holding(self, offset: u64, bytes: &[u8]) -> Self {
        self.put(offset, bytes);
        self
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        for (position, run) in runs(offset, bytes.len()) {
            let within = (position % PIECE) as usize;
            let piece = state.pieces.entry(position / PIECE).or_insert_with(|| vec![0; PIECE as usize]);
            piece[within..within + run].copy_from_slice(&bytes[(position - offset) as usize..][..run]);
        }
    }

    /// Offset and length of each write so far, in order, failed ones too.
    pub fn writes(&self) -> Vec<(u64, usize)> {
        self.state().writes.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn transfer(&self, action: &'static str, offset: u64, len: usize, source: io::Error) -> DiskError {
        DiskError::Transfer { path: self.path.clone(), action, offset, len, source }
    }
}

impl Disk for FakeDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn number(&self) -> Option<String> {
        self.number.clone()
    }

    fn hold(&self, _: Hold) -> Result<(), DiskError> {
        match self.busy {
            true => {
                Err(DiskError::Busy { path: self.path.clone(), source: io::Error::from_raw_os_error(16) })
            }
            false => Ok(()),
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        if offset + buffer.len() as u64 > self.size {
            return Err(self.transfer("read", offset, buffer.len(), io::ErrorKind::UnexpectedEof.into()));
        }
        let state = self.state();
        for (position, run) in runs(offset, buffer.len()) {
            let within = (position % PIECE) as usize;
            let target = &mut buffer[(position - offset) as usize..][..run];
            match state.pieces.get(&(position / PIECE)) {
                Some(piece) => target.copy_from_slice(&piece[within..within + run]),
                None => target.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let turn = {
            let mut state = self.state();
            state.writes.push((offset, bytes.len()));
            state.writes.len() as u64 - 1
        };
        if self.failing.as_ref().is_some_and(|failing| failing.contains(&turn)) {
            return Err(self.transfer("write", offset, bytes.len(), io::Error::from_raw_os_error(5)));
        }
        if offset + bytes.len() as u64 > self.size {
            return Err(self.transfer("write", offset, bytes.len(), io::ErrorKind::StorageFull.into()));
        }
        if self.lost != Some(turn) {
            self.put(offset, bytes);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// Cuts a transfer where pieces end.
fn runs(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let end = offset + len as u64;
    std::iter::successors((len > 0).then_some(offset), move |at| {
        let next = (at / PIECE + 1) * PIECE;
        (next < end).then_some(next)
    })
    .map(move |at| (at, (end.min((at / PIECE + 1) * PIECE) - at) as usize))
}
