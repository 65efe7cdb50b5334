//! A small node: a disk with the installer's table, two releases, and what installer and updater do to them.
//!
//! Why re-stated: the rig knows nothing of the programs; these are the orders of installer/src/execute and of
//! agent/src/update/plan.rs, and a test may change them to see that the rig notices. Route in: steps. Route out: a
//! recording of the writes, replayed.

#![allow(dead_code)] // each test file uses a part of it

pub mod volume;

use gptman::{GPT, GPTPartitionEntry};
use sheaf_config::grub;
use sheaf_config::manifest::{Section, Uki};
use sheaf_powercut::content::digests;
use sheaf_powercut::disk::{Disk, Write};
use sheaf_powercut::log::Log;
use sheaf_powercut::log::recorder::Recorder;
use sheaf_powercut::model::Verdict;
use sheaf_powercut::release::{BLOCK, Files, Release};
use sheaf_powercut::replay::{Phase, Recording, Replay};
use sheaf_powercut::report::Report;
use sheaf_release::boot::{self, ENVIRONMENT, Slot};
use std::io::Cursor;
use std::path::PathBuf;
use volume::{SECTOR, Volume};

pub const OLD: &str = "0.1.0";
pub const NEW: &str = "0.1.1";
/// The seed of all tests.
pub const SEED: u64 = 1;

/// Blocks of a root and of a tree.
const ROOT: usize = 24;
const TREE: usize = 2;
/// First sectors of partitions, by number, and the first that is in none.
const BIOS: u64 = 64;
const ESP: u64 = BIOS + 64;
const TREES: u64 = ESP + volume::SECTORS;
const ROOTS: u64 = TREES + 2 * 32;
const STATE: u64 = ROOTS + 2 * 256;
const DISK: u64 = STATE + 64 + 64;

/// Partitions, as the installer names them: first sector, number of sectors, type's first byte.
const PARTITIONS: [(&str, u64, u64, u8); 7] = [
    ("bios", BIOS, 64, 1),
    ("esp", ESP, volume::SECTORS, 2),
    ("verity-a", TREES, 32, 3),
    ("verity-b", TREES + 32, 32, 3),
    ("root-a", ROOTS, 256, 4),
    ("root-b", ROOTS + 256, 256, 4),
    ("state", STATE, 64, 5),
];

fn of_slot(first: u64, sectors: u64, slot: Slot) -> u64 {
    first + if slot == Slot::B { sectors } else { 0 }
}

/// Bytes that differ from sector to sector.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 7 + at / SECTOR * 31) as u8 ^ seed).collect()
}

/// What a release is made of.
pub struct Source {
    pub version: &'static str,
    pub root: Vec<u8>,
    pub tree: Vec<u8>,
    pub uki: Vec<u8>,
    manifest: Uki,
}

impl Source {
    fn new(version: &'static str, seed: u8) -> Self {
        let uki = bytes(2600, seed);
        let manifest = Uki {
            file: "node.efi".into(),
            size: uki.len() as u64,
            sha256: String::new(),
            linux: Section { offset: 512, size: 1024 },
            initrd: Section { offset: 1536, size: 512 },
            command_line: format!("roothash={seed}"),
        };
        // Most of a root stays from one release to the next.
        let mut root = bytes(ROOT * BLOCK, 1);
        for block in [0, 5, 17] {
            root[block * BLOCK..(block + 1) * BLOCK].copy_from_slice(&bytes(BLOCK, seed));
        }
        Self { version, root, tree: bytes(TREE * BLOCK, seed ^ 0x55), uki, manifest }
    }

    fn files(&self) -> Files {
        Files {
            uki: self.uki.clone(),
            loader: bytes(1500, 0x11),
            boot: bytes(512, 0x22),
            core: bytes(2048, 0x33),
            menu: bytes(700, 0x44),
            installer: bytes(2000, 0x66),
        }
    }

    fn release(&self) -> Release {
        let images = (digests(&self.root, BLOCK), digests(&self.tree, BLOCK));
        Release::new(self.version, (&self.manifest, &self.manifest), self.files(), images, &[])
    }

    fn entry(&self) -> Vec<u8> {
        boot::entry(&self.manifest, self.version, &[]).into_bytes()
    }
}

/// The disk and what is recorded of it.
pub struct Lab {
    folder: tempfile::TempDir,
    recorder: Recorder,
    recordings: Vec<Recording>,
    pub esp: Volume,
    pub old: Source,
    pub new: Source,
}

/// One step of an installation, with the flush that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    Erase,
    Root,
    Tree,
    Esp,
    Core,
    Backup,
    Primary,
    Mbr,
}

/// The installer's order.
pub const INSTALL: [Install; 8] = [
    Install::Erase,
    Install::Root,
    Install::Tree,
    Install::Esp,
    Install::Core,
    Install::Backup,
    Install::Primary,
    Install::Mbr,
];

