//! Storage as the API shows it, `sheaf.dev/v1alpha1`: the disks of nodes, the pools made of them, the volumes in those.
//!
//! Why here: the node's agent reports what the controller and the operator read; all must mean the same by every word.
//! Route in: an operator's manifest, checked by the API server against [`crate::crd`]; the agent's status. Route out:
//! the agent's `disks`, `pools` and `volumes`, the controller's capacities and claims. A node's disk is known by what it
//! says of itself ([`device::Identity`]), never by what the kernel happens to call it.

pub mod device;
pub mod local_volume;
pub mod pool;
pub(crate) mod rules;

pub use device::{BlockDevice, BlockDeviceSpec, BlockDeviceStatus};
pub use local_volume::{LocalVolume, LocalVolumeSpec, LocalVolumeStatus};
pub use pool::{StoragePool, StoragePoolSpec, StoragePoolStatus};
