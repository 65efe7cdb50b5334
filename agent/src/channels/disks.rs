//! Disks of this node: what they say of themselves, what is on them, what operators want of them.

use sheaf_api::storage::device::{Identity, Role};
use sheaf_host::block::Device;
use sheaf_host::lvm::Groups;
use sheaf_host::smart::Health;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The disks of this node, for anyone who uses them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disks {
    /// They were observed at least once.
    pub observed: bool,
    /// What was observed.
    pub seen: Arc<Seen>,
    /// What operators want of them, by name of the object; empty until the first complete list.
    pub settings: BTreeMap<String, Settings>,
    /// The list of BlockDevices was complete at least once.
    pub synced: bool,
}

/// What an operator wants of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What it is for.
    pub role: Role,
    /// With role pool: which.
    pub pool: Option<String>,
}

/// Everything that was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The disks, by device.
    pub disks: Vec<Disk>,
    /// LVM's groups on them.
    pub groups: Groups,
}

/// One disk, as it was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its identifier; its BlockDevice is `<node>.<id>`.
    pub id: String,
    /// What it says of itself.
    pub facts: Facts,
    /// It and everything below it, as the kernel sees them.
    pub device: Device,
    /// Its names under /dev/disk.
    pub links: Vec<PathBuf>,
    /// What is on it.
    pub contents: Contents,
    /// The signatures that were found, in words.
    pub signatures: Vec<String>,
    /// Why it could not be searched for signatures.
    pub unreadable: Option<String>,
    /// Who uses it, in words.
    pub uses: Vec<String>,
    /// How it is.
    pub health: Health,
    /// Another present disk reports the same identity.
    pub is_ambiguous: bool,
    /// Another present disk has the same serial.
    pub duplicate_serial: bool,
    /// The partition on it that is kept for the pool `default`: of the boot disk.
    pub pool_partition: Option<PoolPartition>,
}

/// The boot disk's partition for the pool `default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPartition {
    /// Where it is.
    pub device: PathBuf,
    /// What is on it: never [`Contents::System`].
    pub contents: Contents,
}

/// What is on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Nothing that any system would recognise.
    Empty,
    /// The node itself.
    System,
    /// Part of the pool of that name of this node.
    Pool(String),
    /// Something that must not be overwritten; in words.
    Foreign(String),
}

/// What a disk says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where it is now.
    pub device: PathBuf,
    /// World-wide name.
    pub wwn: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Model name.
    pub model: Option<String>,
    /// Its place in the machine: udev's `ID_PATH`.
    pub place: Option<String>,
    /// How it is attached.
    pub bus: Option<String>,
    /// Length in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u64,
    /// The kernel refuses writes.
    pub read_only: bool,
}

impl Facts {
    /// What is written into the object when it is made.
    pub fn identity(&self) -> Identity {
        Identity {
            wwn: self.wwn.clone(),
            serial: self.serial.clone(),
            model: self.model.clone(),
            path: self.place.clone(),
        }
    }
}

impl Disk {
    /// Why it may not be taken for a pool, in a sentence.
    pub fn refusal(&self) -> Option<String> {
        match &self.contents {
            Contents::System => Some("this node runs from it".into()),
            Contents::Foreign(what) => Some(format!(
                "it carries {what}; if that may be erased, set spec.wipe.confirmSerial of its BlockDevice to {}",
                self.facts.identity().proof().unwrap_or("its serial, WWN or path")
            )),
            _ if self.facts.read_only => Some("it is read-only".into()),
            _ if self.is_ambiguous => Some("another disk of this node reports the same serial".into()),
            Contents::Empty if !self.uses.is_empty() => {
                Some(format!("it is in use: {}", self.uses.join(", ")))
            }
            Contents::Empty | Contents::Pool(_) => None,
        }
    }
}
