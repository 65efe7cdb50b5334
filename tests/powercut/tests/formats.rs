//! File systems and tables that are damaged, as the model reads them: each by what is wrong with it.

mod lab;

use gptman::{GPT, GPTPartitionEntry};
use lab::volume::{SECTOR, SECTORS, Volume};
use lab::{disk, recorded};
use sheaf_powercut::content::{Contents, Known};
use sheaf_powercut::model::fat::Fat;
use sheaf_powercut::model::gpt;
use std::io::Cursor;

/// First sector of the file system.
const FIRST: u64 = 8;
const UKI: &str = "EFI/Linux/sheaf_0.1.0.efi";

/// A file system with one file of 1300 bytes, and the sectors that it is written by.
fn volume() -> Vec<(u64, Vec<u8>)> {
    let mut volume = Volume::format(FIRST);
    volume.folder("EFI");
    volume.folder("EFI/Linux");
    volume.create(UKI, &contents());
    volume.data().into_iter().chain(volume.folders()).collect()
}

fn contents() -> Vec<u8> {
    (0..1300).map(|at| (at % 251) as u8).collect()
}

/// What the model says of the file when `writes` are on the disk: the names in its folder, and how it compares.
fn read(writes: &[(u64, Vec<u8>)], known: &[u8]) -> Result<(Vec<String>, Result<(), String>), String> {
    let (_folder, logs) = recorded(writes);
    let disk = disk(&logs, (FIRST + SECTORS) * SECTOR as u64);
    let found = Contents::default();
    let fat = Fat::open(&disk, &found, FIRST, SECTORS).unwrap()?;
    let names = fat.folder("efi/LINUX").unwrap()?.into_iter().map(|file| file.name);
    let names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    let file = fat.file(&format!("EFI/Linux/{}", names[0])).unwrap()?.unwrap();
    Ok((names, fat.compare(&file, &Known::new(known.to_vec())).unwrap()))
}

/// The writes, with a byte of what they leave changed.
fn with(sector: u64, at: usize, byte: u8) -> Vec<(u64, Vec<u8>)> {
    let mut writes = volume();
    let is_in = |first: u64, bytes: &[u8]| (first..first + (bytes.len() / SECTOR) as u64).contains(&sector);
    let (first, bytes) = writes.iter_mut().find(|(first, bytes)| is_in(*first, bytes)).unwrap();
    bytes[(sector - *first) as usize * SECTOR + at] = byte;
    writes
}

/// Sector of cluster `number`.
fn cluster(number: u64) -> u64 {
    FIRST + SECTORS - 66_000 - padding() + number - 2
}

/// Sectors by which the file system is longer than it needs.
fn padding() -> u64 {
    SECTORS - (32 + 2 * (66_002_u64 * 4).div_ceil(512) + 66_000)
}

#[test]
fn a_file_is_found_under_its_long_name_in_any_case_and_compared_byte_by_byte() {
    let name = vec!["sheaf_0.1.0.efi".to_owned()];
    assert_eq!(read(&volume(), &contents()), Ok((name.clone(), Ok(()))));
    let mut other = contents();
    other[600] ^= 1;
    assert_eq!(read(&volume(), &other), Ok((name.clone(), Err("it differs from byte 512 on".into()))));
    let mut other = contents();
    other[1299] ^= 1;
    assert_eq!(read(&volume(), &other), Ok((name.clone(), Err("it differs from byte 1024 on".into()))));
    let short = &contents()[..1000];
    assert_eq!(read(&volume(), short), Ok((name, Err("it has 1300 bytes instead of 1000".into()))));
}

#[test]
fn a_long_name_that_is_not_of_its_short_one_is_none() {
    // EFI/Linux is cluster 4; its third entry is the first part of the long name, whose byte 13 is the sum.
    let (names, _) = read(&with(cluster(4), 2 * 32 + 13, 0), &contents()).unwrap();
    assert_eq!(names, ["SHEAF0~3.EFI"]);
}

