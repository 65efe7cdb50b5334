//! `[vms]`: what virtual machines of this node may do.
//!
//! Route in: `load`. Route out: `sheaf-agent configure`.

use schemars::JsonSchema;
use serde::Serialize;

/// What virtual machines of this node may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Vms {
    /// Guests may run virtual machines of their own, with KVM. Off by default: escapes from a guest to the host by way of KVM
    /// usually need it. The Node then has the label `sheaf.dev/nested-virtualization=true`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    pub nested: bool,
    /// Processors that no VM gets to itself, as Linux numbers them: at least one, better a whole core. With it, VMs can have the
    /// others to themselves (`dedicatedCpuPlacement`), and the Node has the label `cpumanager=true` and offers only those others as
    /// `cpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"0-1", example = &"0,32")]
    pub reserved_cpus: Option<String>,
}

impl Vms {
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
