//! A small release on a medium, a machine to install it on, and mtools in memory.

#![allow(dead_code)] // each test file uses a part

use sha2::{Digest, Sha256};
use sheaf_config::load::parse_node_config;
use sheaf_config::manifest::{Bios, Compressed, FORMAT, Frame, Manifest, Plain, Section, Uki};
use sheaf_config::node::{Bus, NodeConfig};
use sheaf_host::chroot::{Chroot, Privilege};
use sheaf_host::run::{Command, Output, Run, RunError, System};
use sheaf_installer::inventory::{Disk, Firmware, Inventory, Nic, Older, OlderPartition, Signature};
use sheaf_installer::plan::Layout;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;
use uuid::Uuid;

/// UUID of every installation in tests.
pub const ID: Uuid = Uuid::from_u128(0x6b1f7a3e_93c2_4d55_8f10_0123456789ff);
/// Smallest disk there may be, in bytes.
pub const SIZE: u64 = 16_000_000_000;

/// What a build would have put on a medium.
pub struct Release {
    pub dir: TempDir,
    pub manifest: Manifest,
    pub images: BTreeMap<String, u64>,
}

impl Release {
    /// Root of 9 MiB and a page in three frames, verity of one, programs of some bytes, one disk image.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join("medium/sheaf");
        fs::create_dir_all(folder.join("images")).unwrap();
        let image = |file: &str, raw: Vec<u8>| {
            let mut wire = Vec::new();
            let mut frames = Vec::new();
            for raw in raw.chunks(4 << 20) {
                let frame = zstd::bulk::compress(raw, 1).unwrap();
                let (size, raw_size) = (frame.len() as u64, raw.len() as u64);
                frames.push(Frame { size, raw_size, sha256: sha256(&frame) });
                wire.extend(frame);
            }
            fs::write(folder.join(file), &wire).unwrap();
            let (size, raw_size) = (wire.len() as u64, raw.len() as u64);
            Compressed { file: file.into(), size, raw_size, raw_sha256: sha256(&raw), frames }
        };
        let plain = |file: &str, bytes: Vec<u8>| {
            fs::write(folder.join(file), &bytes).unwrap();
            Plain { file: file.into(), size: bytes.len() as u64, sha256: sha256(&bytes) }
        };
        let uki = |file: &str, bytes: Vec<u8>| {
            let Plain { file, size, sha256 } = plain(file, bytes);
            let (linux, initrd) = (Section { offset: 512, size: 1000 }, Section { offset: 2048, size: 512 });
            Uki { file, size, sha256, linux, initrd, command_line: "root=/dev/mapper/root quiet".into() }
        };
        let manifest = Manifest {
            format: FORMAT,
            name: "sheaf".into(),
            version: "0.1.0".into(),
            kernel: "6.12.57+deb13-amd64".into(),
            arch: "amd64".into(),
            created: 1_790_000_000,
            terms: Default::default(),
            root: image("root.erofs.zst", noise((9 << 20) + 4096, 1)),
            verity: image("root.verity.zst", noise(80 * 1024, 2)),
            root_hash: "00".repeat(32),
            root_uuid: ID.to_string(),
            verity_uuid: ID.to_string(),
            node_uki: uki("node.efi", noise(3_000_001, 3)),
            boot_loader: plain("systemd-bootx64.efi", noise(120_000, 4)),
            bios: Bios {
                boot: plain("boot.img", noise(512, 6)),
                core: plain("core.img", noise(130_000, 7)),
                menu: plain("grub.cfg", b"# chooses the slot\n".to_vec()),
            },
            installer_uki: uki("installer.efi", noise(50_000, 8)),
            documents: Vec::new(),
        };
        plain("images/guest.raw", noise(2_000_000, 5));
        let images = BTreeMap::from([("guest.raw".to_owned(), 2_000_000)]);
        Self { dir, manifest, images }
    }

    pub fn mounted(&self) -> PathBuf {
        self.dir.path().join("medium")
    }

    pub fn folder(&self) -> PathBuf {
        self.mounted().join("sheaf")
    }

    pub fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    /// Flips one bit of `file` at `offset`.
    pub fn flip(&self, file: &str, offset: usize) {
        let path = self.folder().join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

/// Bytes that look random, half of them zero, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes: Vec<u8> = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend((state as u32).to_le_bytes());
        bytes.extend([0; 4]);
    }
    bytes.truncate(length);
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Config that installs on the disk with serial A, with `rest` appended.
pub fn config(rest: &str) -> NodeConfig {
    let text =
        format!("version = 1\nsystem.hostname = \"node-1\"\n[install]\ndisk = {{ serial = \"A\" }}\n{rest}");
    parse_node_config("node.toml", &text).unwrap()
}

