//! Pools and volumes of this node, for anyone who uses them.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A pool of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// LVM's group of it; volumes are `/dev/<group>/<volume>`.
    pub group: String,
    /// Volumes can be made, and those that are there have their devices.
    pub is_usable: bool,
    /// Writers are refused until it has space.
    pub is_full: bool,
    /// What volumes can hold together, in bytes.
    pub total: u64,
    /// What of it is not written, in bytes.
    pub free: u64,
}

/// A volume of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usable {
    /// It may be opened now.
    pub ready: bool,
    /// It may be read now, by an export: a snapshot, too.
    pub readable: bool,
    /// Its device.
    pub device: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Why it may not be opened.
    pub problem: Option<String>,
}

/// What the channel holds: volumes by name; nothing before the first complete list.
pub type Volumes = Option<BTreeMap<String, Usable>>;
