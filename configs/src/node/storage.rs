//! `[storage]`: disks that hold volumes of VMs.
//!
//! Route in: `load`. Route out: the agent's disks controller.

use super::DiskSelector;
use schemars::JsonSchema;
use serde::Serialize;

/// Disks that hold volumes of VMs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Storage {
    /// `[[storage.pool]]`
    #[serde(rename = "pool", skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub pools: Vec<Pool>,
}

impl Storage {
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }
}

/// One thin pool over whole disks, which must be empty or this pool's own. Disks with contents are emptied by the
/// installer, under `install.data-disks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Pool {
    /// Name of the pool in the cluster.
    #[schemars(example = &"fast")]
    pub name: String,
    /// Its disks; each selector selects exactly one.
    #[schemars(length(min = 1))]
    pub disks: Vec<DiskSelector>,
}
