//! LVM: volume groups over disks, one thin pool in each, thin volumes in that.
//!
//! Why here: it is a program that changes disks. Asked for JSON, never read for prose. Route in: the agent's `pools`
//! (groups, members, the thin pool) and `volumes` (what is in it). Route out: [`Lvm2`], or
//! [`crate::fakes::FakeLvm`] in tests.
//!
//! **Confined.** No devices file, no scan of volumes (a guest's own group inside a volume is never seen), and every
//! change is told which devices the group has, so that a foreign group of the same name on another disk is not
//! touched: `pools` calls [`Lvm::confine`], and until then all that changes a group fails with [`LvmError::Unknown`].
//!
//! **How a volume is made.** [`Lvm::create_volume`] makes a thin volume in the pool `thin` of the group, active, with its
//! tags from the first moment on: give [`VOLUME_TAG`] and [`INCOMPLETE_TAG`]. It reads as zeros; its device is [`device`],
//! which is there when the call returns. Fill it, flush it, then [`Lvm::retag`] takes [`INCOMPLETE_TAG`] off. [`Lvm::snapshot`]
//! does the same from another volume of the pool, at once and without copying. After a start of the node all volumes are
//! inactive until [`Lvm::activate`]; those that still have [`INCOMPLETE_TAG`] were cut off: remove them and begin again.
//! [`Lvm::extend_volume`] grows online; [`Lvm::remove_volume`] fails while the device is open. Names: what LVM takes,
//! `pvc-…` and `snap-…` do. Calls block for as long as the program runs (up to [`DEADLINE`]): off the async threads.

pub mod contract;
#[cfg(test)]
mod fuzz;
mod lvm2;
mod report;

pub use lvm2::Lvm2;

use crate::run::RunError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the thin pool of a group.
pub const THIN_POOL: &str = "thin";
/// Tag of every thin volume that is somebody's volume.
pub const VOLUME_TAG: &str = "sheaf.volume";
/// Tag of a volume whose content is not complete.
pub const INCOMPLETE_TAG: &str = "sheaf.incomplete";
/// Tag of a group: the node that made it, after this.
pub const NODE_TAG: &str = "sheaf.node=";
/// Tag of a member: identifier of its disk, after this. It is known for a member that is missing, too.
pub const DEVICE_TAG: &str = "sheaf.device=";
/// Longest time that LVM may need: it waits for disks that do not answer.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Why LVM did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    /// The program failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It said what we do not understand.
    #[error("lvm {command}: unexpected JSON")]
    Json {
        /// Which report.
        command: &'static str,
        /// What was wrong with it.
        source: serde_json::Error,
    },
    /// The group's devices were not told, or it is not there.
    #[error("the devices of volume group {0} have not been found on this node")]
    Unknown(String),
}

/// A volume group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name; another group on other disks may have the same.
    pub name: String,
    /// What tells it from that one.
    pub uuid: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Size of an extent in bytes: every volume is a multiple of it.
    pub extent: u64,
    /// Bytes of all members.
    pub size: u64,
    /// Bytes that belong to no volume.
    pub free: u64,
    /// Its members.
    pub members: Vec<Member>,
}

/// A device of a volume group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Where it is; none where no disk has it.
    pub device: Option<PathBuf>,
    /// The group went on without it: it is not there, or it came back and [`Lvm::restore_member`] was not called.
    pub is_missing: bool,
    /// What LVM calls it forever.
    pub uuid: String,
    /// New data may be put on it.
    pub is_allocatable: bool,
    /// Its tags.
    pub tags: Vec<String>,
    /// Bytes it gives to the group.
    pub size: u64,
    /// Bytes of it that belong to no volume.
    pub free: u64,
}

/// What all groups are, and the devices that carry LVM's mark and belong to none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// The groups.
    pub groups: Vec<Group>,
    /// Prepared for a group, in none.
    pub orphans: Vec<PathBuf>,
}

/// A logical volume of any kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    /// Its name; those in brackets are parts of others.
    pub name: String,
    /// LVM's word for its kind: `thin`, `thin-pool`, `linear`, `mirror`, …
    pub kind: String,
    /// Length in bytes.
    pub size: u64,
    /// Its tags.
    pub tags: Vec<String>,
    /// Volume that it was a snapshot of, as long as that is there.
    pub origin: Option<String>,
    /// The kernel has a device for it.
    pub is_active: bool,
    /// Somebody has that device open.
    pub is_open: bool,
    /// How much of it is written, of a pool how full it is, in percent.
    pub data_percent: Option<f64>,
    /// How full a pool's metadata is, in percent.
    pub metadata_percent: Option<f64>,
    /// Length of a pool's metadata in bytes.
    pub metadata_size: u64,
    /// How much is copied, of one that moves, in percent.
    pub copy_percent: Option<f64>,
    /// Member that its data moves away from.
    pub moves_from: Option<PathBuf>,
    /// LVM's word for what is wrong with it: `out_of_data`, `metadata_read_only`, `failed`, `partial`, …
    pub health: Option<String>,
}

