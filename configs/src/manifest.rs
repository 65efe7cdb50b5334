//! Release manifest (`manifest.json`): what one build made, by name, size and hash.
//!
//! It is the only thing the installer and the updater trust about a payload, and it is signed (minisign) beside
//! itself as `manifest.json.minisig`. Route in: os-image writes it. Route out: iso, installer, agent read it.

use serde::{Deserialize, Serialize};

/// Format of the manifest itself.
pub const FORMAT: u32 = 1;
/// Its file name in a release folder and on a medium.
pub const FILE: &str = "manifest.json";
/// Its minisign signature, beside it.
pub const SIGNATURE: &str = "manifest.json.minisig";
/// The public key of the signature, in a release folder; an installer trusts only the one it carries itself.
pub const PUBLIC_KEY: &str = "release.pub";

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`]
    pub format: u32,
    /// Recipe name, `sheaf`.
    pub name: String,
    /// Version, `0.1.0`.
    pub version: String,
    /// Version of the Linux kernel, as `uname -r` prints it: `6.12.57+deb13-amd64`.
    pub kernel: String,
    /// Debian architecture, `amd64`.
    pub arch: String,
    /// SOURCE_DATE_EPOCH of the build, seconds.
    pub created: u64,
    /// erofs image of the root.
    pub root: Compressed,
    /// dm-verity hash tree of the root.
    pub verity: Compressed,
    /// Root hash of the tree, hex; also in the node UKI's command line.
    pub root_hash: String,
    /// UUID in the erofs superblock, derived from the release's contents.
    pub root_uuid: String,
    /// UUID in the verity superblock, derived likewise.
    pub verity_uuid: String,
    /// The UKI a node boots, in `EFI/Linux`.
    pub node_uki: Uki,
    /// systemd-boot, for `EFI/BOOT/BOOTX64.EFI`.
    pub boot_loader: Plain,
    /// GRUB, for machines without UEFI.
    pub bios: Bios,
    /// The UKI that a medium boots: kernel and installer.
    pub installer_uki: Uki,
    /// What the release is made of, for people and scanners; no medium has them.
    #[serde(default)]
    pub documents: Vec<Plain>,
}

/// GRUB of a node's disk, for BIOS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bios {
    /// GRUB's boot.img: the code in the MBR, still without the place of `core`.
    pub boot: Plain,
    /// GRUB's core.img, for the partition `bios`, still without its own place.
    pub core: Plain,
    /// Its script, `grub/grub.cfg` of the EFI system partition: chooses the slot.
    pub menu: Plain,
}

/// A unified kernel image, and where its parts lie for those that cannot run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uki {
    /// File name beside the manifest.
    pub file: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
    /// The kernel.
    pub linux: Section,
    /// The initrd.
    pub initrd: Section,
    /// The kernel's arguments.
    pub command_line: String,
}

impl Uki {
    /// It, as a file.
    pub fn plain(&self) -> Plain {
        Plain { file: self.file.clone(), size: self.size, sha256: self.sha256.clone() }
    }
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Its first byte; a multiple of 512.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// A file of the release that is written as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// File name beside the manifest.
    pub file: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// A file of the release that is zstd on the wire and raw on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compressed {
    /// File name beside the manifest, `root.erofs.zst`.
    pub file: String,
    /// Length on the wire in bytes.
    pub size: u64,
    /// Length on disk in bytes.
    pub raw_size: u64,
    /// SHA-256 of the raw bytes, hex.
    pub raw_sha256: String,
    /// Independent zstd frames, in order.
    pub frames: Vec<Frame>,
}

/// One zstd frame; raw offsets follow from the raw lengths before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Length on the wire in bytes.
    pub size: u64,
    /// Length on disk in bytes.
    pub raw_size: u64,
    /// SHA-256 of the bytes on the wire, hex: checked before they are decoded.
    pub sha256: String,
}
