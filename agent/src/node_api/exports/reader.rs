//! Reads a volume block by block, as it is or compressed.
//!
//! Why here: memory is one block, whatever the volume's size. After each block the kernel's count of writes must be what it was
//! when the reading began: a VM that starts, however briefly, is noticed before a block is handed on. Each block that is
//! compressed is a gzip member of its own (RFC 1952 §2.2), so the member of a block of zeros is made once: what a thin volume
//! has never written costs one comparison. Blocks; route in: a device and a range. Route out: bytes, or why not.

use crate::volumes::fill::pour::is_zero;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sheaf_host::disk::{ALIGNMENT, Buffer, Disk as _, DiskError, RawDisk};
use std::io::{self, Write as _};
use std::path::Path;

/// Bytes of a block: a multiple of what direct reads need.
const BLOCK: usize = 512 << 10;

/// Why a reading ended.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is no longer what it was when the reading began.
    #[error("the volume was written while it was read; download it again when no VM uses it")]
    Written,
    /// Compression failed.
    #[error("compressing a block of the volume")]
    Packing(#[source] io::Error),
}

/// A reading.
pub struct Reader {
    disk: RawDisk,
    changes: u64,
    at: u64,
    end: u64,
    buffer: Buffer,
    packing: Option<Packing>,
}

impl Reader {
    /// Of so many bytes of `device`.
    pub fn open(device: &Path, from: u64, bytes: u64, packed: bool) -> Result<Self, ReadError> {
        let disk = RawDisk::open_to_read(device)?;
        let changes = disk.changes()?;
        let buffer = Buffer::zeroed(BLOCK);
        let packing = packed.then(Packing::default);
        Ok(Self { disk, changes, at: from, end: from.saturating_add(bytes), buffer, packing })
    }

    /// The next block; none after the last one.
    pub fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.at >= self.end {
            return Ok(None);
        }
        // From where direct reads begin.
        let skipped = self.at % ALIGNMENT as u64;
        let start = self.at - skipped;
        let there = usize::try_from(self.disk.size().saturating_sub(start)).unwrap_or(BLOCK).min(BLOCK);
        self.disk.read_at(start, &mut self.buffer[..there])?;
        if self.disk.changes()? != self.changes {
            return Err(ReadError::Written);
        }
        let skipped = usize::try_from(skipped).unwrap_or_default();
        let wanted = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let block = &self.buffer[skipped..there.min(skipped.saturating_add(wanted))];
        // A disk that has shrunk: nothing would be read, without end.
        if block.is_empty() {
            return Err(ReadError::Written);
        }
        self.at += block.len() as u64;
        Ok(Some(match &mut self.packing {
            None => Bytes::copy_from_slice(block),
            Some(packing) => packing.pack(block).map_err(ReadError::Packing)?,
        }))
    }
}

/// Compresses blocks.
#[derive(Default)]
struct Packing {
    /// A block of zeros.
    zeros: Option<Bytes>,
}

impl Packing {
    fn pack(&mut self, block: &[u8]) -> io::Result<Bytes> {
        if block.len() != BLOCK || !is_zero(block) {
            return packed(block);
        }
        match &self.zeros {
            Some(zeros) => Ok(zeros.clone()),
            None => Ok(self.zeros.insert(packed(block)?).clone()),
        }
    }
}

fn packed(block: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(block.len() / 4), Compression::fast());
    encoder.write_all(block)?;
    Ok(encoder.finish()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    const SIZE: usize = 3 * BLOCK;

    /// Two blocks of zeros around bytes that differ.
    fn volume() -> (tempfile::NamedTempFile, Vec<u8>) {
        let mut bytes = vec![0; SIZE];
        bytes[BLOCK..2 * BLOCK].iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        (file, bytes)
    }

    fn all(reader: &mut Reader) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        while let Some(block) = reader.next()? {
            bytes.extend_from_slice(&block);
        }
        Ok(bytes)
    }

    #[test]
    fn any_range_is_read_as_it_is() {
        let (file, bytes) = volume();
        let last = (SIZE as u64 - 1, 1);
        for (from, count) in
            [(0, SIZE as u64), (1, 1), (4095, 2), (BLOCK as u64 - 7, BLOCK as u64 + 14), last]
        {
            let mut reader = Reader::open(file.path(), from, count, false).unwrap();
            let range = from as usize..(from + count) as usize;
            assert!(all(&mut reader).unwrap() == bytes[range], "{count} bytes from {from}");
        }
    }

    #[test]
    fn what_is_compressed_is_the_same_and_zeros_are_small() {
        let (file, bytes) = volume();
        let mut reader = Reader::open(file.path(), 0, SIZE as u64, true).unwrap();
        let first = reader.next().unwrap().unwrap();
        assert!(first.len() < 4096, "{}", first.len());
        let packed = [first.to_vec(), all(&mut reader).unwrap()].concat();
        let mut back = Vec::new();
        flate2::read::MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    }

    #[test]
    fn a_volume_that_is_written_meanwhile_is_not_read_on() {
        let (file, _) = volume();
        let mut reader = Reader::open(file.path(), 0, SIZE as u64, false).unwrap();
        assert!(reader.next().unwrap().is_some());
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
        file.as_file().set_modified(later).unwrap();
        assert!(matches!(reader.next(), Err(ReadError::Written)));
    }
}
