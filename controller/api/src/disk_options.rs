//! Options of one disk: who does its I/O, in blocks of what size, what becomes of errors.
//!
//! Why here: names and meanings are KubeVirt's; a disk itself is in [`crate::devices`]. Route in:
//! `spec.domain.devices.disks[]` of a VMI. Route out: the agent's domain XML.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::features::FeatureState;
use crate::words::words;

words! {
    /// How QEMU does the I/O of a disk.
    DiskIo {
        /// Linux AIO, past the page cache.
        Native = "native",
        /// A pool of threads.
        Threads = "threads",
    }
}

words! {
    /// What happens when a read or a write fails.
    ErrorPolicy {
        /// The guest is paused.
        Stop = "stop",
        /// The guest is not told.
        Ignore = "ignore",
        /// The guest is told.
        Report = "report",
        /// The guest is paused when there is no space, and told of any other error.
        Enospace = "enospace",
    }
}

words! {
    /// Which threads of QEMU do the I/O of virtio disks.
    IoThreadsPolicy {
        /// One thread for all disks without one of their own.
        Shared = "shared",
        /// Threads by the number of disks, at most two for each CPU that is requested.
        Auto = "auto",
    }
}

/// Block sizes that the guest sees; at most one of custom and matchVolume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockSize {
    /// These sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomBlockSize>,
    /// The sizes of what is behind the disk: of the volume, or of the file system of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_volume: Option<FeatureState>,
}

impl BlockSize {
    /// Whether the guest sees the sizes of the volume.
    pub fn matches_volume(&self) -> bool {
        self.match_volume.as_ref().is_some_and(FeatureState::is_on)
    }
}

/// Block sizes in bytes, powers of two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomBlockSize {
    /// The smallest block that can be read or written.
    #[schemars(range(min = 512, max = 2_097_152))]
    pub logical: u32,
    /// The block that is best read or written; at least as large.
    #[schemars(range(min = 512, max = 2_097_152))]
    pub physical: u32,
    /// The smallest block that can be discarded, a multiple of logical; 0: nothing can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub discard_granularity: Option<u32>,
}
