//! Makes a small ISO 9660 image in memory: files in folders, with their real names in Rock Ridge and in Joliet.
//!
//! Why here: a cloud-init seed is three files of some kilobytes, read as a disk or as a CD; that needs neither a
//! program on the node nor a process per VM. Linux reads Rock Ridge, with names of up to 253 characters; Windows reads Joliet,
//! with up to 103; the plain ISO names are numbers. [`tree`] has the folders, [`records`] what they consist of.
//! Route in: a volume label and files. Route out: the bytes of the image.

mod records;
mod tree;

use records::{Place, Places, directory, name_rest, plain_name, record};
use std::collections::BTreeMap;
use tree::{Item, Tree};

/// Bytes of a block, as the standard has it.
const BLOCK: usize = 2048;

/// First block of a volume descriptor: 16 blocks are left to the system.
const FIRST_DESCRIPTOR: u32 = 16;

/// First block after the descriptors: primary, Joliet, end.
const FIRST_FREE: u32 = 19;

/// Blocks of zeros after the last file, as mkisofs adds: CD drivers read ahead, and probes for labels (busybox) give up
/// on a volume shorter than the 68 KiB in which other file systems keep theirs.
const PADDING: u32 = 150;

/// 2026-01-01T00:00:00Z in a volume descriptor: a fixed date, so that equal files give equal images.
const VOLUME_DATE: &[u8; 17] = b"2026010100000000\0";

/// Which of the two descriptions of the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Plain ISO names, with Rock Ridge.
    Plain,
    /// Joliet.
    Joliet,
}

/// An image labelled `label` (at most 32 characters, of which Joliet has 16) with `files` by their paths. No path is a folder
/// of another one.
pub fn image(label: &str, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let tree = Tree::of(files.keys());
    let mut layout = Layout { next: FIRST_FREE };
    let unknown = Places::default();
    let described = [Names::Plain, Names::Joliet].map(|names| {
        let table_bytes = path_table(&tree, names, &unknown, u32::to_le_bytes, u16::to_le_bytes).len();
        let tables = [layout.take(table_bytes), layout.take(table_bytes)];
        let folder = |number| directory(&tree, number, names, &unknown).len().next_multiple_of(BLOCK);
        let folders = (0..tree.folders.len()).map(|number| layout.take(folder(number))).collect();
        (names, tables, folders)
    });
    let rests = layout.rests(&tree);
    let places: Vec<Place> = files.values().map(|content| layout.take(content.len())).collect();
    let blocks = layout.next + PADDING;

    let mut image = vec![0; blocks as usize * BLOCK];
    put(&mut image, FIRST_DESCRIPTOR + 2, 0, b"\xffCD001\x01");
    for (number, (names, tables, folders)) in (FIRST_DESCRIPTOR..).zip(described) {
        let places = Places { folders, files: places.clone(), rests: rests.clone() };
        put(&mut image, number, 0, &descriptor(label, blocks, names, tables, places.folders[0]));
        let little = path_table(&tree, names, &places, u32::to_le_bytes, u16::to_le_bytes);
        put(&mut image, tables[0].block, 0, &little);
        let big = path_table(&tree, names, &places, u32::to_be_bytes, u16::to_be_bytes);
        put(&mut image, tables[1].block, 0, &big);
        for (number, place) in places.folders.iter().enumerate() {
            put(&mut image, place.block, 0, &directory(&tree, number, names, &places));
        }
    }
    for entry in tree.folders.iter().flat_map(|folder| &folder.entries) {
        if let (Some(rest), Some((block, offset))) = (name_rest(&entry.name), rests.get(&entry.item)) {
            put(&mut image, *block, *offset as usize, &rest);
        }
    }
    for (place, content) in places.iter().zip(files.values()) {
        put(&mut image, place.block, 0, content);
    }
    image
}

/// Gives out blocks, one after another.
struct Layout {
    next: u32,
}

impl Layout {
    fn take(&mut self, bytes: usize) -> Place {
        let place = Place { block: self.next, bytes: bytes as u32 };
        self.next += bytes.div_ceil(BLOCK) as u32;
        place
    }

