//! Release manifest (`manifest.json`): what one build made, by name, size and hash.
//!
//! It is the only thing the installer and the updater trust about a payload, and it is signed (minisign) beside
//! itself as `manifest.json.minisig`. Fields that a reader does not know are passed over, so that a release may have more
//! of them than the nodes that are to take it. Route in: os-image writes it. Route out: iso, installer, agent read it.

use serde::{Deserialize, Serialize};

/// Format of the manifest itself. It rises with a field that every reader must obey: an older one then refuses it.
pub const FORMAT: u32 = 1;
/// Its file name in a release folder and on a medium.
pub const FILE: &str = "manifest.json";
/// Its minisign signatures, one after the other, beside it.
pub const SIGNATURE: &str = "manifest.json.minisig";
/// Which keys sign releases from this one on, each version signed by the keys of the one before; not in every release.
pub const KEYS: &str = "keys.json";
/// The public key of the signature, in a release folder; an installer trusts only the one it carries itself.
pub const PUBLIC_KEY: &str = "release.pub";

/// Format of `/state` that the software of this release writes, and those that it can read.
pub const STATE: StateFormat = StateFormat { writes: 1, reads: (1, 1) };

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Which nodes may take it, and until when.
    #[serde(default)]
    pub terms: Terms,
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

/// Which nodes may take a release, and until when. Releases from before these fields have none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// No node updates to it from this time on, in seconds since 1970: its publisher has a newer one by then, or signs it
    /// again. A server that keeps nodes on an old release by giving them nothing newer cannot do so longer than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// `stable`, `edge`: a node that follows one takes no release of another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Nothing older is started on purpose on a node that found this release good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<String>,
    /// The oldest version that updates to it directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_from: Option<String>,
    /// Formats of `/state`.
    pub state: StateFormat,
    /// Version of Kubernetes that it carries, `1.37.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
}

/// Formats of `/state`, the partition that both releases of an update use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFormat {
    /// The one that is written.
    pub writes: u32,
    /// The oldest and the newest that can be read.
    pub reads: (u32, u32),
}

impl StateFormat {
    /// Whether it can read what `other` writes.
    pub fn can_read(&self, other: &Self) -> bool {
        (self.reads.0..=self.reads.1).contains(&other.writes)
    }
}

/// That of releases from before it was in the manifest.
impl Default for StateFormat {
    fn default() -> Self {
        Self { writes: 1, reads: (1, 1) }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As releases were written before they had terms.
    const OLD: &str = r#"{"format":1,"name":"sheaf","version":"0.1.0","kernel":"6.12","arch":"amd64","created":1,
        "root":{"file":"r","size":1,"raw_size":1,"raw_sha256":"","frames":[]},
        "verity":{"file":"v","size":1,"raw_size":1,"raw_sha256":"","frames":[]},
        "root_hash":"","root_uuid":"","verity_uuid":"",
        "node_uki":{"file":"n","size":1,"sha256":"","linux":{"offset":0,"size":1},"initrd":{"offset":0,"size":1},"command_line":""},
        "boot_loader":{"file":"b","size":1,"sha256":""},
        "bios":{"boot":{"file":"b","size":1,"sha256":""},"core":{"file":"c","size":1,"sha256":""},"menu":{"file":"m","size":1,"sha256":""}},
        "installer_uki":{"file":"i","size":1,"sha256":"","linux":{"offset":0,"size":1},"initrd":{"offset":0,"size":1},"command_line":""}}"#;

    #[test]
    fn a_manifest_from_before_the_terms_is_read_as_one_without_any() {
        let manifest: Manifest = serde_json::from_str(OLD).unwrap();
        assert_eq!(manifest.terms, Terms::default());
        assert!(STATE.can_read(&manifest.terms.state) && manifest.terms.state.can_read(&STATE));
    }

    #[test]
    fn terms_are_written_and_read_and_fields_of_later_releases_are_passed_over() {
        let mut manifest: Manifest = serde_json::from_str(OLD).unwrap();
        manifest.terms = Terms {
            expires: Some(1_800_000_000),
            channel: Some("stable".into()),
            floor: Some("0.1.0".into()),
            min_from: Some("0.0.9".into()),
            state: StateFormat { writes: 2, reads: (1, 2) },
            kubernetes: Some("1.37.2".into()),
        };
        let mut document = serde_json::to_value(&manifest).unwrap();
        assert_eq!(document["terms"]["state"]["reads"], serde_json::json!([1, 2]));
        document["later"] = "a field".into();
        document["terms"]["later"] = 1.into();
        assert_eq!(serde_json::from_value::<Manifest>(document).unwrap(), manifest);
    }

    #[test]
    fn a_format_of_state_is_readable_within_its_range() {
        let format = |writes, reads| StateFormat { writes, reads };
        assert!(format(2, (1, 2)).can_read(&format(1, (1, 1))));
        assert!(!format(1, (1, 1)).can_read(&format(2, (1, 2))));
        assert!(!format(3, (3, 3)).can_read(&format(2, (1, 2))));
    }
}
