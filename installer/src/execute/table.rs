//! The partition table: rendered in memory, written back to front.
//!
//! Why this order: without a protective MBR no firmware and no kernel believes a GPT, so the last 512 bytes make the
//! installation whole at once. Route in: [`Layout`], the MBR's code. Route out: backup, primary, MBR, each flushed, all
//! read back.

use super::{StepError, bios};
use crate::plan::Layout;
use gptman::{GPT, GPTPartitionEntry};
use sheaf_host::disk::Disk;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// A part of the disk that is held in memory while the table is rendered.
struct Window {
    /// First byte of the part.
    start: u64,
    bytes: Vec<u8>,
    /// Length of the disk in bytes.
    disk_size: u64,
    position: u64,
}

impl Window {
    fn new(disk_size: u64, start: u64, length: u64) -> Self {
        Self { start, bytes: vec![0; length as usize], disk_size, position: 0 }
    }

    fn place(&self, length: usize) -> io::Result<std::ops::Range<usize>> {
        let start = self.position.checked_sub(self.start).ok_or(io::ErrorKind::InvalidInput)? as usize;
        let end = start + length;
        if end > self.bytes.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "outside the rendered part of the disk"));
        }
        Ok(start..end)
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let place = self.place(buffer.len())?;
        buffer.copy_from_slice(&self.bytes[place]);
        self.position += buffer.len() as u64;
        Ok(buffer.len())
    }
}

impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let place = self.place(bytes.len())?;
        self.bytes[place].copy_from_slice(bytes);
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.disk_size.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = moved.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// A piece of the table: where it goes and what it is.
struct Piece {
    name: &'static str,
    offset: u64,
    bytes: Vec<u8>,
}

/// The pieces in the order of writing.
fn render(layout: &Layout, code: Option<[u8; bios::CODE]>) -> Result<[Piece; 3], gptman::Error> {
    let (disk, sector) = (layout.disk_size, layout.sector_size);
    let mut gpt = GPT::new_from(&mut Window::new(disk, 0, 0), sector, layout.id.to_bytes_le())?;
    for partition in &layout.partitions {
        gpt[u32::from(partition.number)] = GPTPartitionEntry {
            partition_type_guid: partition.kind.to_bytes_le(),
            unique_partition_guid: partition.uuid.to_bytes_le(),
            starting_lba: partition.offset / sector,
            ending_lba: (partition.offset + partition.size) / sector - 1,
            attribute_bits: partition.attributes,
            partition_name: partition.name.as_str().into(),
        };
    }
    let entries: Vec<_> = gpt.iter().map(|(_, entry)| entry.clone()).collect();
    let header_and_entries = (gpt.header.first_usable_lba - 1) * sector;

    let mut primary = Window::new(disk, sector, header_and_entries);
    gpt.header.write_into(&mut primary, sector, &entries)?;

    let mut header = gpt.header.clone();
    (header.primary_lba, header.backup_lba) = (gpt.header.backup_lba, gpt.header.primary_lba);
    header.partition_entry_lba = header.last_usable_lba + 1;
    let backup_start = header.partition_entry_lba * sector;
    let backup_length = (header.primary_lba + 1) * sector - backup_start;
    let mut backup = Window::new(disk, backup_start, backup_length);
    header.write_into(&mut backup, sector, &entries)?;

    let mut mbr = Window::new(disk, 0, sector);
    GPT::write_protective_mbr_into(&mut mbr, sector)?;
    if let Some(code) = code {
        mbr.bytes[..code.len()].copy_from_slice(&code);
    }

    let piece = |name, window: Window| Piece { name, offset: window.start, bytes: window.bytes };
    Ok([
        piece("the backup partition table", backup),
        piece("the primary partition table", primary),
        piece("the protective MBR", mbr),
    ])
}

/// Writes the table of `layout` and reads it back; `code` is what a BIOS runs.
pub(super) fn write(
    disk: &dyn Disk,
    layout: &Layout,
    code: Option<[u8; bios::CODE]>,
) -> Result<(), StepError> {
    let pieces = render(layout, code)?;
    for piece in &pieces {
        let mut present = vec![0; piece.bytes.len()];
        disk.read_at(piece.offset, &mut present)?;
        // A table that stays is not put at risk by writing it again.
        if present != piece.bytes {
            disk.write_at(piece.offset, &piece.bytes)?;
            disk.sync()?;
        }
    }
    for piece in &pieces {
        let mut back = vec![0; piece.bytes.len()];
        disk.read_at(piece.offset, &mut back)?;
        if back != piece.bytes {
            return Err(StepError::ReadBack { disk: disk.path().to_owned(), what: piece.name.into() });
        }
    }
    Ok(())
}