/// A virtio disk of the smallest size, empty and unused.
pub fn disk(name: &str, serial: &str) -> Disk {
    Disk {
        path: Path::new("/dev").join(name),
        links: vec![format!("/dev/disk/by-id/virtio-{serial}").into()],
        number: None,
        sequence: None,
        serial: Some(serial.into()),
        wwn: None,
        model: Some("QEMU".into()),
        bus: Some(Bus::Virtio),
        size: SIZE,
        sector_size: 512,
        read_only: false,
        removable: false,
        is_medium: false,
        uses: Vec::new(),
        signatures: Vec::new(),
        unreadable: None,
        older: None,
    }
}

/// What an installation of ours leaves on a disk of `size` bytes.
pub fn older(size: u64) -> Older {
    let layout = Layout::of(size, 512, ID).unwrap();
    let partitions = layout.partitions.iter().map(|partition| OlderPartition {
        number: partition.number,
        name: partition.name.clone(),
        kind: partition.kind,
        offset: partition.offset,
        size: partition.size,
    });
    Older { id: layout.id, partitions: partitions.collect() }
}

pub fn signature(device: &str, offset: u64, kind: &str) -> Signature {
    Signature { device: device.into(), offset, kind: kind.into() }
}

pub fn nic(name: &str, mac: &str) -> Nic {
    Nic { name: name.into(), permanent_mac: Some(mac.into()), ..Nic::default() }
}

/// One empty disk with serial A, one NIC.
pub fn machine() -> Inventory {
    Inventory {
        machine: Default::default(),
        firmware: Firmware::Uefi,
        secure_boot: false,
        memory: 2 << 30,
        disks: vec![disk("vda", "A")],
        nics: vec![nic("enp1s0", "52:54:00:00:00:01")],
    }
}

/// mkfs that does nothing and mtools that keep files in memory.
#[derive(Default)]
pub struct FakeTools {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<Vec<Command>>,
    failing: Option<&'static str>,
}

impl FakeTools {
    pub fn failing(program: &'static str) -> Self {
        Self { failing: Some(program), ..Self::default() }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(Command::to_string).collect()
    }
}

impl Run for FakeTools {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        self.asked.lock().unwrap().push(command.clone());
        if self.failing.is_some_and(|program| command.program == program) {
            return Err(RunError::Failed {
                command: Box::new(command.clone()),
                ended: "exit status: 1".into(),
                code: Some(1),
                tail: "no space left".into(),
            });
        }
        if command.program == "mcopy" {
            let mut files = self.files.lock().unwrap();
            let paths: Vec<String> =
                command.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
            let [source, target] = &paths[paths.len() - 2..] else { unreachable!() };
            match (source.strip_prefix("::"), target.strip_prefix("::")) {
                (Some(inside), None) => fs::write(target, &files[inside]).unwrap(),
                (None, Some(inside)) if source == "-" => {
                    files.insert(inside.into(), command.stdin.clone());
                }
                (None, Some(inside)) => {
                    files.insert(inside.into(), fs::read(source).unwrap());
                }
                _ => unreachable!("{command}"),
            }
        }
        Ok(Output::default())
    }
}

/// Runs programs of the chroot; `folder` is the same folder inside and outside but for its name.
pub struct InTools {
    tools: PathBuf,
    folder: PathBuf,
}

impl InTools {
    pub fn new(folder: &Path) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let named = std::env::var_os("SHEAF_TOOLS").map(PathBuf::from);
        let tools = named.unwrap_or_else(|| home.join(".cache/sheaf/tools-current"));
        assert!(
            tools.join("usr/bin/mcopy").exists(),
            "{}: no tools chroot; run `sheaf tools`",
            tools.display()
        );
        Self { tools: tools.canonicalize().unwrap(), folder: folder.to_owned() }
    }
}

impl Run for InTools {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let folder = self.folder.display().to_string();
        let mut inside = command.clone();
        for arg in &mut inside.args {
            *arg = arg.to_string_lossy().replace(&folder, "/mnt/work").into();
        }
        System.run(&Chroot::new(&self.tools, Privilege::current()).write(&self.folder, "work").enter(&inside))
    }
}