/// One step of an update onto slot B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// GRUB passes over the slot.
    Disarm,
    Tree,
    Root,
    /// GRUB's script of the slot.
    Entry,
    /// The UKI, with three tries.
    Uki,
    /// GRUB's variables.
    Environment,
    /// systemd-boot counts a try.
    FirstBoot,
    /// The UKI loses its counter.
    Bless,
    /// GRUB's variables do.
    BlessEnvironment,
}

/// The updater's order.
pub const UPDATE: [Update; 9] = [
    Update::Disarm,
    Update::Tree,
    Update::Root,
    Update::Entry,
    Update::Uki,
    Update::Environment,
    Update::FirstBoot,
    Update::Bless,
    Update::BlessEnvironment,
];

impl Lab {
    /// A blank disk, and the recording `install` begun.
    pub fn blank() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(&folder.path().join("install.log")).unwrap();
        let recordings = vec![Recording { name: "install".into(), phase: Phase::Installation }];
        let (old, new) = (Source::new(OLD, 0xa0), Source::new(NEW, 0xb1));
        Self { folder, recorder, recordings, esp: Volume::format(ESP), old, new }
    }

    /// An installed disk, and the recording `update` begun.
    pub fn installed() -> Self {
        let mut lab = Self::blank();
        lab.install(&INSTALL);
        lab.begin_update();
        lab
    }

    pub fn begin_update(&mut self) {
        self.recorder = Recorder::create(&self.folder.path().join("update.log")).unwrap();
        self.recordings.push(Recording { name: "update".into(), phase: Phase::Installed });
    }

    pub fn write(&mut self, sector: u64, bytes: &[u8]) {
        self.recorder.write(sector, bytes).unwrap();
    }

    pub fn flush(&mut self) {
        self.recorder.flush().unwrap();
    }

    /// An image in pieces, as a pipeline writes it: the last piece first.
    fn image(&mut self, first: u64, bytes: &[u8]) {
        const PIECE: usize = 3 * BLOCK;
        for (index, piece) in bytes.chunks(PIECE).enumerate().rev() {
            self.write(first + (index * PIECE / SECTOR) as u64, piece);
        }
    }

    pub fn root(&mut self, slot: Slot, bytes: &[u8]) {
        self.image(of_slot(ROOTS, 256, slot), bytes);
    }

    pub fn tree(&mut self, slot: Slot, bytes: &[u8]) {
        self.image(of_slot(TREES, 32, slot), bytes);
    }

    /// Writes out folders and FAT only.
    pub fn write_folders(&mut self) {
        for (sector, bytes) in self.esp.folders() {
            self.write(sector, &bytes);
        }
    }

    /// Writes out contents of files only.
    pub fn write_data(&mut self) {
        for (sector, bytes) in self.esp.data() {
            self.write(sector, &bytes);
        }
    }

    /// As a sync of the mounted file system.
    pub fn sync(&mut self) {
        self.write_data();
        self.write_folders();
        self.flush();
    }

    /// As `host::esp::Folder::replace`.
    pub fn replace(&mut self, file: &str, bytes: &[u8]) {
        let new = temporary(file);
        self.esp.create(&new, bytes);
        self.sync();
        self.esp.rename(&new, file);
        self.sync();
    }

    pub fn environment(&mut self, variables: &[(&str, &str)]) {
        let text = grub::environment(variables);
        self.esp.overwrite(ENVIRONMENT, text.as_bytes()[..SECTOR].try_into().unwrap());
        self.sync();
    }

    fn make_esp(&mut self) {
        let files = self.old.files();
        for folder in ["EFI", "EFI/BOOT", "EFI/systemd", "EFI/Linux", "grub", "loader"] {
            self.esp.folder(folder);
        }
        let entry = self.old.entry();
        let environment = grub::environment(&[("order", "a b")]);
        for (path, bytes) in [
            ("EFI/BOOT/BOOTX64.EFI", &files.loader[..]),
            ("EFI/systemd/systemd-bootx64.efi", &files.loader),
            ("EFI/Linux/sheaf_0.1.0.efi", &files.uki),
            ("grub/grub.cfg", &files.menu),
            ("loader/loader.conf", b"timeout 0\neditor no\n"),
            ("grub/a.cfg", &entry),
            (ENVIRONMENT, environment.as_bytes()),
        ] {
            self.esp.create(path, bytes);
        }
        self.sync();
    }

    /// Puts the recovery beside the slots, as the installer does; without `missing`.
    pub fn add_recovery(&mut self, missing: &str) {
        let files = self.old.files();
        for folder in ["EFI/sheaf", "loader/entries"] {
            self.esp.folder(folder);
        }
        let entry = boot::recovery_entry(&self.old.manifest, "02");
        let script = boot::recovery_script(&self.old.manifest);
        for (path, bytes) in [
            (boot::RECOVERY, &files.installer[..]),
            (boot::RECOVERY_ENTRY, entry.as_bytes()),
            (boot::RECOVERY_SCRIPT, script.as_bytes()),
        ] {
            if path != missing {
                self.esp.create(path, bytes);
            }
        }
        self.sync();
    }

    pub fn install(&mut self, steps: &[Install]) {
        for step in steps {
            let [mbr, primary, backup] = self.table();
            match step {
                Install::Erase => {
                    for (_, first, _, _) in PARTITIONS {
                        self.write(first, &[0; 8 * SECTOR]);
                        self.flush();
                    }
                }
                Install::Root => self.root(Slot::A, &self.old.root.clone()),
                Install::Tree => self.tree(Slot::A, &self.old.tree.clone()),
                Install::Esp => self.make_esp(),
                Install::Core => self.write(BIOS, &self.old.release().core(BIOS)),
                Install::Backup => self.write(DISK - 33, &backup),
                Install::Primary => self.write(1, &primary),
                Install::Mbr => self.write(0, &mbr),
            }
            self.flush();
        }
    }

    /// MBR, primary and backup table.
    fn table(&self) -> [Vec<u8>; 3] {
        let mut disk = Cursor::new(vec![0; DISK as usize * SECTOR]);
        let mut gpt = GPT::new_from(&mut disk, SECTOR as u64, [7; 16]).unwrap();
        for (number, (name, first, sectors, kind)) in (1..).zip(PARTITIONS) {
            gpt[number] = GPTPartitionEntry {
                partition_type_guid: [kind; 16],
                unique_partition_guid: [number as u8; 16],
                starting_lba: first,
                ending_lba: first + sectors - 1,
                attribute_bits: 0,
                partition_name: name.into(),
            };
        }
        gpt.write_into(&mut disk).unwrap();
        GPT::write_protective_mbr_into(&mut disk, SECTOR as u64).unwrap();
        let disk = disk.into_inner();
        let mut mbr = disk[..SECTOR].to_vec();
        let code = self.old.release().code(BIOS);
        mbr[..code.len()].copy_from_slice(&code);
        [mbr, disk[SECTOR..34 * SECTOR].to_vec(), disk[(DISK as usize - 33) * SECTOR..].to_vec()]
    }

    pub fn update(&mut self, steps: &[Update]) {
        for step in steps {
            match step {
                Update::Disarm => self.environment(&[("order", "a b"), ("b_left", "0")]),
                Update::Tree => {
                    self.tree(Slot::B, &self.new.tree.clone());
                    self.flush();
                }
                Update::Root => {
                    self.root(Slot::B, &self.new.root.clone());
                    self.flush();
                }
                Update::Entry => self.replace("grub/b.cfg", &self.new.entry()),
                Update::Uki => self.replace("EFI/Linux/sheaf_0.1.1+3.efi", &self.new.uki.clone()),
                Update::Environment => self.environment(&[("order", "b a"), ("b_left", "3")]),
                Update::FirstBoot => {
                    self.esp.rename("EFI/Linux/sheaf_0.1.1+3.efi", "EFI/Linux/sheaf_0.1.1+2-1.efi");
                    self.sync();
                }
                Update::Bless => {
                    self.esp.rename("EFI/Linux/sheaf_0.1.1+2-1.efi", "EFI/Linux/sheaf_0.1.1.efi");
                    self.sync();
                }
                Update::BlessEnvironment => self.environment(&[("order", "b a")]),
            }
        }
    }

    /// All states of what was recorded, judged; then `look` at the report and at the replay.
    pub fn judged<T>(&self, look: impl FnOnce(&Report, &Replay<'_>) -> T) -> T {
        let path =
            |recording: &Recording| -> PathBuf { self.folder.path().join(format!("{}.log", recording.name)) };
        let logs: Vec<Log> =
            self.recordings.iter().map(|recording| Log::open(&path(recording)).unwrap()).collect();
        let releases = [self.old.release(), self.new.release()];
        let replay = Replay::new(&self.recordings, &logs, &releases, DISK * SECTOR as u64).unwrap();
        look(&replay.run(SEED).unwrap(), &replay)
    }

    pub fn report(&self) -> Report {
        self.judged(|report, _| report.clone())
    }
}

/// As `host::esp::temporary`.
pub fn temporary(file: &str) -> String {
    let (folder, name) = file.rsplit_once('/').unwrap();
    format!("{folder}/.{name}.new")
}

/// A verdict that is as it should be.
pub fn boots(version: &str, slot: Slot) -> Option<Verdict> {
    Some(Verdict::Boots { version: version.into(), slot })
}

/// A log of these writes.
pub fn recorded(writes: &[(u64, Vec<u8>)]) -> (tempfile::TempDir, [Log; 1]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("writes.log");
    let mut recorder = Recorder::create(&path).unwrap();
    for (sector, bytes) in writes {
        recorder.write(*sector, bytes).unwrap();
    }
    let log = Log::open(&path).unwrap();
    (folder, [log])
}

/// A disk of `size` bytes that holds all of `logs`.
pub fn disk(logs: &[Log], size: u64) -> Disk<'_> {
    let mut disk = Disk::blank(logs, size);
    for entry in logs.iter().flat_map(Log::entries) {
        disk.put(&Write::of(&entry.unwrap(), 0).unwrap());
    }
    disk
}
