//! Storage as the API shows it, `sheaf.dev/v1alpha1`: the volumes of nodes.
//!
//! Why here: the node's agent reports what the controller and the operator read; all must mean the same by every word.
//! Route in: an operator's manifest, checked by the API server against [`crate::crd`]; the agent's status. Route out:
//! the agent's `volumes`, the controller's claims.

pub mod local_volume;
pub(crate) mod rules;

pub use local_volume::{LocalVolume, LocalVolumeSpec, LocalVolumeStatus};
