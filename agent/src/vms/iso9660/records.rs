//! Records of folders: where each file is, by its name in Rock Ridge and in Joliet.
//!
//! Why here: a record says the same of a file in both descriptions, apart from the name. What Rock Ridge adds is in fields of the
//! System Use Sharing Protocol (SP, PX, NM, CE, ER). Pure. Route in: a folder, places of everything. Route out: bytes.

use super::tree::{Entry, Item, Tree};
use super::{BLOCK, Names, both_u16, both_u32};
use std::collections::BTreeMap;

/// 2026-01-01T00:00:00Z in a directory record: a fixed date, so that equal files give equal images.
const RECORD_DATE: [u8; 7] = [126, 1, 1, 0, 0, 0, 0];
/// Longest name that fits into a record of at most 255 bytes.
const WHOLE_NAME: usize = 171;
/// Bytes of a longer name that are in its record; the rest is elsewhere.
const NAME_START: usize = 143;
/// Longest rest that a name can have: Linux reads 253 bytes.
const NAME_REST: usize = 253 - NAME_START;
/// Mode, as of stat(2), of a file that everybody may read.
const FILE_MODE: u32 = 0o100_444;
/// Mode of a folder.
const FOLDER_MODE: u32 = 0o040_555;

/// Where something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its first block.
    pub block: u32,
    /// Its length in bytes.
    pub bytes: u32,
}

/// Where everything is; what is not known yet is at 0.
#[derive(Default)]
pub struct Places {
    /// Folders, by their number.
    pub folders: Vec<Place>,
    /// Files, by their number.
    pub files: Vec<Place>,
    /// Rests of long names: block, and offset in it.
    pub rests: BTreeMap<Item, (u32, u32)>,
}

impl Places {
    fn of(&self, item: Item) -> Place {
        match item {
            Item::Folder(number) => self.folders.get(number),
            Item::File(number) => self.files.get(number),
        }
        .copied()
        .unwrap_or_default()
    }
}

/// The folder `number`: itself, its parent, and what is in it.
pub fn directory(tree: &Tree, number: usize, names: Names, places: &Places) -> Vec<u8> {
    let folder = &tree.folders[number];
    let plain = names == Names::Plain;
    let mut own = if plain { posix(FOLDER_MODE) } else { Vec::new() };
    let parent = own.clone();
    if plain && number == 0 {
        // SP comes first: there is Rock Ridge. ER: of which version.
        own.splice(0..0, *b"SP\x07\x01\xbe\xef\x00");
        own.extend(b"ER\x12\x01\x0a\x00\x00\x01RRIP_1991A");
    }
    let mut records = record(&[0], places.of(Item::Folder(number)), true, &own);
    records.extend(record(&[1], places.of(Item::Folder(folder.parent)), true, &parent));
    let mut entries: Vec<&Entry> = folder.entries.iter().collect();
    if plain {
        // Their names are their numbers.
        entries.sort_by_key(|entry| entry.item);
    }
    for entry in entries {
        let is_folder = matches!(entry.item, Item::Folder(_));
        let one = match names {
            Names::Joliet => record(&entry.joliet, places.of(entry.item), is_folder, &[]),
            Names::Plain => {
                let shared = rock_ridge(entry, places.rests.get(&entry.item).copied().unwrap_or_default());
                record(&plain_name(entry.item), places.of(entry.item), is_folder, &shared)
            }
        };
        // A record is in one block.
        if records.len() / BLOCK != (records.len() + one.len() - 1) / BLOCK {
            records.resize(records.len().next_multiple_of(BLOCK), 0);
        }
        records.extend(one);
    }
    records
}

/// The plain ISO name of an item; folders are before files.
pub fn plain_name(item: Item) -> Vec<u8> {
    match item {
        Item::Folder(number) => format!("D{number:05}").into_bytes(),
        Item::File(number) => format!("F{number:05}.;1").into_bytes(),
    }
}

/// What does not fit into the record of a long name, as a field of its own.
pub fn name_rest(name: &str) -> Option<Vec<u8>> {
    let bytes = name.as_bytes();
    (bytes.len() > WHOLE_NAME).then(|| {
        let rest = &bytes[NAME_START..];
        name_field(&rest[..rest.len().min(NAME_REST)], false)
    })
}

fn rock_ridge(entry: &Entry, (block, offset): (u32, u32)) -> Vec<u8> {
    let mut shared = posix(if matches!(entry.item, Item::Folder(_)) { FOLDER_MODE } else { FILE_MODE });
    match name_rest(&entry.name) {
        None => shared.extend(name_field(entry.name.as_bytes(), false)),
        Some(rest) => {
            shared.extend(name_field(&entry.name.as_bytes()[..NAME_START], true));
            shared.extend(b"CE\x1c\x01");
            for number in [block, offset, rest.len() as u32] {
                shared.extend(both_u32(number));
            }
        }
    }
    shared
}

fn name_field(name: &[u8], is_continued: bool) -> Vec<u8> {
    [&[b'N', b'M', (5 + name.len()) as u8, 1, u8::from(is_continued)], name].concat()
}

/// Mode, links, and root as owner.
fn posix(mode: u32) -> Vec<u8> {
    let mut field = b"PX\x24\x01".to_vec();
    for number in [mode, 1, 0, 0] {
        field.extend(both_u32(number));
    }
    field
}

/// A record; `shared` is what Rock Ridge adds.
pub fn record(name: &[u8], place: Place, is_folder: bool, shared: &[u8]) -> Vec<u8> {
    let start = (33 + name.len()).next_multiple_of(2);
    let length = (start + shared.len()).next_multiple_of(2);
    let mut r = vec![length as u8, 0];
    r.extend(both_u32(place.block));
    r.extend(both_u32(place.bytes));
    r.extend(RECORD_DATE);
    r.push(if is_folder { 2 } else { 0 });
    r.extend([0, 0]); // not interleaved
    r.extend(both_u16(1)); // volume
    r.push(name.len() as u8);
    r.extend(name);
    r.resize(start, 0);
    r.extend(shared);
    r.resize(length, 0);
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_record_has_255_bytes_whatever_the_length_of_the_name() {
        for length in 1..=253 {
            let name = "n".repeat(length);
            let entry = Entry { name, joliet: Vec::new(), item: Item::File(99_999) };
            let one = record(&plain_name(entry.item), Place::default(), false, &rock_ridge(&entry, (1, 2)));
            assert!(one.len() <= 255 && usize::from(one[0]) == one.len(), "{length}: {}", one.len());
            let rest = name_rest(&entry.name).map_or(0, |rest| rest.len());
            assert!(rest <= 255, "{length}: {rest}");
        }
    }
}
