//! What a disk holds after some of its writes: pieces of logs, laid over zeros.
//!
//! Why not a copy: a node's disk has 64 GB and there are thousands of states. A piece says where in which log its data
//! is, so that putting a write onto the disk and taking it off again costs nothing but these notes. Route in:
//! [`Write`]s. Route out: the bytes of any place, and where they came from.

use crate::log::{Entry, Kind, Log, LogError};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of a sector: what a disk writes whole.
pub const SECTOR: u64 = 512;

/// A change of the disk's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Number of its entry in its log.
    pub number: u64,
    /// Its first sector.
    pub sector: u64,
    /// How many sectors.
    pub sectors: u64,
    /// Where its data is; none for zeros.
    pub data: Option<Place>,
    /// It is on the disk for good at once.
    pub fua: bool,
}

/// A byte of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Number of the log.
    pub log: u8,
    /// Byte in its file.
    pub at: u64,
}

impl Place {
    fn after(self, sectors: u64) -> Self {
        Self { at: self.at + sectors * SECTOR, ..self }
    }
}

impl Write {
    /// The change that `entry` of log number `log` made, if any. A discard is taken for zeros: what virtio disks of QEMU
    /// give back; states without it are among those that are tried.
    pub fn of(entry: &Entry, log: u8) -> Option<Self> {
        let data = match entry.kind {
            Kind::Write(at) => Some(Place { log, at }),
            Kind::Discard => None,
            Kind::Nothing => return None,
        };
        let (sector, sectors) = (entry.offset / SECTOR, entry.length / SECTOR);
        Some(Self { number: entry.number, sector, sectors, data, fua: entry.fua })
    }

    /// Its first `sectors` sectors.
    pub fn torn(self, sectors: u64) -> Self {
        Self { sectors: self.sectors.min(sectors), ..self }
    }
}

/// Sectors that lie in one piece in a log, or are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    sectors: u64,
    data: Option<Place>,
}

impl Piece {
    /// The first `sectors` sectors of it, and the rest.
    fn split(self, sectors: u64) -> (Self, Self) {
        let rest = self.data.map(|place| place.after(sectors));
        (Self { sectors, ..self }, Self { sectors: self.sectors - sectors, data: rest })
    }
}

/// What a write covered: puts it back.
#[derive(Debug)]
pub struct Undo {
    sector: u64,
    sectors: u64,
    covered: Vec<(u64, Piece)>,
}

/// The disk.
#[derive(Clone, Debug)]
pub struct Disk<'l> {
    logs: &'l [Log],
    size: u64,
    /// By first sector; what is in none is zeros.
    pieces: BTreeMap<u64, Piece>,
}

