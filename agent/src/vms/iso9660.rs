//! Makes a small ISO 9660 image in memory: a flat folder of files, with their real names in Joliet.
//!
//! Why here: a cloud-init seed is three files of some kilobytes, read as a disk or as a CD; that needs neither a
//! program on the node nor a process per VM. Linux and Windows read Joliet names; the plain ISO names are `F0.;1`.
//! Route in: a volume label and files. Route out: the bytes of the image.

/// Bytes of a block, as the standard has it.
const BLOCK: usize = 2048;

/// First block of a volume descriptor: 16 blocks are left to the system.
const FIRST_DESCRIPTOR: u32 = 16;

// Blocks after the descriptors: primary, Joliet, end.
const PATHS_LITTLE: u32 = 19;
const PATHS_BIG: u32 = 20;
const JOLIET_PATHS_LITTLE: u32 = 21;
const JOLIET_PATHS_BIG: u32 = 22;
const ROOT: u32 = 23;
const JOLIET_ROOT: u32 = 24;
const FIRST_FILE: u32 = 25;

/// Blocks of zeros after the last file, as mkisofs adds: CD drivers read ahead, and probes for labels (busybox) give up
/// on a volume shorter than the 68 KiB in which other file systems keep theirs.
const PADDING: u32 = 150;

/// Bytes of a path table that holds the root alone.
const PATHS_BYTES: u32 = 10;

/// 2026-01-01T00:00:00Z in a directory record: a fixed date, so that equal files give equal images.
const RECORD_DATE: [u8; 7] = [126, 1, 1, 0, 0, 0, 0];

/// The same in a volume descriptor.
const VOLUME_DATE: &[u8; 17] = b"2026010100000000\0";

/// An image labelled `label` (at most 16 characters) with `files`, few enough for one block of directory.
pub fn image(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut next = FIRST_FILE;
    let mut places = Vec::with_capacity(files.len());
    for (_name, content) in files {
        places.push((next, content.len() as u32));
        next += content.len().div_ceil(BLOCK) as u32;
    }
    let blocks = next + PADDING;
    let mut image = vec![0; blocks as usize * BLOCK];

    put(&mut image, FIRST_DESCRIPTOR, &descriptor(label, blocks, false));
    put(&mut image, FIRST_DESCRIPTOR + 1, &descriptor(label, blocks, true));
    put(&mut image, FIRST_DESCRIPTOR + 2, b"\xffCD001\x01");
    put(&mut image, PATHS_LITTLE, &path_table(&ROOT.to_le_bytes(), &1_u16.to_le_bytes()));
    put(&mut image, PATHS_BIG, &path_table(&ROOT.to_be_bytes(), &1_u16.to_be_bytes()));
    put(&mut image, JOLIET_PATHS_LITTLE, &path_table(&JOLIET_ROOT.to_le_bytes(), &1_u16.to_le_bytes()));
    put(&mut image, JOLIET_PATHS_BIG, &path_table(&JOLIET_ROOT.to_be_bytes(), &1_u16.to_be_bytes()));

    let plain = places.iter().enumerate().map(|(n, place)| (format!("F{n}.;1").into_bytes(), *place));
    put(&mut image, ROOT, &directory(ROOT, plain));
    // A directory is sorted by name.
    let mut joliet: Vec<_> =
        files.iter().zip(&places).map(|((name, _), place)| (utf16(name), *place)).collect();
    joliet.sort();
    put(&mut image, JOLIET_ROOT, &directory(JOLIET_ROOT, joliet.into_iter()));
    for ((_name, content), (block, _bytes)) in files.iter().zip(&places) {
        put(&mut image, *block, content);
    }
    image
}

fn put(image: &mut [u8], block: u32, bytes: &[u8]) {
    let start = block as usize * BLOCK;
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
fn descriptor(label: &str, blocks: u32, joliet: bool) -> Vec<u8> {
    let text = |text: &str, bytes: usize| {
        let (mut field, pad) = if joliet { (utf16(text), utf16(" ")) } else { (text.into(), b" ".to_vec()) };
        while field.len() + pad.len() <= bytes {
            field.extend(&pad);
        }
        field.resize(bytes, 0);
        field
    };
    let (paths_little, paths_big, root) = match joliet {
        false => (PATHS_LITTLE, PATHS_BIG, ROOT),
        true => (JOLIET_PATHS_LITTLE, JOLIET_PATHS_BIG, JOLIET_ROOT),
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
    d.extend(both_u32(PATHS_BYTES));
    d.extend(paths_little.to_le_bytes());
    d.extend([0; 4]);
    d.extend(paths_big.to_be_bytes());
    d.extend([0; 4]);
    d.extend(record(&[0], root, BLOCK as u32, true));
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

fn path_table(root: &[u8; 4], parent: &[u8; 2]) -> Vec<u8> {
    [&[1, 0], root.as_slice(), parent, &[0, 0]].concat()
}

/// A directory of itself, its parent (itself: it is the root) and `files`.
fn directory(block: u32, files: impl Iterator<Item = (Vec<u8>, (u32, u32))>) -> Vec<u8> {
    let mut records = record(&[0], block, BLOCK as u32, true);
    records.extend(record(&[1], block, BLOCK as u32, true));
    for (name, (block, bytes)) in files {
        records.extend(record(&name, block, bytes, false));
    }
    records
}

fn record(name: &[u8], block: u32, bytes: u32, is_directory: bool) -> Vec<u8> {
    let length = (33 + name.len()).next_multiple_of(2);
    let mut r = vec![length as u8, 0];
    r.extend(both_u32(block));
    r.extend(both_u32(bytes));
    r.extend(RECORD_DATE);
    r.push(if is_directory { 2 } else { 0 });
    r.extend([0, 0]); // not interleaved
    r.extend(both_u16(1)); // volume
    r.push(name.len() as u8);
    r.extend(name);
    r.resize(length, 0);
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_and_contents_lie_where_readers_look_for_them() {
        let image = image("cidata", &[("user-data", b"#cloud-config\n"), ("meta-data", &[7; 3000])]);
        assert_eq!(image.len(), (FIRST_FILE + 1 + 2 + PADDING) as usize * BLOCK);
        assert_eq!(&image[0x8001..0x8006], b"CD001");
        assert_eq!(&image[0x8028..0x8030], b"cidata  ");
        assert!(image[FIRST_FILE as usize * BLOCK..].starts_with(b"#cloud-config\n"));
    }

    #[test]
    fn descriptors_have_the_length_up_to_the_field_of_their_version() {
        assert_eq!(descriptor("x", 30, false).len(), 882);
        assert_eq!(descriptor("x", 30, true).len(), 882);
    }

    #[test]
    fn joliet_names_are_sorted_and_whole() {
        let image = image("cidata", &[("user-data", b"u"), ("meta-data", b"m"), ("network-config", b"n")]);
        let root = &image[JOLIET_ROOT as usize * BLOCK..][..BLOCK];
        let position = |name: &str| {
            let name = utf16(name);
            root.windows(name.len()).position(|window| window == name).unwrap()
        };
        assert!(position("meta-data") < position("network-config"));
        assert!(position("network-config") < position("user-data"));
    }
}
