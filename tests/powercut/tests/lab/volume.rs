//! A small FAT32 whose dirty sectors are written when the test says so: what Linux's vfat keeps in memory until a sync.
//!
//! Route in: changes of files. Route out: sectors to write, contents of files apart from folders and the FAT.

use std::collections::{BTreeSet, HashMap};

/// Bytes of a sector, which is a cluster here.
pub const SECTOR: usize = 512;
/// More than 65525, or it is not a FAT32.
const CLUSTERS: u64 = 66_000;
const RESERVED: u64 = 32;
const OF_FAT: u64 = ((CLUSTERS + 2) * 4).div_ceil(SECTOR as u64);
/// Sectors of the file system, a multiple of a page.
pub const SECTORS: u64 = (RESERVED + 2 * OF_FAT + CLUSTERS).next_multiple_of(8);
const ENTRY: usize = 32;
const PER_SECTOR: usize = SECTOR / ENTRY;
const END: u32 = 0x0fff_ffff;

/// Entries of a folder, each with its cluster and its place in it.
type Entries = Vec<((u32, usize), [u8; ENTRY])>;

pub struct Volume {
    first: u64,
    sectors: HashMap<u64, [u8; SECTOR]>,
    /// Folders and FAT.
    dirty: BTreeSet<u64>,
    /// Contents of files.
    dirty_data: BTreeSet<u64>,
    next_cluster: u32,
    next_short: u32,
}

fn checksum(short: &[u8]) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

impl Volume {
    /// An empty file system from sector `first` of the disk.
    pub fn format(first: u64) -> Self {
        let mut volume = Self {
            first,
            sectors: HashMap::new(),
            dirty: BTreeSet::new(),
            dirty_data: BTreeSet::new(),
            next_cluster: 3,
            next_short: 1,
        };
        let mut boot = [0; SECTOR];
        boot[11..13].copy_from_slice(&(SECTOR as u16).to_le_bytes());
        boot[13] = 1;
        boot[14..16].copy_from_slice(&(RESERVED as u16).to_le_bytes());
        boot[16] = 2;
        boot[32..36].copy_from_slice(&(SECTORS as u32).to_le_bytes());
        boot[36..40].copy_from_slice(&(OF_FAT as u32).to_le_bytes());
        boot[44..48].copy_from_slice(&2_u32.to_le_bytes());
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        volume.set(0, boot);
        for (cluster, next) in [(0, 0x0fff_fff8), (1, END), (2, END)] {
            volume.link(cluster, next);
        }
        volume
    }

    fn get(&self, sector: u64) -> [u8; SECTOR] {
        self.sectors.get(&sector).copied().unwrap_or([0; SECTOR])
    }

    fn set(&mut self, sector: u64, bytes: [u8; SECTOR]) {
        self.sectors.insert(sector, bytes);
        self.dirty.insert(sector);
    }

    fn link(&mut self, cluster: u32, next: u32) {
        let (sector, at) = (u64::from(cluster) * 4 / SECTOR as u64, cluster as usize * 4 % SECTOR);
        for fat in 0..2 {
            let sector = RESERVED + fat * OF_FAT + sector;
            let mut bytes = self.get(sector);
            bytes[at..at + 4].copy_from_slice(&next.to_le_bytes());
            self.set(sector, bytes);
        }
    }

