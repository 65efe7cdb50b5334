//! A FAT32 file system, as EDK2's FatPkg and GRUB's fat.c read it: the first FAT, names in any case.
//!
//! Why our own reader: it has to read half-written file systems without repairing or refusing them, and a file of 27 MB is
//! compared by the contents of its clusters, never copied. Layout and long names: Microsoft's FAT specification 1.03
//! (fatgen103). Route in: the partition. Route out: [`File`]s of a folder; whether one has known contents.

use super::Read;
use crate::content::{Contents, Known};
use crate::disk::{Disk, SECTOR};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Fewest clusters that make a file system FAT32.
const FEWEST: u64 = 65525;
/// Bytes of an entry of a folder.
const ENTRY: usize = 32;
/// Attributes: a long name's part, a folder, a volume's label.
const LONG: u8 = 0x0f;
const FOLDER: u8 = 0x10;
const LABEL: u8 = 0x08;
/// A cluster number of this or more ends a chain.
const END: u32 = 0x0fff_fff8;
/// Bits of a FAT's entry that count.
const MASK: u32 = 0x0fff_ffff;
/// Most entries of a folder.
const MOST_ENTRIES: usize = 65536;

/// Why a file or the file system cannot be read.
pub type Broken = String;

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name: the long one, else the short one.
    pub name: String,
    /// It is a folder.
    pub is_folder: bool,
    first: u32,
    /// Its length in bytes.
    pub size: u64,
}

