//! StoragePool: LVM thin over devices of one node.
//!
//! Why here: volumes are promised from it. One object a pool and node; the pools of one name on several nodes are what a
//! StorageClass means by it. Members are the devices that `spec.devices` names, those whose role says so, those of the
//! node's `[[storage.pool]]`, and for the pool `default` the boot disk's own partition. Route in: the agent (makes
//! `default` and the node's own), the operator (spec). Route out: the agent's `pools`, the controller's capacities.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{quantity::Amount, status::Condition};

/// Condition: volumes can be made, and nothing stands in their way.
pub const READY: &str = "Ready";
/// Condition: every member is there and healthy.
pub const DEVICES_HEALTHY: &str = "DevicesHealthy";
/// Condition: data or metadata are nearly full.
pub const SPACE_LOW: &str = "SpaceLow";
/// Condition: writers wait for space.
pub const FULL: &str = "Full";
/// Condition: data moves off a device.
pub const EVACUATING: &str = "Evacuating";

/// A pool of storage on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "StoragePool",
    plural = "storagepools",
    shortname = "sp",
    category = "sheaf",
    derive = "PartialEq",
    status = "StoragePoolStatus",
    selectable = ".spec.nodeName",
    doc = "A pool of storage on one node: LVM thin over its devices.",
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.nodeName"}"#,
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".spec.pool"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Total","type":"string","jsonPath":".status.total"}"#,
    printcolumn = r#"{"name":"Data %","type":"number","jsonPath":".status.dataPercent"}"#,
    printcolumn = r#"{"name":"Metadata %","type":"number","jsonPath":".status.metadataPercent"}"#,
    printcolumn = r#"{"name":"Devices","type":"string","priority":1,"jsonPath":".status.devices[*].name"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='Ready')].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct StoragePoolSpec {
    /// The node that holds it.
    #[schemars(length(min = 1, max = 63))]
    pub node_name: String,
    /// Name of the pool; pools of one name on several nodes serve one StorageClass.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub pool: String,
    /// How it is made.
    #[serde(default, rename = "type")]
    pub type_: PoolType,
    /// Names of BlockDevices that are members. A device joins online; a removed one is first emptied online.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub devices: Vec<String>,
    /// Labels by which people and StorageClasses choose pools: ssd, fast.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub tags: Vec<String>,
    /// Bytes that are never promised to volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Amount>,
    /// No further volumes are placed here; those that are here stay until they are moved or deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub eviction_requested: bool,
}

/// How a pool is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PoolType {
    /// One LVM volume group with one thin pool.
    #[default]
    LvmThin,
}

/// What the node's agent observes of the pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoragePoolStatus {
    /// Health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PoolPhase>,
    /// Bytes that volumes can hold together: the thin pool's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// The same, human-readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// Bytes of it that are not written yet. More than that may be promised to volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<i64>,
    /// Sum of the sizes of the volumes that are here, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned_bytes: Option<i64>,
    /// How full the data is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub data_percent: Option<f64>,
    /// How full the metadata is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub metadata_percent: Option<f64>,
    /// Its members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub devices: Vec<PoolDevice>,
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Details by type: Ready, DevicesHealthy, SpaceLow, Full, Evacuating.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Phase of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PoolPhase {
    /// Waits for its first device.
    Pending,
    /// No problem is known.
    Ready,
    /// Works, but something needs attention: a device fails, or space runs out.
    Degraded,
    /// Out of space: writers wait until it grows.
    Full,
    /// Does not work: a device with part of the data is missing, or LVM refuses.
    Failed,
}

/// One member of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolDevice {
    /// Name of its BlockDevice.
    pub name: String,
    /// Its state.
    #[serde(default)]
    pub state: MemberState,
    /// Bytes that it contributes to the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Bytes of it that the thin pool does not use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<i64>,
    /// Progress in percent while it is emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_percent: Option<f64>,
    /// Why it has this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberState {
    /// Is asked for, and not taken yet, or refused.
    #[default]
    Waiting,
    /// Is part of the pool.
    Active,
    /// Is part of the pool and says that it fails.
    Failing,
    /// Is being emptied, to leave.
    Leaving,
    /// Is part of the pool and not there.
    Missing,
}