    fn next(&self, cluster: u32) -> u32 {
        let bytes = self.get(RESERVED + u64::from(cluster) * 4 / SECTOR as u64);
        let at = cluster as usize * 4 % SECTOR;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn sector_of(cluster: u32) -> u64 {
        RESERVED + 2 * OF_FAT + u64::from(cluster) - 2
    }

    fn allocate(&mut self, count: usize) -> u32 {
        let first = self.next_cluster;
        for at in 0..count as u32 {
            let next = if at + 1 == count as u32 { END } else { first + at + 1 };
            self.link(first + at, next);
        }
        self.next_cluster += count as u32;
        first
    }

    fn chain(&self, first: u32) -> Vec<u32> {
        std::iter::successors(Some(first), |at| Some(self.next(*at)).filter(|next| *next < 0x0fff_fff8))
            .collect()
    }

    /// Entries of a folder, by their place.
    fn entries(&self, folder: u32) -> Entries {
        let of = |cluster: u32| {
            let bytes = self.get(Self::sector_of(cluster));
            (0..PER_SECTOR)
                .map(move |at| ((cluster, at), bytes[at * ENTRY..(at + 1) * ENTRY].try_into().unwrap()))
        };
        self.chain(folder).into_iter().flat_map(of).collect()
    }

    fn put_entry(&mut self, (cluster, at): (u32, usize), entry: &[u8; ENTRY]) {
        let mut bytes = self.get(Self::sector_of(cluster));
        bytes[at * ENTRY..(at + 1) * ENTRY].copy_from_slice(entry);
        self.set(Self::sector_of(cluster), bytes);
    }

    /// Places of the entries of `name`, the short one last.
    fn find(&self, folder: u32, name: &str) -> Option<Entries> {
        let mut run = Vec::new();
        for (place, entry) in self.entries(folder) {
            match (entry[0], entry[11]) {
                (0 | 0xe5, _) => run.clear(),
                (_, 0x0f) => run.push((place, entry)),
                _ => {
                    let letters =
                        |entry: &[u8; ENTRY]| [&entry[1..11], &entry[14..26], &entry[28..32]].concat();
                    let long: Vec<u8> = run.iter().rev().flat_map(|(_, entry)| letters(entry)).collect();
                    let units = long.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
                    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
                    run.push((place, entry));
                    if String::from_utf16_lossy(&units) == name {
                        return Some(run);
                    }
                    run.clear();
                }
            }
        }
        None
    }

    fn first_cluster(entry: &[u8; ENTRY]) -> u32 {
        let half = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
        half(20) << 16 | half(26)
    }

    fn folder_of<'p>(&self, path: &'p str) -> (u32, &'p str) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let found = folder.split('/').filter(|name| !name.is_empty()).fold(2, |at, name| {
            let run = self.find(at, name).unwrap_or_else(|| panic!("no folder {name} of {path}"));
            Self::first_cluster(&run.last().unwrap().1)
        });
        (found, name)
    }

    fn add_entry(&mut self, folder: u32, name: &str, attributes: u8, cluster: u32, size: u32) {
        let mut short = *b"           ";
        let (stem, end) = name.trim_start_matches('.').rsplit_once('.').unwrap_or((name, ""));
        let upper = |text: &str| -> Vec<u8> {
            text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_uppercase()).collect()
        };
        let tail = format!("~{}", self.next_short);
        self.next_short += 1;
        let stem: Vec<u8> = upper(stem).into_iter().take(8 - tail.len()).chain(tail.bytes()).collect();
        short[..stem.len()].copy_from_slice(&stem);
        for (to, from) in short[8..].iter_mut().zip(upper(end)) {
            *to = from;
        }
        let mut units: Vec<u16> = name.encode_utf16().collect();
        if !units.len().is_multiple_of(13) {
            units.push(0);
        }
        units.resize(units.len().next_multiple_of(13), 0xffff);
        let parts: Vec<&[u16]> = units.chunks(13).collect();
        let mut new: Vec<[u8; ENTRY]> = Vec::new();
        for (index, part) in parts.iter().enumerate().rev() {
            let mut entry = [0; ENTRY];
            entry[0] = (index as u8 + 1) | if index + 1 == parts.len() { 0x40 } else { 0 };
            entry[11] = 0x0f;
            entry[13] = checksum(&short);
            let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
            for (at, unit) in places.zip(*part) {
                entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
            }
            new.push(entry);
        }
        let mut entry = [0; ENTRY];
        entry[..11].copy_from_slice(&short);
        entry[11] = attributes;
        entry[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
        entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
        entry[28..32].copy_from_slice(&size.to_le_bytes());
        new.push(entry);

        let free = |volume: &Self| {
            let mut run: Vec<(u32, usize)> = Vec::new();
            for (place, entry) in volume.entries(folder) {
                match entry[0] {
                    0 | 0xe5 => run.push(place),
                    _ => run.clear(),
                }
                if run.len() == new.len() {
                    return Some(run);
                }
            }
            None
        };
        let places = free(self).unwrap_or_else(|| {
            let (last, more) = (*self.chain(folder).last().unwrap(), self.allocate(1));
            self.set(Self::sector_of(more), [0; SECTOR]);
            self.link(last, more);
            free(self).unwrap()
        });
        for (place, entry) in places.into_iter().zip(&new) {
            self.put_entry(place, entry);
        }
    }

    fn drop_entry(&mut self, run: Entries) {
        for (place, mut entry) in run {
            entry[0] = 0xe5;
            self.put_entry(place, &entry);
        }
    }

    /// Makes a folder; that above it is there.
    pub fn folder(&mut self, path: &str) {
        let (above, name) = self.folder_of(path);
        let cluster = self.allocate(1);
        let mut bytes = [0; SECTOR];
        for (at, name) in [(0, b".          "), (1, b"..         ")] {
            bytes[at * ENTRY..at * ENTRY + 11].copy_from_slice(name);
            bytes[at * ENTRY + 11] = 0x10;
        }
        self.set(Self::sector_of(cluster), bytes);
        self.add_entry(above, name, 0x10, cluster, 0);
    }

    /// Makes a file.
    pub fn create(&mut self, path: &str, bytes: &[u8]) {
        let cluster = self.allocate(bytes.len().div_ceil(SECTOR));
        for (cluster, part) in self.chain(cluster).into_iter().zip(bytes.chunks(SECTOR)) {
            let mut sector = [0; SECTOR];
            sector[..part.len()].copy_from_slice(part);
            self.sectors.insert(Self::sector_of(cluster), sector);
            self.dirty_data.insert(Self::sector_of(cluster));
        }
        let (folder, name) = self.folder_of(path);
        self.add_entry(folder, name, 0x20, cluster, bytes.len() as u32);
    }

    /// Gives a file another name in its folder.
    pub fn rename(&mut self, from: &str, to: &str) {
        let (folder, name) = self.folder_of(from);
        let run = self.find(folder, name).unwrap_or_else(|| panic!("no {from}"));
        let (_, entry) = *run.last().unwrap();
        let size = u32::from_le_bytes(entry[28..32].try_into().unwrap());
        self.add_entry(folder, self.folder_of(to).1, 0x20, Self::first_cluster(&entry), size);
        self.drop_entry(run);
    }

    /// Removes a file.
    pub fn remove(&mut self, path: &str) {
        let (folder, name) = self.folder_of(path);
        let run = self.find(folder, name).unwrap_or_else(|| panic!("no {path}"));
        for cluster in self.chain(Self::first_cluster(&run.last().unwrap().1)) {
            self.link(cluster, 0);
        }
        self.drop_entry(run);
    }

    /// Writes over the first sector of a file.
    pub fn overwrite(&mut self, path: &str, bytes: &[u8; SECTOR]) {
        let (folder, name) = self.folder_of(path);
        let run = self.find(folder, name).unwrap_or_else(|| panic!("no {path}"));
        let sector = Self::sector_of(Self::first_cluster(&run.last().unwrap().1));
        self.sectors.insert(sector, *bytes);
        self.dirty_data.insert(sector);
    }

    fn runs(&self, dirty: BTreeSet<u64>) -> Vec<(u64, Vec<u8>)> {
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for sector in dirty {
            let bytes = self.get(sector);
            match runs.last_mut() {
                Some((first, run)) if *first + (run.len() / SECTOR) as u64 == self.first + sector => {
                    run.extend(bytes);
                }
                _ => runs.push((self.first + sector, bytes.to_vec())),
            }
        }
        runs
    }

    /// What is still to be written of contents of files.
    pub fn data(&mut self) -> Vec<(u64, Vec<u8>)> {
        let dirty = std::mem::take(&mut self.dirty_data);
        self.runs(dirty)
    }

    /// What is still to be written of folders and of the FAT.
    pub fn folders(&mut self) -> Vec<(u64, Vec<u8>)> {
        let dirty = std::mem::take(&mut self.dirty);
        self.runs(dirty)
    }
}
