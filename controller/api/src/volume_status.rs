//! What is observed of the volumes of an instance, with KubeVirt's names.
//!
//! Why here: people and tools see by it how far a disk is that is added to a VM while it runs. Route in: the instance's Pods and
//! claims. Route out: `status.volumeStatus` of the instance.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is observed of a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// Name of its disk in the guest's domain, for example vda; empty while there is none.
    #[serde(default)]
    pub target: String,
    /// How far a disk is that is added while the VM runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<VolumePhase>,
    /// Why it is there, in one CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_info: Option<ClaimInfo>,
    /// The Pod by which the node may use the claim of a volume that is added while the VM runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotplug_volume: Option<HotplugVolume>,
}

/// How far a disk is that is added while the VM runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumePhase {
    /// Its claim is not bound.
    Pending,
    /// Its claim is bound; its Pod has no node yet.
    Bound,
    /// Its Pod is on the node of the VM.
    AttachedToNode,
    /// The domain has it, by a name that is not reported yet.
    MountedToPod,
    /// The guest has it.
    Ready,
    /// It is being removed from the guest.
    Detaching,
}

/// The Pod of a volume that is added while the VM runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HotplugVolume {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_pod_name: Option<String>,
    /// Its UID.
    #[serde(default, rename = "attachPodUID", skip_serializing_if = "Option::is_none")]
    pub attach_pod_uid: Option<String>,
}

/// A claim, as it was when it was bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimInfo {
    /// Its name.
    pub claim_name: String,
    /// Its access modes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// Its volumeMode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// What it has; nothing before it is bound.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Quantity>,
    /// What it asks for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}
