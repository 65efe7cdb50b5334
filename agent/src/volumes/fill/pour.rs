//! Pours a stream into a volume that reads as zeros: what is zero in it is not written, and takes no space.
//!
//! Route in: a stream, a disk. Route out: the disk written past the page cache, in whole pieces.

use super::FillError;
use super::image::unreadable;
use sheaf_host::disk::{ALIGNMENT, Buffer, Disk};
use std::io::Read;

/// Written at once.
const PIECE: usize = 1 << 20;
/// Zeros are left out in blocks of this size: a thin pool gives space in no smaller ones.
const BLOCK: usize = 64 << 10;

/// A disk that is written from its beginning.
pub(super) struct Sink<'a> {
    disk: &'a dyn Disk,
    buffer: Buffer,
    filled: usize,
    at: u64,
}

impl<'a> Sink<'a> {
    /// Writes `disk`, which reads as zeros.
    pub(super) fn new(disk: &'a dyn Disk) -> Result<Self, FillError> {
        Ok(Self { disk, buffer: Buffer::zeroed(PIECE), filled: 0, at: 0 })
    }

    /// Writes what is in the buffer, the last sector filled up with zeros.
    fn flush(&mut self) -> Result<(), FillError> {
        if self.filled == 0 {
            return Ok(());
        }
        let volume = self.disk.size();
        if self.at + self.filled as u64 > volume {
            return Err(FillError::TooLarge { image: None, volume });
        }
        let len = self.filled.next_multiple_of(ALIGNMENT);
        self.buffer[self.filled..len].fill(0);
        // The volume may end within that last sector.
        let len = len.min(usize::try_from(volume - self.at).unwrap_or(usize::MAX));
        let mut start = 0;
        while start < len {
            let end = |from: usize| (from + BLOCK).min(len);
            if is_zero(&self.buffer[start..end(start)]) {
                start = end(start);
                continue;
            }
            let mut stop = end(start);
            while stop < len && !is_zero(&self.buffer[stop..end(stop)]) {
                stop = end(stop);
            }
            self.disk.write_at(self.at + start as u64, &self.buffer[start..stop])?;
            start = stop;
        }
        self.at += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

/// Whether every byte is 0.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Compared with itself, one byte on: the fastest way without unsafe.
    bytes.first().is_none_or(|first| *first == 0)
        && bytes.get(1..) == bytes.get(..bytes.len().saturating_sub(1))
}

/// Pours all of `stream`.
pub(super) fn pour(stream: &mut dyn Read, sink: &mut Sink<'_>) -> Result<(), FillError> {
    loop {
        let filled = sink.filled;
        match stream.read(&mut sink.buffer[filled..]) {
            Ok(0) => return sink.flush(),
            Ok(read) => sink.filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
        if sink.filled == PIECE {
            sink.flush()?;
        }
    }
}
