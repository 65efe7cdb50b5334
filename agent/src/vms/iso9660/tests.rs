//! Images are read as Linux and Windows read them.

use super::*;
use proptest::prelude::*;

fn of(files: &[(&str, &[u8])]) -> Vec<u8> {
    image("cidata", &files.iter().map(|(path, content)| ((*path).into(), content.to_vec())).collect())
}

/// Where `text` is.
fn find(image: &[u8], text: &[u8]) -> usize {
    image.windows(text.len()).position(|window| window == text).unwrap()
}

#[test]
fn label_and_contents_lie_where_readers_look_for_them() {
    let image = of(&[("user-data", b"#cloud-config\n"), ("meta-data", &[7; 3000])]);
    // Four path tables, two folders, three blocks of files.
    assert_eq!(image.len(), (FIRST_FREE + 4 + 2 + 3 + PADDING) as usize * BLOCK);
    assert_eq!(&image[0x8001..0x8006], b"CD001");
    assert_eq!(&image[0x8028..0x8030], b"cidata  ");
    assert_eq!(find(&image, b"#cloud-config\n") % BLOCK, 0);
}

#[test]
fn descriptors_have_the_length_up_to_the_field_of_their_version() {
    for names in [Names::Plain, Names::Joliet] {
        assert_eq!(descriptor("x", 30, names, [Place::default(); 2], Place::default()).len(), 882);
    }
    let longest = "L".repeat(32);
    assert_eq!(descriptor(&longest, 30, Names::Joliet, [Place::default(); 2], Place::default()).len(), 882);
}

#[test]
fn joliet_names_are_sorted_and_whole() {
    let image = of(&[("user-data", b"u"), ("meta-data", b"m"), ("network-config", b"n")]);
    let position = |name: &str| find(&image, &utf16(name));
    assert!(position("meta-data") < position("network-config"));
    assert!(position("network-config") < position("user-data"));
}

#[test]
fn a_name_of_253_characters_is_whole_for_linux_in_two_parts() {
    let name: String = (0..253_usize).map(|n| char::from(b'a' + (n * n / 7 % 26) as u8)).collect();
    let image = of(&[(&name, b"x"), ("short", b"y")]);
    let start = find(&image, &name.as_bytes()[..143]);
    // The rest is at the start of the next free block, after its five bytes of header.
    let rest = find(&image, &name.as_bytes()[143..]);
    assert_eq!(&image[start - 5..start - 2], [b'N', b'M', 148]);
    assert_eq!(rest % BLOCK, 5);
    assert_eq!(&image[rest - 5..rest], [b'N', b'M', 115, 1, 0]);
}

#[test]
fn a_folder_of_many_files_has_as_many_blocks_as_it_needs_and_no_record_is_in_two() {
    let files: BTreeMap<String, Vec<u8>> =
        (0..500).map(|n| (format!("folder/{n:03}-{}", "k".repeat(60)), vec![1])).collect();
    let tree = Tree::of(files.keys());
    for names in [Names::Plain, Names::Joliet] {
        let records = directory(&tree, 1, names, &Places::default());
        let mut at = 0;
        let mut count = 0;
        while at < records.len() {
            let length = usize::from(records[at]);
            if length == 0 {
                at = at.next_multiple_of(BLOCK);
                continue;
            }
            assert_eq!(at / BLOCK, (at + length - 1) / BLOCK);
            (at, count) = (at + length, count + 1);
        }
        assert_eq!(count, 502);
    }
    assert_eq!(image("x", &files).len() % BLOCK, 0);
}

/// The files of an image by their paths, as a reader of `names` finds them.
fn read(image: &[u8], names: Names) -> BTreeMap<String, Vec<u8>> {
    let number = FIRST_DESCRIPTOR + u32::from(names == Names::Joliet);
    let root = &image[number as usize * BLOCK + 156..];
    let mut files = BTreeMap::new();
    walk(image, names, extent(root), "", &mut files);
    files
}

fn word(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
}

/// What a record is about.
fn extent(record: &[u8]) -> (usize, usize) {
    (word(&record[2..]) * BLOCK, word(&record[10..]))
}

fn walk(
    image: &[u8],
    names: Names,
    (start, bytes): (usize, usize),
    folder: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) {
    let mut at = start;
    let mut number = 0;
    while at < start + bytes {
        let length = usize::from(image[at]);
        if length == 0 {
            at = (at + 1).next_multiple_of(BLOCK);
            continue;
        }
        let record = &image[at..at + length];
        (at, number) = (at + length, number + 1);
        if number <= 2 {
            continue; // the folder itself and its parent
        }
        let name = &record[33..33 + usize::from(record[32])];
        let name = match names {
            Names::Joliet => {
                let units: Vec<u16> =
                    name.chunks(2).map(|unit| u16::from_be_bytes(unit.try_into().unwrap())).collect();
                String::from_utf16(&units).unwrap()
            }
            Names::Plain => rock_ridge(image, &record[(33 + name.len()).next_multiple_of(2)..]),
        };
        let path = format!("{folder}{name}");
        let (start, bytes) = extent(record);
        match record[25] & 2 {
            0 => drop(files.insert(path, image[start..start + bytes].to_vec())),
            _ => walk(image, names, (start, bytes), &format!("{path}/"), files),
        }
    }
}

/// The name in fields of Rock Ridge.
fn rock_ridge(image: &[u8], mut fields: &[u8]) -> String {
    let (mut name, mut rest) = (String::new(), None);
    while fields.len() > 4 {
        let (field, after) = fields.split_at(usize::from(fields[2]));
        match &field[..2] {
            b"NM" => name.push_str(std::str::from_utf8(&field[5..]).unwrap()),
            b"CE" => {
                let start = word(&field[4..]) * BLOCK + word(&field[12..]);
                rest = Some(&image[start..start + word(&field[20..])]);
            }
            _ => {}
        }
        fields = after;
    }
    rest.map_or(name.clone(), |rest| name + &rock_ridge(image, rest))
}

proptest! {
    #[test]
    fn whatever_the_names_are_linux_reads_all_and_windows_all_that_are_short_enough(
        paths in proptest::collection::vec("([a-z]{1,3}/){0,2}[a-zA-Z0-9_-]{1,12}|[a-z]/[a-z.]{90,253}", 0..60),
        long in "[a-z]{253}",
    ) {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (number, path) in paths.into_iter().chain([long]).enumerate() {
            let is_folder_of = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            if files.keys().all(|other| !is_folder_of(other, &path) && !is_folder_of(&path, other)) {
                files.insert(path, vec![7; number * 100]);
            }
        }
        let image = image("cfgdata", &files);
        prop_assert_eq!(&read(&image, Names::Plain), &files);
        let joliet = read(&image, Names::Joliet);
        prop_assert_eq!(joliet.len(), files.len());
        let is_short = |path: &&String| path.split('/').all(|name| name.len() <= 103);
        for path in files.keys().filter(is_short) {
            prop_assert_eq!(joliet.get(path), files.get(path));
        }
    }
}
