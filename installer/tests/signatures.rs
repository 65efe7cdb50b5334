//! Disks that others use, made by the tools that make them or, where such a tool is not in the tools chroot, by the
//! bytes that its documentation gives: each is refused without its serial, for the reason that stands below, and not one
//! byte of it is changed.

mod common;

use common::{ID, InTools, Release, SIZE, config, disk, machine, sha256};
use sheaf_host::block::{self, Device};
use sheaf_host::run::{Command, Run};
use sheaf_installer::inventory::Signature;
use sheaf_installer::plan::{ReleaseContents, plan};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Bytes of each image: enough for every format's own minimum.
const IMAGE: u64 = 128 << 20;

/// How a disk comes to its contents.
enum Made {
    /// By a program; `DISK` stands for the image.
    By(&'static [&'static str]),
    /// By bytes at places.
    With(Vec<(u64, Vec<u8>)>),
}

/// The disk `name`: every kind that wipefs finds on it.
fn is_refused(name: &str, made: Made, kinds: &[&str]) {
    let release = Release::new();
    let image = release.dir.path().join(format!("{name}.raw"));
    let tools = InTools::new(release.dir.path());
    let file = fs::File::create_new(&image).unwrap();
    file.set_len(IMAGE).unwrap();
    match made {
        Made::By(words) => {
            let [program, args @ ..] = words else { unreachable!() };
            let path = image.display().to_string();
            let args = args.iter().map(|arg| arg.replace("DISK", &path));
            tools.run(&Command::new(program).args(args)).unwrap_or_else(|error| panic!("{error}"));
        }
        Made::With(pieces) => {
            pieces.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
        }
    }
    let before = sha256(&fs::read(&image).unwrap());
    let found = signatures(&tools, image.clone());
    let mut found_kinds: Vec<_> = found.iter().map(|found| found.kind.as_str()).collect();
    found_kinds.dedup();
    assert_eq!(found_kinds, kinds, "{name}");

    let mut machine = machine();
    machine.disks = vec![disk("vda", "A")];
    machine.disks[0].signatures =
        found.into_iter().map(|found| Signature { device: "/dev/vda".into(), ..found }).collect();
    let contents = ReleaseContents { manifest: &release.manifest, images: &release.images };
    let refused = plan(&config(""), &machine, contents, ID).unwrap_err().to_string();
    let has: Vec<_> = kinds.iter().map(|kind| format!("{kind} on /dev/vda")).collect();
    assert_eq!(
        refused,
        format!(
            "/dev/vda: holds data ({}); if that may be lost, write wipe = \"A\" in [install]",
            has.join(", ")
        )
    );
    assert_eq!(sha256(&fs::read(&image).unwrap()), before, "{name}: looking at it changed it");
    // With its serial every place of every signature is erased.
    let plan = plan(&config("wipe = \"A\"\n"), &machine, contents, ID).unwrap();
    assert_eq!(plan.disk.erased, has);
    assert_eq!(plan.disk.size, SIZE);
}

fn signatures(tools: &InTools, image: PathBuf) -> Vec<Signature> {
    let device = Device { path: image, kind: "disk".into(), ..Device::default() };
    let found = block::signatures(tools, &device).unwrap_or_else(|error| panic!("{error}"));
    found.into_iter().map(|s| Signature { device: s.device, offset: s.offset, kind: s.kind }).collect()
}

#[test]
fn file_systems_are_refused() {
    is_refused("ext4", Made::By(&["mkfs.ext4", "-q", "-F", "DISK"]), &["ext4"]);
    is_refused("fat", Made::By(&["mkfs.vfat", "-F", "32", "DISK"]), &["vfat"]);
    is_refused("swap", Made::By(&["mkswap", "DISK"]), &["swap"]);
}

#[test]
fn a_file_system_of_which_only_the_superblock_is_known_is_refused() {
    // XFS: magic, block size 4096, sector size 512, as its on-disk format document gives them.
    let mut xfs = vec![0; 512];
    xfs[0..4].copy_from_slice(b"XFSB");
    xfs[4..8].copy_from_slice(&4096u32.to_be_bytes());
    xfs[8..16].copy_from_slice(&32768u64.to_be_bytes()); // blocks
    xfs[80..84].copy_from_slice(&1u32.to_be_bytes()); // blocks of a real-time extent
    xfs[84..88].copy_from_slice(&8192u32.to_be_bytes()); // blocks of an allocation group
    xfs[88..92].copy_from_slice(&4u32.to_be_bytes()); // allocation groups
    xfs[96..100].copy_from_slice(&1024u32.to_be_bytes()); // blocks of the log
    xfs[100..102].copy_from_slice(&4u16.to_be_bytes()); // version
    xfs[102..104].copy_from_slice(&512u16.to_be_bytes()); // sector size
    xfs[104..106].copy_from_slice(&512u16.to_be_bytes()); // inode size
    xfs[106..108].copy_from_slice(&8u16.to_be_bytes()); // inodes of a block
    (xfs[120], xfs[121], xfs[122], xfs[123], xfs[124], xfs[127]) = (12, 9, 9, 3, 13, 25);
    is_refused("xfs", Made::With(vec![(0, xfs)]), &["xfs"]);
}

#[test]
fn a_luks_container_is_refused() {
    let format =
        ["cryptsetup", "luksFormat", "--batch-mode", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];
    let [program, args @ ..] = &format;
    let key = ["--key-file=/etc/debian_version", "DISK"];
    let words: Vec<&'static str> = [program].into_iter().chain(args).chain(&key).copied().collect();
    is_refused("luks", Made::By(Box::leak(words.into_boxed_slice())), &["crypto_LUKS"]);
}