    /// Places for the rests of long names: many share a block, and none is in two.
    fn rests(&mut self, tree: &Tree) -> BTreeMap<Item, (u32, u32)> {
        let mut rests = BTreeMap::new();
        let (mut block, mut used) = (0, BLOCK);
        for entry in tree.folders.iter().flat_map(|folder| &folder.entries) {
            let Some(rest) = name_rest(&entry.name) else { continue };
            if used + rest.len() > BLOCK {
                (block, used) = (self.take(BLOCK).block, 0);
            }
            rests.insert(entry.item, (block, used as u32));
            used += rest.len();
        }
        rests
    }
}

fn put(image: &mut [u8], block: u32, offset: usize, bytes: &[u8]) {
    let start = block as usize * BLOCK + offset;
    image[start..start + bytes.len()].copy_from_slice(bytes);
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A number in both byte orders, as the standard likes them.
fn both_u32(number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn both_u16(number: u16) -> [u8; 4] {
    let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}

/// A volume descriptor, primary or Joliet's supplementary one.
fn descriptor(label: &str, blocks: u32, names: Names, tables: [Place; 2], root: Place) -> Vec<u8> {
    let joliet = names == Names::Joliet;
    let text = |text: &str, bytes: usize| {
        let (mut field, pad) = if joliet { (utf16(text), utf16(" ")) } else { (text.into(), b" ".to_vec()) };
        while field.len() + pad.len() <= bytes {
            field.extend(&pad);
        }
        field.resize(bytes, 0);
        field
    };
    let mut d = Vec::with_capacity(BLOCK);
    d.push(if joliet { 2 } else { 1 });
    d.extend(b"CD001\x01\x00");
    d.extend(text("", 32)); // system
    d.extend(text(label, 32));
    d.extend([0; 8]);
    d.extend(both_u32(blocks));
    let mut escapes = [0; 32];
    if joliet {
        escapes[..3].copy_from_slice(b"%/E"); // UCS-2 level 3
    }
    d.extend(escapes);
    d.extend(both_u16(1)); // volumes in the set
    d.extend(both_u16(1)); // number of this one
    d.extend(both_u16(BLOCK as u16));
    d.extend(both_u32(tables[0].bytes));
    d.extend(tables[0].block.to_le_bytes());
    d.extend([0; 4]);
    d.extend(tables[1].block.to_be_bytes());
    d.extend([0; 4]);
    d.extend(record(&[0], root, true, &[]));
    d.extend(text("", 128)); // volume set
    d.extend(text("", 128)); // publisher
    d.extend(text("", 128)); // preparer
    d.extend(text("SHEAF", 128)); // application
    d.extend(text("", 37)); // copyright file
    d.extend(text("", 37)); // abstract file
    d.extend(text("", 37)); // bibliographic file
    d.extend(VOLUME_DATE); // made
    d.extend(VOLUME_DATE); // changed
    d.extend(b"0000000000000000\0"); // expires: never
    d.extend(b"0000000000000000\0"); // effective: at once
    d.push(1); // version of the structure
    d
}

/// Every folder with the number of its parent, in one byte order.
fn path_table(
    tree: &Tree,
    names: Names,
    places: &Places,
    order_u32: fn(u32) -> [u8; 4],
    order_u16: fn(u16) -> [u8; 2],
) -> Vec<u8> {
    let mut table = Vec::new();
    for (number, folder) in tree.folders.iter().enumerate() {
        let name = match (number, names) {
            (0, _) => vec![0],
            (_, Names::Plain) => plain_name(Item::Folder(number)),
            (_, Names::Joliet) => folder.joliet.clone(),
        };
        table.extend([name.len() as u8, 0]);
        table.extend(order_u32(places.folders.get(number).map_or(0, |place| place.block)));
        table.extend(order_u16(folder.parent as u16 + 1));
        table.extend(&name);
        table.resize(table.len().next_multiple_of(2), 0);
    }
    table
}

#[cfg(test)]
mod tests;
