//! A release folder as `sheaf build` leaves it, read; and what is wrong with one that is not.

use sheaf_config::manifest::{Bios, Compressed, FILE, FORMAT, Frame, Manifest, Plain, Section, Uki};
use sheaf_powercut::content::digest;
use sheaf_powercut::release::{BLOCK, CODE, Release};
use std::fs;
use std::path::Path;

fn plain(name: &str) -> Plain {
    Plain { file: name.into(), size: 1, sha256: String::new() }
}

/// An image of `length` bytes in frames of two blocks.
fn image(folder: &Path, name: &str, length: usize) -> Compressed {
    let raw: Vec<u8> = (0..length).map(|at| (at / BLOCK + 1) as u8).collect();
    let packed: Vec<Vec<u8>> =
        raw.chunks(2 * BLOCK).map(|raw| zstd::bulk::compress(raw, 1).unwrap()).collect();
    fs::write(folder.join(name), packed.concat()).unwrap();
    let frames = packed.iter().map(|bytes| Frame {
        size: bytes.len() as u64,
        raw_size: (2 * BLOCK) as u64,
        sha256: String::new(),
    });
    Compressed {
        file: name.into(),
        size: 0,
        raw_size: length as u64,
        raw_sha256: String::new(),
        frames: frames.collect(),
    }
}

fn release() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let uki = |file: &str| Uki {
        file: file.into(),
        size: 4,
        sha256: String::new(),
        linux: Section { offset: 512, size: 512 },
        initrd: Section { offset: 1024, size: 512 },
        command_line: "roothash=00".into(),
    };
    for (name, length) in [
        ("node.efi", 4),
        ("loader.efi", 5),
        ("boot.img", 512),
        ("core.img", 1100),
        ("menu", 6),
        ("installer.efi", 7),
    ] {
        fs::write(at.join(name), vec![length as u8; length]).unwrap();
    }
    let manifest = Manifest {
        format: FORMAT,
        name: "sheaf".into(),
        version: "0.3.0".into(),
        kernel: String::new(),
        arch: "amd64".into(),
        created: 0,
        root: image(at, "root.zst", 5 * BLOCK),
        verity: image(at, "verity.zst", BLOCK + 100),
        root_hash: String::new(),
        root_uuid: String::new(),
        verity_uuid: String::new(),
        node_uki: uki("node.efi"),
        boot_loader: plain("loader.efi"),
        bios: Bios { boot: plain("boot.img"), core: plain("core.img"), menu: plain("menu") },
        installer_uki: uki("installer.efi"),
        documents: Vec::new(),
        terms: sheaf_config::manifest::Terms::default(),
    };
    fs::write(at.join(FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
    folder
}

#[test]
fn images_are_decoded_block_by_block_and_files_are_read_as_they_are() {
    let folder = release();
    let release = Release::read(folder.path(), &["quiet".into()]).unwrap();
    assert_eq!((release.version.as_str(), release.uki.bytes()), ("0.3.0", &[4; 4][..]));
    let blocks: Vec<_> = (1..=5).map(|block| digest(&[block; BLOCK])).collect();
    assert_eq!(release.root, blocks);
    // Zeros fill the last block.
    let mut last = [0; BLOCK];
    last[..100].fill(2);
    assert_eq!(release.tree, [digest(&[1; BLOCK]), digest(&last)]);
    let entry = String::from_utf8(release.entry.bytes().to_vec()).unwrap();
    assert!(entry.contains("/EFI/Linux/sheaf_0.3.0+*.efi") && entry.contains("'quiet'"), "{entry}");
}

#[test]
fn grubs_images_are_given_their_places_as_the_installer_gives_them() {
    let folder = release();
    let release = Release::read(folder.path(), &[]).unwrap();
    let code = release.code(2048);
    assert_eq!((code.len(), &code[0x5c..0x64]), (CODE, &[0, 8, 0, 0, 0, 0, 0, 0][..]));
    assert_eq!((code[0x64], &code[0x66..0x68]), (0xff, &[0x90, 0x90][..]));
    let core = release.core(2048);
    assert_eq!((core.len(), &core[0x1f4..0x1fe]), (1100, &[1, 8, 0, 0, 0, 0, 0, 0, 2, 0][..]));
}

#[test]
fn a_folder_that_lacks_something_is_refused_by_the_file() {
    let refusal = |change: fn(&Path)| {
        let folder = release();
        change(folder.path());
        let text = Release::read(folder.path(), &[]).unwrap_err().to_string();
        text.replace(&folder.path().display().to_string(), "release")
    };
    assert_eq!(
        refusal(|at| fs::remove_file(at.join(FILE)).unwrap()),
        "release/manifest.json: cannot be read; build the release again"
    );
    assert_eq!(
        refusal(|at| fs::remove_file(at.join("node.efi")).unwrap()),
        "release/node.efi: cannot be read; build the release again"
    );
    assert_eq!(
        refusal(|at| fs::write(at.join("root.zst"), b"short").unwrap()),
        "release/root.zst: cannot be read; build the release again"
    );
    assert_eq!(
        refusal(|at| fs::write(at.join(FILE), b"{}").unwrap()),
        "release/manifest.json: is not a manifest of a release"
    );
    assert_eq!(
        refusal(|at| fs::write(at.join("boot.img"), [0; 439]).unwrap()),
        "release/boot.img: is not an image of GRUB"
    );
    assert_eq!(
        refusal(|at| fs::write(at.join("core.img"), [0; 512]).unwrap()),
        "release/core.img: is not an image of GRUB"
    );
}
