//! The partition table, as firmware, kernel and GRUB each believe it.
//!
//! Why three readers: EDK2 wants a protective MBR, then the primary table with its checksums, else the backup
//! (MdeModulePkg/Universal/Disk/PartitionDxe/Gpt.c). Linux wants the MBR and a primary table that holds
//! (block/partitions/efi.c; the backup only with the argument `gpt`). GRUB looks at no checksum and at no backup
//! (grub-core/partmap/gpt.c). Sectors have 512 bytes. Route in: sectors. Route out: a [`Table`], or why there is none.

use super::Read;
use crate::disk::{Disk, SECTOR};
use crate::log::LogError;

/// Sector of the primary header.
const PRIMARY: u64 = 1;
/// How a header begins.
const MAGIC: &[u8; 8] = b"EFI PART";
/// Type of the partition of a protective MBR.
const PROTECTIVE: u8 = 0xee;
/// Bytes of an entry that are read; an entry is not shorter.
const ENTRY: usize = 128;
/// Most bytes of entries that are believed.
const MOST_ENTRIES: u64 = 1 << 20;

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Its type, as it is on the disk.
    pub kind: [u8; 16],
    /// Its name.
    pub name: String,
    /// Its first sector.
    pub first: u64,
    /// How many sectors it has.
    pub sectors: u64,
}

/// All partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(pub Vec<Partition>);

impl Table {
    /// The partition called `name`.
    pub fn named(&self, name: &str) -> Option<&Partition> {
        self.0.iter().find(|partition| partition.name == name)
    }
}

/// What is found at both ends of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The MBR protects a GPT.
    pub is_protected: bool,
    /// The primary table, or what is wrong with it.
    pub primary: Result<Table, String>,
    /// The backup, likewise.
    pub backup: Result<Table, String>,
    /// What GRUB makes of the primary table.
    pub unchecked: Option<Table>,
}

/// CRC-32 of IEEE 802.3, which GPT uses.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    })
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads the tables of `disk`.
pub fn read(disk: &Disk<'_>) -> Read<Tables> {
    let mut mbr = [0; SECTOR as usize];
    disk.read(0, &mut mbr)?;
    let is_protective = |entry: &[u8]| entry[0] == 0 && entry[4] == PROTECTIVE && number(&entry[8..12]) == 1;
    Ok(Tables {
        is_protected: mbr[510..] == [0x55, 0xaa] && mbr[446..510].chunks_exact(16).any(is_protective),
        primary: checked(disk, PRIMARY)?,
        backup: checked(disk, disk.size() / SECTOR - 1)?,
        unchecked: unchecked(disk)?,
    })
}

fn header(disk: &Disk<'_>, at: u64) -> Result<[u8; SECTOR as usize], LogError> {
    let mut header = [0; SECTOR as usize];
    disk.read(at, &mut header)?;
    Ok(header)
}

/// The table whose header is at sector `at`, if its checksums hold.
fn checked(disk: &Disk<'_>, at: u64) -> Read<Result<Table, String>> {
    let header = header(disk, at)?;
    let size = number(&header[12..16]) as usize;
    if &header[..8] != MAGIC {
        return Ok(Err(format!("there is no header in sector {at}")));
    }
    if !(92..=header.len()).contains(&size) {
        return Ok(Err(format!("its header has {size} bytes")));
    }
    let mut summed = header[..size].to_vec();
    summed[16..20].fill(0);
    if u64::from(crc32(&summed)) != number(&header[16..20]) {
        return Ok(Err("the checksum of its header does not match".into()));
    }
    if number(&header[24..32]) != at {
        return Ok(Err("its header is of another sector".into()));
    }
    let Some(entries) = entries(disk, &header)? else {
        return Ok(Err("its entries are of an unusual size".into()));
    };
    if u64::from(crc32(&entries)) != number(&header[88..92]) {
        return Ok(Err("the checksum of its entries does not match".into()));
    }
    Ok(Ok(table(&header, &entries)))
}

/// What GRUB reads.
fn unchecked(disk: &Disk<'_>) -> Read<Option<Table>> {
    let header = header(disk, PRIMARY)?;
    if &header[..8] != MAGIC {
        return Ok(None);
    }
    Ok(entries(disk, &header)?.map(|entries| table(&header, &entries)))
}

fn entries(disk: &Disk<'_>, header: &[u8]) -> Read<Option<Vec<u8>>> {
    let (at, count, size) = (number(&header[72..80]), number(&header[80..84]), number(&header[84..88]));
    let length = count * size;
    if size < ENTRY as u64 || length > MOST_ENTRIES || at.saturating_mul(SECTOR) + length > disk.size() {
        return Ok(None);
    }
    let mut entries = vec![0; length.next_multiple_of(SECTOR) as usize];
    disk.read(at, &mut entries)?;
    entries.truncate(length as usize);
    Ok(Some(entries))
}

fn table(header: &[u8], entries: &[u8]) -> Table {
    let size = number(&header[84..88]) as usize;
    let partition = |(entry, number_): (&[u8], u32)| {
        let kind: [u8; 16] = entry[..16].try_into().ok().filter(|kind| *kind != [0; 16])?;
        let (first, last) = (number(&entry[32..40]), number(&entry[40..48]));
        let units: Vec<u16> =
            entry[56..ENTRY].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        let name = String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned();
        (first <= last).then(|| Partition { number: number_, kind, name, first, sectors: last - first + 1 })
    };
    Table(entries.chunks_exact(size).zip(1..).filter_map(partition).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_specification() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