impl<'l> Disk<'l> {
    /// A blank disk of `size` bytes whose writes are in `logs`.
    pub fn blank(logs: &'l [Log], size: u64) -> Self {
        Self { logs, size, pieces: BTreeMap::new() }
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes out what lies between two sectors.
    fn take(&mut self, start: u64, end: u64) -> Vec<(u64, Piece)> {
        let before = self.pieces.range(..start).next_back().map(|(at, piece)| (*at, *piece));
        if let Some((at, piece)) = before.filter(|(at, piece)| at + piece.sectors > start) {
            let (head, rest) = piece.split(start - at);
            self.pieces.insert(at, head);
            self.pieces.insert(start, rest);
        }
        let mut taken = Vec::new();
        while let Some((at, piece)) = self.pieces.range(start..end).next().map(|(at, piece)| (*at, *piece)) {
            self.pieces.remove(&at);
            let (inside, outside) = piece.split(piece.sectors.min(end - at));
            taken.push((at, inside));
            if outside.sectors > 0 {
                self.pieces.insert(end, outside);
            }
        }
        taken
    }

    /// Puts `write` onto the disk.
    pub fn put(&mut self, write: &Write) -> Undo {
        let (sector, sectors) = (write.sector, write.sectors);
        let covered = self.take(sector, sector + sectors);
        if sectors > 0 {
            self.pieces.insert(sector, Piece { sectors, data: write.data });
        }
        Undo { sector, sectors, covered }
    }

    /// Takes the last write that was put off again.
    pub fn undo(&mut self, undo: Undo) {
        self.take(undo.sector, undo.sector + undo.sectors);
        self.pieces.extend(undo.covered);
    }

    /// Where `sectors` sectors from `sector` are, if they lie in one piece: in a log, or zeros (`None` inside).
    pub fn place(&self, sector: u64, sectors: u64) -> Option<Option<Place>> {
        let end = sector + sectors;
        match self.pieces.range(..end).next_back() {
            Some((at, piece)) if *at <= sector && at + piece.sectors >= end => {
                Some(piece.data.map(|place| place.after(sector - at)))
            }
            Some((at, piece)) if at + piece.sectors > sector => None,
            _ => Some(None),
        }
    }

    /// Fills `buffer`, whole sectors, from `sector`.
    pub fn read(&self, sector: u64, buffer: &mut [u8]) -> Result<(), LogError> {
        buffer.fill(0);
        let end = sector + buffer.len() as u64 / SECTOR;
        let first = self.pieces.range(..=sector).next_back().map_or(sector, |(at, _)| *at);
        for (at, piece) in self.pieces.range(first..end) {
            let (from, to) = ((*at).max(sector), (at + piece.sectors).min(end));
            if let Some(place) = piece.data.filter(|_| from < to) {
                let place = place.after(from - at);
                let range = ((from - sector) * SECTOR) as usize..((to - sector) * SECTOR) as usize;
                self.logs[usize::from(place.log)].read_at(place.at, &mut buffer[range])?;
            }
        }
        Ok(())
    }

    /// Writes all of it to `file`, whose holes are zeros.
    pub fn copy_to(&self, file: &File) -> Result<(), CopyError> {
        const MOST: u64 = 1 << 20;
        file.set_len(self.size).map_err(CopyError::Write)?;
        let mut buffer = vec![0; MOST as usize];
        for (at, piece) in self.pieces.iter().filter(|(_, piece)| piece.data.is_some()) {
            let (mut sector, end) = (*at, at + piece.sectors);
            while sector < end {
                let part = &mut buffer[..((end - sector) * SECTOR).min(MOST) as usize];
                self.read(sector, part)?;
                // Zeros stay holes.
                if part.iter().any(|byte| *byte != 0) {
                    file.write_all_at(part, sector * SECTOR).map_err(CopyError::Write)?;
                }
                sector += part.len() as u64 / SECTOR;
            }
        }
        Ok(())
    }
}

/// A state that could not be written out.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The file failed.
    #[error("the state cannot be written")]
    Write(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::recorder::Recorder;

    /// A log of writes at these places, each of its own byte.
    fn logs(writes: &[(u64, u64)]) -> (tempfile::TempDir, Vec<Log>, Vec<Write>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut recorder = Recorder::create(&path).unwrap();
        for (index, (sector, sectors)) in writes.iter().enumerate() {
            recorder.write(*sector, &vec![index as u8 + 1; (sectors * SECTOR) as usize]).unwrap();
        }
        let log = Log::open(&path).unwrap();
        let writes = log.entries().map(|entry| Write::of(&entry.unwrap(), 0).unwrap()).collect();
        (folder, vec![log], writes)
    }

    /// The first byte of each of the first 16 sectors.
    fn bytes(disk: &Disk<'_>) -> [u8; 16] {
        let mut buffer = vec![0; 16 * SECTOR as usize];
        disk.read(0, &mut buffer).unwrap();
        std::array::from_fn(|at| buffer[at * SECTOR as usize])
    }

    #[test]
    fn later_writes_cover_earlier_ones_and_what_was_covered_comes_back() {
        let (_folder, logs, writes) = logs(&[(2, 8), (4, 2), (0, 3), (8, 6)]);
        let mut disk = Disk::blank(&logs, 1 << 20);
        let mut seen = vec![bytes(&disk)];
        let mut undos = Vec::new();
        for write in &writes {
            undos.push(disk.put(write));
            seen.push(bytes(&disk));
        }
        assert_eq!(seen[4], [3, 3, 3, 1, 2, 2, 1, 1, 4, 4, 4, 4, 4, 4, 0, 0]);
        for undo in undos.into_iter().rev() {
            assert_eq!(bytes(&disk), seen.pop().unwrap());
            disk.undo(undo);
        }
        assert_eq!(bytes(&disk), [0; 16]);
    }

    #[test]
    fn a_torn_write_is_only_its_first_sectors() {
        let (_folder, logs, writes) = logs(&[(1, 6)]);
        let mut disk = Disk::blank(&logs, 1 << 20);
        disk.put(&writes[0].torn(2));
        assert_eq!(bytes(&disk)[..4], [0, 1, 1, 0]);
    }

    #[test]
    fn sectors_in_one_piece_are_known_by_their_place() {
        let (_folder, logs, writes) = logs(&[(2, 8), (4, 2)]);
        let mut disk = Disk::blank(&logs, 1 << 20);
        writes.iter().for_each(|write| drop(disk.put(write)));
        let first = writes[0].data.unwrap();
        assert_eq!(disk.place(2, 2), Some(Some(first)));
        assert_eq!(disk.place(6, 3), Some(Some(first.after(4))));
        assert_eq!(disk.place(3, 3), None, "of two writes");
        assert_eq!(disk.place(9, 3), None, "half of a write, half of zeros");
        assert_eq!(disk.place(10, 8), Some(None));
    }

    #[test]
    fn a_discard_is_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut recorder = Recorder::create(&path).unwrap();
        recorder.write(0, &[1; 2048]).unwrap();
        recorder.discard(1, 2).unwrap();
        let logs = [Log::open(&path).unwrap()];
        let mut disk = Disk::blank(&logs, 1 << 20);
        for entry in logs[0].entries() {
            disk.put(&Write::of(&entry.unwrap(), 0).unwrap());
        }
        assert_eq!(bytes(&disk)[..5], [1, 0, 0, 1, 0]);
    }

    #[test]
    fn a_state_is_written_out_with_holes_where_it_has_zeros() {
        let (folder, logs, writes) = logs(&[(2, 2), (2000, 1)]);
        let mut disk = Disk::blank(&logs, 2 << 20);
        writes.iter().for_each(|write| drop(disk.put(write)));
        let path = folder.path().join("state.raw");
        disk.copy_to(&File::create(&path).unwrap()).unwrap();
        let all = std::fs::read(&path).unwrap();
        assert_eq!((all.len(), all[1024], all[2048], all[2000 * 512]), (2 << 20, 1, 0, 2));
    }
}