impl Volume {
    /// Whether it has `tag`.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|has| has == tag)
    }
}

/// Measures of a thin pool, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinSize {
    /// What volumes can hold together.
    pub data: u64,
    /// What says where their pieces are; a spare of the same size is made beside it.
    pub metadata: u64,
    /// A piece.
    pub chunk: u64,
}

/// What LVM says: for anyone who only observes. [`Lvm2`], or [`crate::fakes::FakeLvm`] in tests.
pub trait LvmReport: Send + Sync {
    /// Every group on every disk of the node, foreign ones too.
    fn groups(&self) -> Result<Groups, LvmError>;
    /// The devices that `group` is confined to; none when it is not in use here.
    fn confined(&self, group: &str) -> Vec<PathBuf>;
    /// All volumes of the group that is confined, parts of others included.
    fn volumes(&self, group: &str) -> Result<Vec<Volume>, LvmError>;
    /// All volumes of the group `group` on `devices`, whether it is confined or not.
    fn volumes_on(&self, group: &str, devices: &[PathBuf]) -> Result<Vec<Volume>, LvmError>;
}

/// What LVM does besides.
pub trait Lvm: LvmReport {
    /// From now on `group` is the one on these devices, and nothing else is; on none it is in use here no more.
    fn confine(&self, group: &str, devices: &[PathBuf]);
    /// Makes the group `group` of `device`, which must carry no marks but LVM's own; confines it to that device.
    fn create_group(
        &self,
        group: &str,
        device: &Path,
        tags: &[&str],
        device_tags: &[&str],
    ) -> Result<(), LvmError>;
    /// Adds `device`, which must carry no marks but LVM's own.
    fn add_member(&self, group: &str, device: &Path, tags: &[&str]) -> Result<(), LvmError>;
    /// Adds tags to the member `device`.
    fn tag_member(&self, group: &str, device: &Path, tags: &[&str]) -> Result<(), LvmError>;
    /// Takes `device`, which must hold no data, out of the group and its mark off it.
    fn remove_member(&self, group: &str, device: &Path) -> Result<(), LvmError>;
    /// Forgets the members that are missing; only possible while they hold no data.
    fn forget_missing(&self, group: &str) -> Result<(), LvmError>;
    /// Tells the group that `device`, a member that had been missing, is back with its data.
    fn restore_member(&self, group: &str, device: &Path) -> Result<(), LvmError>;
    /// Gives no further data to `device`, or gives again.
    fn set_allocatable(&self, group: &str, device: &Path, yes: bool) -> Result<(), LvmError>;
    /// Starts to move all data from `device` to the others, and returns: see [`Volume::copy_percent`].
    fn evacuate(&self, group: &str, device: &Path) -> Result<(), LvmError>;
    /// Goes on with moves that nobody drives any more: after a start of the node or the agent.
    fn resume_moves(&self, group: &str) -> Result<(), LvmError>;
    /// Stops all moves; what was moved stays there.
    fn abort_moves(&self, group: &str) -> Result<(), LvmError>;
    /// Makes the thin pool [`THIN_POOL`]. It answers "no space" when it is full, at once.
    fn create_thin_pool(&self, group: &str, size: ThinSize) -> Result<(), LvmError>;
    /// Grows the thin pool's data to `bytes`, online.
    fn grow_data(&self, group: &str, bytes: u64) -> Result<(), LvmError>;
    /// Grows the thin pool's metadata to `bytes`, online.
    fn grow_metadata(&self, group: &str, bytes: u64) -> Result<(), LvmError>;
    /// Makes devices of the thin pool and of every volume in it.
    fn activate(&self, group: &str) -> Result<(), LvmError>;
    /// Takes all devices away; fails while one is open.
    fn deactivate(&self, group: &str) -> Result<(), LvmError>;
    /// Makes the thin volume `name` of `bytes` (rounded up to whole extents), active.
    fn create_volume(&self, group: &str, name: &str, bytes: u64, tags: &[&str]) -> Result<(), LvmError>;
    /// Makes `name` with the present content of `origin`, active and writable.
    fn snapshot(&self, group: &str, origin: &str, name: &str, tags: &[&str]) -> Result<(), LvmError>;
    /// Grows the volume `name` to `bytes` (rounded up to whole extents), online; nothing if it is as large already.
    fn extend_volume(&self, group: &str, name: &str, bytes: u64) -> Result<(), LvmError>;
    /// Removes the volume `name`; fails while its device is open.
    fn remove_volume(&self, group: &str, name: &str) -> Result<(), LvmError>;
    /// Changes the tags of the volume `name` in one step.
    fn retag(&self, group: &str, name: &str, add: &[&str], remove: &[&str]) -> Result<(), LvmError>;
}

/// Where the volume `name` of `group` is, while it is active.
pub fn device(group: &str, name: &str) -> PathBuf {
    Path::new("/dev").join(group).join(name)
}