/// An opened file system.
#[derive(Debug)]
pub struct Fat<'d, 'l> {
    disk: &'d Disk<'l>,
    contents: &'d Contents,
    /// First sector of the first FAT, and of the first cluster.
    table: u64,
    data: u64,
    /// Sectors of a cluster.
    cluster: u64,
    clusters: u64,
    root: u32,
    /// Sectors of the FAT that were read.
    read: RefCell<HashMap<u64, [u8; SECTOR as usize]>>,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl<'d, 'l> Fat<'d, 'l> {
    /// Opens the file system from sector `first`, in `sectors` sectors.
    pub fn open(
        disk: &'d Disk<'l>,
        contents: &'d Contents,
        first: u64,
        sectors: u64,
    ) -> Read<Result<Self, Broken>> {
        let mut boot = [0; SECTOR as usize];
        disk.read(first, &mut boot)?;
        if boot[510..] != [0x55, 0xaa] || number(&boot[11..13]) != SECTOR {
            return Ok(Err("its first sector is not that of a FAT".into()));
        }
        let (cluster, reserved, fats) = (u64::from(boot[13]), number(&boot[14..16]), u64::from(boot[16]));
        let (total, of_fat, root) = (number(&boot[32..36]), number(&boot[36..40]), number(&boot[44..48]));
        let data = reserved + fats * of_fat;
        if !cluster.is_power_of_two() || fats == 0 || of_fat == 0 || total <= data || total > sectors {
            return Ok(Err("its sizes contradict each other".into()));
        }
        let clusters = (total - data) / cluster;
        if clusters < FEWEST || (clusters + 2) * 4 > of_fat * SECTOR {
            return Ok(Err(format!("it has {clusters} clusters, which is not a FAT32")));
        }
        Ok(Ok(Self {
            disk,
            contents,
            table: first + reserved,
            data: first + data,
            cluster,
            clusters,
            root: root as u32,
            read: RefCell::default(),
        }))
    }

    fn cluster_bytes(&self) -> usize {
        (self.cluster * SECTOR) as usize
    }

    fn sector_of(&self, cluster: u32) -> u64 {
        self.data + (u64::from(cluster) - 2) * self.cluster
    }

    fn next(&self, cluster: u32) -> Read<u32> {
        let (sector, at) =
            (u64::from(cluster) * 4 / SECTOR, u64::from(cluster) as usize * 4 % SECTOR as usize);
        let mut read = self.read.borrow_mut();
        let bytes = match read.entry(sector) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let mut bytes = [0; SECTOR as usize];
                self.disk.read(self.table + sector, &mut bytes)?;
                new.insert(bytes)
            }
        };
        Ok(number(&bytes[at..at + 4]) as u32 & MASK)
    }

    /// Clusters from `first` on, at most `most`.
    fn chain(&self, first: u32, most: usize) -> Read<Result<Vec<u32>, Broken>> {
        let (mut chain, mut at) = (Vec::new(), first);
        while chain.len() < most && at < END {
            if !(2..self.clusters + 2).contains(&u64::from(at)) {
                return Ok(Err(format!("its chain of clusters leads to {at} after {}", chain.len())));
            }
            chain.push(at);
            at = self.next(at)?;
        }
        Ok(Ok(chain))
    }

    /// What is in a folder.
    fn entries(&self, first: u32) -> Read<Result<Vec<File>, Broken>> {
        let most = MOST_ENTRIES * ENTRY / self.cluster_bytes();
        let chain = match self.chain(first, most.max(1))? {
            Ok(chain) => chain,
            Err(broken) => return Ok(Err(broken)),
        };
        let mut seen = HashSet::new();
        let mut files = Vec::new();
        // Parts of a long name by their number, and the sum of the short name that they belong to.
        let mut long: (BTreeMap<u8, [u16; 13]>, u8) = Default::default();
        for cluster in chain {
            if !seen.insert(cluster) {
                return Ok(Err("its chain of clusters is a circle".into()));
            }
            let mut bytes = vec![0; self.cluster_bytes()];
            self.disk.read(self.sector_of(cluster), &mut bytes)?;
            for entry in bytes.chunks_exact(ENTRY) {
                match (entry[0], entry[11]) {
                    (0, _) => return Ok(Ok(files)),
                    (0xe5, _) => long.0.clear(),
                    (order, LONG) => {
                        if order & 0x40 != 0 {
                            long = (BTreeMap::new(), entry[13]);
                        }
                        if entry[13] == long.1 {
                            long.0.insert(order & 0x3f, part(entry));
                        } else {
                            long.0.clear();
                        }
                    }
                    (_, attributes) if attributes & LABEL != 0 => long.0.clear(),
                    (_, attributes) => {
                        let name = long_name(&long.0).filter(|_| checksum(&entry[..11]) == long.1);
                        long.0.clear();
                        files.push(File {
                            name: name.unwrap_or_else(|| short_name(&entry[..11])),
                            is_folder: attributes & FOLDER != 0,
                            first: (number(&entry[20..22]) << 16 | number(&entry[26..28])) as u32,
                            size: number(&entry[28..32]),
                        });
                    }
                }
            }
        }
        Ok(Ok(files))
    }

    /// What is in the folder at `path`, `EFI/Linux`; nothing when there is none.
    pub fn folder(&self, path: &str) -> Read<Result<Vec<File>, Broken>> {
        let mut at = self.root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let found = match self.entries(at)? {
                Ok(files) => files.into_iter().find(|file| file.is_folder && is(&file.name, name)),
                Err(broken) => return Ok(Err(format!("the folder above {name}: {broken}"))),
            };
            match found {
                Some(folder) => at = folder.first,
                None => return Ok(Ok(Vec::new())),
            }
        }
        Ok(self.entries(at)?.map_err(|broken| format!("the folder {path}: {broken}")))
    }

    /// The file at `path`, if there is one.
    pub fn file(&self, path: &str) -> Read<Result<Option<File>, Broken>> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let files = self.folder(folder)?;
        Ok(files.map(|files| files.into_iter().find(|file| !file.is_folder && is(&file.name, name))))
    }

    /// All bytes of a small file.
    pub fn read(&self, file: &File) -> Read<Result<Vec<u8>, Broken>> {
        let chain = match self.whole_chain(file)? {
            Ok(chain) => chain,
            Err(broken) => return Ok(Err(broken)),
        };
        let mut bytes = vec![0; chain.len() * self.cluster_bytes()];
        for (cluster, part) in chain.into_iter().zip(bytes.chunks_mut(self.cluster_bytes())) {
            self.disk.read(self.sector_of(cluster), part)?;
        }
        bytes.truncate(file.size as usize);
        Ok(Ok(bytes))
    }

    fn whole_chain(&self, file: &File) -> Read<Result<Vec<u32>, Broken>> {
        let count = file.size.div_ceil(self.cluster_bytes() as u64) as usize;
        Ok(match self.chain(file.first, count)? {
            Ok(chain) if chain.len() < count => {
                Err(format!("{} of its {count} clusters are there", chain.len()))
            }
            chain => chain,
        })
    }

    /// Whether `file` is `known`, byte by byte; or where it differs.
    pub fn compare(&self, file: &File, known: &Known) -> Read<Result<(), Broken>> {
        if file.size != known.bytes().len() as u64 {
            return Ok(Err(format!("it has {} bytes instead of {}", file.size, known.bytes().len())));
        }
        let chain = match self.whole_chain(file)? {
            Ok(chain) => chain,
            Err(broken) => return Ok(Err(broken)),
        };
        let chunk = self.cluster_bytes();
        for (index, cluster) in chain.into_iter().enumerate() {
            let same = match known.digest(chunk, index) {
                Some(digest) => {
                    self.contents.digest(self.disk, self.sector_of(cluster), self.cluster)? == digest
                }
                None => {
                    let rest = &known.bytes()[index * chunk..];
                    let mut bytes = vec![0; chunk];
                    self.disk.read(self.sector_of(cluster), &mut bytes)?;
                    bytes.starts_with(rest)
                }
            };
            if !same {
                return Ok(Err(format!("it differs from byte {} on", index * chunk)));
            }
        }
        Ok(Ok(()))
    }
}

/// Names are the same in any case.
fn is(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// The 13 letters of a part of a long name.
fn part(entry: &[u8]) -> [u16; 13] {
    let letters = entry[1..11]
        .chunks_exact(2)
        .chain(entry[14..26].chunks_exact(2))
        .chain(entry[28..32].chunks_exact(2));
    let mut part = [0; 13];
    for (to, letter) in part.iter_mut().zip(letters) {
        *to = u16::from_le_bytes([letter[0], letter[1]]);
    }
    part
}

fn long_name(parts: &BTreeMap<u8, [u16; 13]>) -> Option<String> {
    let is_whole = !parts.is_empty() && parts.keys().copied().eq(1..=parts.len() as u8);
    let letters = parts.values().flatten().copied().take_while(|letter| *letter != 0);
    is_whole.then(|| String::from_utf16_lossy(&letters.collect::<Vec<_>>()))
}

/// The sum that ties a long name to its short one.
pub(crate) fn checksum(short: &[u8]) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

fn short_name(short: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match text(&short[8..]) {
        end if end.is_empty() => text(&short[..8]),
        end => format!("{}.{end}", text(&short[..8])),
    }
}