#[test]
fn a_chain_of_clusters_that_ends_or_leads_nowhere_is_named() {
    // The file is clusters 5 to 7; its second entry in the FAT.
    let of_5 = |byte: u8| with(FIRST + 32, 5 * 4, byte);
    let compared = |writes: &[(u64, Vec<u8>)]| read(writes, &contents()).unwrap().1.unwrap_err();
    assert_eq!(compared(&of_5(0)), "its chain of clusters leads to 0 after 1");
    let mut writes = of_5(0);
    let (_, fat) = writes.iter_mut().find(|(first, _)| *first == FIRST + 32).unwrap();
    fat[20..24].copy_from_slice(&0x0fff_ffff_u32.to_le_bytes());
    assert_eq!(compared(&writes), "1 of its 3 clusters are there");
}

#[test]
fn what_is_not_a_fat32_is_refused() {
    let refusal = |writes: &[(u64, Vec<u8>)]| read(writes, &contents()).unwrap_err();
    assert_eq!(refusal(&with(FIRST, 510, 0)), "its first sector is not that of a FAT");
    assert_eq!(refusal(&with(FIRST, 13, 3)), "its sizes contradict each other");
    assert_eq!(refusal(&with(FIRST, 13, 2)), "it has 33000 clusters, which is not a FAT32");
}

/// A table of one partition on a disk of 1 MiB.
fn table() -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; 1 << 20]);
    let mut gpt = GPT::new_from(&mut disk, SECTOR as u64, [7; 16]).unwrap();
    gpt[1] = GPTPartitionEntry {
        partition_type_guid: [1; 16],
        unique_partition_guid: [2; 16],
        starting_lba: 40,
        ending_lba: 99,
        attribute_bits: 0,
        partition_name: "esp".into(),
    };
    gpt.write_into(&mut disk).unwrap();
    GPT::write_protective_mbr_into(&mut disk, SECTOR as u64).unwrap();
    disk.into_inner()
}

fn tables(bytes: &[u8]) -> gpt::Tables {
    let (_folder, logs) = recorded(&[(0, bytes.to_vec())]);
    gpt::read(&disk(&logs, bytes.len() as u64)).unwrap()
}

#[test]
fn both_copies_of_a_table_are_read() {
    let tables = tables(&table());
    assert!(tables.is_protected);
    let esp = tables.primary.as_ref().unwrap().named("esp").unwrap().clone();
    assert_eq!((esp.number, esp.first, esp.sectors, esp.kind), (1, 40, 60, [1; 16]));
    assert_eq!(tables.primary, tables.backup);
    assert_eq!(tables.unchecked.unwrap().0, [esp]);
}

#[test]
fn what_is_wrong_with_a_table_is_named_and_grub_looks_at_no_checksum() {
    for (at, why) in [
        (512, "there is no header in sector 1"),
        (512 + 13, "its header has 65372 bytes"),
        (512 + 40, "the checksum of its header does not match"),
        (1024 + 32, "the checksum of its entries does not match"),
    ] {
        let mut bytes = table();
        bytes[at] ^= 0xff;
        let tables = tables(&bytes);
        assert_eq!(tables.primary, Err(why.into()));
        assert!(tables.backup.is_ok());
        assert_eq!(tables.unchecked.is_some(), at != 512, "{why}");
    }
    let mut bytes = table();
    bytes.copy_within((1 << 20) - 512.., 512);
    assert_eq!(tables(&bytes).primary, Err("its header is of another sector".into()));
}

#[test]
fn an_mbr_protects_a_table_by_the_type_and_the_place_of_its_partition() {
    assert!(tables(&table()).is_protected);
    for at in [446, 446 + 4, 446 + 8, 510] {
        let mut bytes = table();
        bytes[at] ^= 0x10;
        assert!(!tables(&bytes).is_protected, "byte {at}");
    }
}
