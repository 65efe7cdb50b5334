//! VirtualMachineRestore, `snapshot.kubevirt.io/v1beta1`: a VM as a snapshot has it, in its place or under another name.
//!
//! Why here: names and meanings are KubeVirt's. Route in: a manifest. Route out: claims made from the snapshot, the VM's spec
//! with their names, and the status that people and tools wait for.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reference;
use crate::status::Condition;

/// Finalizer of a VirtualMachineRestore: held until the VM may start again and nothing unfinished is left.
pub const FINALIZER: &str = "snapshot.kubevirt.io/vmrestore-protection";
/// Annotation of a VM: the restore that it was last made by, `<name>-<uid>`.
pub const LAST_RESTORE_ANNOTATION: &str = "restore.kubevirt.io/lastRestoreUID";
/// Annotation of a restored claim: name of the restore.
pub const NAME_ANNOTATION: &str = "restore.kubevirt.io/name";
/// Label of a restored claim: name of the VM that the snapshot is of.
pub const SOURCE_NAME_LABEL: &str = "restore.kubevirt.io/source-vm-name";
/// Label of a restored claim: namespace of that VM.
pub const SOURCE_NAMESPACE_LABEL: &str = "restore.kubevirt.io/source-vm-namespace";

/// Restores a VM from a VirtualMachineSnapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "snapshot.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineRestore",
    plural = "virtualmachinerestores",
    shortname = "vmrestore",
    shortname = "vmrestores",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "VirtualMachineRestoreStatus",
    doc = "Restores a VM from a VirtualMachineSnapshot.",
    printcolumn = r#"{"name":"TargetKind","type":"string","jsonPath":".spec.target.kind"}"#,
    printcolumn = r#"{"name":"TargetName","type":"string","jsonPath":".spec.target.name"}"#,
    printcolumn = r#"{"name":"Complete","type":"boolean","jsonPath":".status.complete"}"#,
    printcolumn = r#"{"name":"RestoreTime","type":"date","jsonPath":".status.restoreTime"}"#,
    printcolumn = r#"{"name":"Error","type":"string","jsonPath":".status.conditions[?(@.type=='Failure')].message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineRestoreSpec {
    /// The VM: the one that the snapshot is of, or one that does not exist.
    pub target: Reference,
    /// The snapshot, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub virtual_machine_snapshot_name: String,
    /// What is done while the VM runs. Default: WaitGracePeriod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_readiness_policy: Option<TargetReadinessPolicy>,
    /// Names of the restored volumes. Default, and the only one that Sheaf supports: RandomizeNames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub volume_restore_policy: Option<String>,
    /// Who owns restored claims that the VM owned. Default: Vm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_ownership_policy: Option<VolumeOwnershipPolicy>,
    /// Names, labels and annotations of restored volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub volume_restore_overrides: Vec<VolumeRestoreOverride>,
    /// JSON patches of a VM that does not exist yet, each an operation as a string; of its spec, labels and annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 2048)))]
    pub patches: Vec<String>,
}

/// What is done while the VM runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetReadinessPolicy {
    /// It is stopped.
    StopTarget,
    /// The restore waits five minutes for somebody to stop it, then fails.
    #[default]
    WaitGracePeriod,
    /// The restore fails.
    FailImmediate,
    /// The restore waits until somebody stops it.
    WaitEventually,
}

/// Who owns restored claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumeOwnershipPolicy {
    /// The VM: they are deleted with it.
    #[default]
    Vm,
    /// Nothing: they stay.
    None,
}

/// How one volume is restored; at least one of restoreName, labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRestoreOverride {
    /// The volume's name in the VM.
    #[schemars(length(min = 1, max = 63))]
    pub volume_name: String,
    /// Name of the restored claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub restore_name: Option<String>,
    /// Further labels of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Further annotations of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is observed of a restore.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineRestoreStatus {
    /// The restored volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restores: Vec<VolumeRestore>,
    /// When it was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_time: Option<Time>,
    /// DataVolumes of the VM that were replaced, and deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted_data_volumes: Vec<String>,
    /// It is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// Details by type: Ready, Progressing, Failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A restored volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRestore {
    /// Its name in the VM.
    pub volume_name: String,
    /// Its claim.
    pub persistent_volume_claim: String,
    /// The VolumeSnapshot that it was made from.
    pub volume_snapshot_name: String,
    /// Its DataVolume, if the VM has a template for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_volume_name: Option<String>,
}
