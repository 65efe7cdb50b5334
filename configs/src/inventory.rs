//! What a machine has: disks, NICs, firmware, memory, as `sheaf-installer inventory --json` prints it.
//!
//! Why here: the installer's plan decides on this value, and so does `sheaf config check --against`, far from the
//! machine. Route in: the installer's probes, or their JSON. Route out: [`crate::select`].

use crate::node::{Bus, Identity};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use uuid::Uuid;

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inventory {
    /// What the machine says of itself.
    #[serde(default)]
    pub machine: Identity,
    /// How it was booted.
    pub firmware: Firmware,
    /// Whether the firmware starts signed programs only, and hands unsigned kernel arguments to none.
    #[serde(default)]
    pub secure_boot: bool,
    /// Memory the kernel has, in bytes.
    pub memory: u64,
    /// Its disks, by path.
    pub disks: Vec<Disk>,
    /// Its wired NICs, by name.
    pub nics: Vec<Nic>,
}

/// How a machine starts a boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum Firmware {
    Uefi,
    Bios,
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// Node in /dev; may be another at the next boot.
    pub path: PathBuf,
    /// Its names under /dev/disk/by-id and /dev/disk/by-path.
    pub links: Vec<PathBuf>,
    /// The kernel's number of it, `8:16`; may be another at the next boot.
    #[serde(default)]
    pub number: Option<String>,
    /// Counts the disks that this boot of the kernel has seen (`diskseq`): no two have the same, even when they have
    /// the same path one after the other.
    #[serde(default)]
    pub sequence: Option<u64>,
    /// Serial number.
    pub serial: Option<String>,
    /// World-wide name.
    pub wwn: Option<String>,
    /// Model name.
    pub model: Option<String>,
    /// How it is attached, when that is one of the known ways.
    pub bus: Option<Bus>,
    /// Length in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u64,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// It can be taken out.
    pub removable: bool,
    /// The medium this installation comes from.
    pub is_medium: bool,
    /// Who uses it, in words.
    pub uses: Vec<String>,
    /// Marks of present contents, on it and on its partitions.
    pub signatures: Vec<Signature>,
    /// Why it could not be searched for signatures.
    pub unreadable: Option<String>,
    /// An earlier installation of Sheaf on it.
    pub older: Option<Older>,
}

/// An earlier installation of Sheaf, as its partition table shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Older {
    /// UUID of the disk: that of the installation, the last byte 0.
    pub id: Uuid,
    /// Its partitions by number.
    pub partitions: Vec<OlderPartition>,
}

/// One of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OlderPartition {
    /// Number in the table.
    pub number: u8,
    /// Name in the table.
    pub name: String,
    /// Type in the table.
    #[serde(rename = "type")]
    pub kind: Uuid,
    /// First byte on the disk.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
}

/// A mark by which some system would recognise content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Signature {
    /// Disk or partition it is on.
    pub device: PathBuf,
    /// Its place on the disk, in bytes.
    pub offset: u64,
    /// `gpt`, `ext4`, `LVM2_member`, …
    pub kind: String,
}

/// One wired NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Nic {
    /// Kernel name.
    pub name: String,
    /// MAC address it was made with.
    pub permanent_mac: Option<String>,
    /// Its place on the bus, udev's `ID_PATH`.
    #[serde(default)]
    pub path: Option<String>,
    /// Driver.
    pub driver: Option<String>,
    /// A cable is in it, when that is known.
    pub carrier: Option<bool>,
}
