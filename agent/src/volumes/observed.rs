//! What LVM says of the pools of this node and of the volumes in them.
//!
//! Why here: the plan needs less than LVM knows, and needs it by name. Route in: LVM's reports; `pools` has told LVM which
//! devices a pool's group has, and a group of which it has not is none of ours. Route out: [`Group`]s. Blocks.

use super::TAG;
use sheaf_host::lvm::{LvmError, LvmReport, THIN_POOL};
use std::collections::{BTreeMap, BTreeSet};

/// What the volume groups of pools begin with.
pub const GROUP_PREFIX: &str = "sheaf-";

/// The volume group of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Its thin pool, while it works.
    pub pool: Option<ThinPool>,
    /// Logical volumes by name, the pool and parts of others apart.
    pub volumes: BTreeMap<String, Volume>,
}

/// A thin pool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ThinPool {
    /// What it can hold.
    pub bytes: u64,
    /// How full its data is.
    pub data_percent: f64,
    /// How full its metadata is.
    pub metadata_percent: f64,
}

/// A logical volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    /// Its size.
    pub bytes: u64,
    /// Its tags.
    pub tags: Vec<String>,
    /// It has a device.
    pub active: bool,
    /// Somebody has that device open.
    pub open: bool,
    /// What of it is written, where LVM says so.
    pub data_percent: Option<f64>,
}

impl Volume {
    /// Whether it has `tag`.
    pub fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

/// Names of all groups of ours on this node.
pub fn names(lvm: &dyn LvmReport) -> Result<BTreeSet<String>, LvmError> {
    let groups = lvm.groups()?.groups.into_iter().map(|group| group.name);
    Ok(groups.filter(|name| name.starts_with(GROUP_PREFIX)).collect())
}

/// Those of `names` that are in use here.
pub fn groups(lvm: &dyn LvmReport, names: &BTreeSet<String>) -> Result<BTreeMap<String, Group>, LvmError> {
    let mut groups = BTreeMap::new();
    for name in names {
        match lvm.volumes(name) {
            Ok(volumes) => groups.insert(name.clone(), group(volumes)),
            Err(LvmError::Unknown(_)) => None,
            Err(error) => return Err(error),
        };
    }
    Ok(groups)
}

fn group(volumes: Vec<sheaf_host::lvm::Volume>) -> Group {
    let mut group = Group::default();
    for volume in volumes {
        if volume.name == THIN_POOL {
            // A pool that is full works; one that misses a device or that LVM does not trust does not.
            let works = !matches!(volume.health.as_deref(), Some("partial" | "failed"));
            group.pool = (works && volume.is_active).then(|| ThinPool {
                bytes: volume.size,
                data_percent: volume.data_percent.unwrap_or(0.0),
                metadata_percent: volume.metadata_percent.unwrap_or(0.0),
            });
            continue;
        }
        // What somebody made by hand is known by its name alone.
        let is_ours = volume.kind == "thin" && volume.has_tag(TAG);
        let known = Volume {
            bytes: volume.size,
            tags: if is_ours { volume.tags } else { Vec::new() },
            active: volume.is_active,
            open: volume.is_open,
            data_percent: volume.data_percent,
        };
        group.volumes.insert(volume.name, known);
    }
    group
}