#[test]
fn foreign_partition_tables_are_refused() {
    is_refused("gpt", Made::By(&["sgdisk", "--new=1:0:0", "DISK"]), &["gpt", "PMBR"]);
    // An MBR with one partition of Linux: boot flag, type, first sector and length, at their places of 1983.
    let mut mbr = vec![0; 512];
    mbr[446 + 4] = 0x83;
    mbr[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    mbr[446 + 12..446 + 16].copy_from_slice(&100_000u32.to_le_bytes());
    mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
    is_refused("mbr", Made::With(vec![(0, mbr)]), &["dos"]);
}

/// CRC-32 as LVM computes it: no inversion, its own start value.
fn lvm_crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[test]
fn a_physical_volume_of_lvm_is_refused() {
    // Label in the second sector: LABELONE, sector number, checksum of the rest, offset of the contents, type, UUID.
    let mut label = vec![0; 512];
    label[0..8].copy_from_slice(b"LABELONE");
    label[8..16].copy_from_slice(&1u64.to_le_bytes());
    label[20..24].copy_from_slice(&32u32.to_le_bytes());
    label[24..32].copy_from_slice(b"LVM2 001");
    label[32..64].copy_from_slice(b"0123456789abcdefghijABCDEFGHIJ01");
    let crc = lvm_crc(&label[20..]);
    label[16..20].copy_from_slice(&crc.to_le_bytes());
    is_refused("lvm", Made::With(vec![(512, label)]), &["LVM2_member"]);
}

#[test]
fn a_member_of_a_linux_raid_is_refused() {
    // Superblock 1.2 at 4096: magic, version, UUID, level, size, devices, its own place; checksum as md computes it.
    let mut block = vec![0; 256];
    block[0..4].copy_from_slice(&0xa92b_4efcu32.to_le_bytes());
    block[4..8].copy_from_slice(&1u32.to_le_bytes());
    block[16..32].copy_from_slice(ID.as_bytes());
    block[72..76].copy_from_slice(&1u32.to_le_bytes()); // level
    block[80..88].copy_from_slice(&200_000u64.to_le_bytes()); // sectors
    block[92..96].copy_from_slice(&2u32.to_le_bytes()); // devices
    block[128..136].copy_from_slice(&2048u64.to_le_bytes()); // data offset
    block[136..144].copy_from_slice(&200_000u64.to_le_bytes()); // data size
    block[144..152].copy_from_slice(&8u64.to_le_bytes()); // superblock's sector
    let sum: u64 =
        block.chunks_exact(4).map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap()))).sum();
    let sum = (sum as u32).wrapping_add((sum >> 32) as u32);
    block[216..220].copy_from_slice(&sum.to_le_bytes());
    is_refused("md", Made::With(vec![(4096, block)]), &["linux_raid_member"]);
}

#[test]
fn a_disk_of_a_zfs_pool_is_refused() {
    // Four labels of 256 KiB, two at each end; 16 KiB into each a list of names and values in XDR, 112 KiB long.
    let mut list = vec![1, 1, 0, 0];
    let number = |list: &mut Vec<u8>, value: u32| list.extend(value.to_be_bytes());
    number(&mut list, 0); // version of the list
    number(&mut list, 1); // its names are unique
    let mut pair = |name: &str, kind: u32, value: &[u8]| {
        let padded = name.len().next_multiple_of(4);
        number(&mut list, (20 + padded + value.len()) as u32);
        number(&mut list, 64); // its size in memory
        number(&mut list, name.len() as u32);
        list.extend(name.bytes().chain(std::iter::repeat_n(0, padded - name.len())));
        number(&mut list, kind);
        number(&mut list, 1);
        list.extend(value);
    };
    pair("version", 8, &5000u64.to_be_bytes());
    pair("name", 9, b"\0\0\0\x04tank");
    pair("state", 8, &0u64.to_be_bytes());
    pair("txg", 8, &4u64.to_be_bytes());
    pair("pool_guid", 8, &0x1234_5678_9abc_def0u64.to_be_bytes());
    pair("top_guid", 8, &0x2234_5678_9abc_def0u64.to_be_bytes());
    pair("guid", 8, &0x2234_5678_9abc_def0u64.to_be_bytes());
    list.extend([0; 8]);
    let labels = [0, 256 << 10, IMAGE - (512 << 10), IMAGE - (256 << 10)];
    let labels = labels.map(|start| (start + (16 << 10), list.clone())).to_vec();
    is_refused("zfs", Made::With(labels), &["zfs_member"]);
}

#[test]
fn a_disk_of_ceph_is_refused() {
    let label = b"bluestore block device\n6b1f7a3e-93c2-4d55-8f10-0123456789ff\n".to_vec();
    is_refused("ceph", Made::With(vec![(0, label)]), &["ceph_bluestore"]);
}

#[test]
fn a_disk_of_bcache_is_refused() {
    // Superblock at 4096: checksum, its own sector, version, magic.
    let mut block = vec![0; 512];
    block[8..16].copy_from_slice(&8u64.to_le_bytes());
    block[24..40].copy_from_slice(&[
        0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
    ]);
    block[40..56].copy_from_slice(ID.as_bytes());
    is_refused("bcache", Made::With(vec![(4096, block)]), &["bcache"]);
}
