//! VirtualMachineSnapshotContent: the VM as it was, and which VolumeSnapshot holds which of its volumes.
//!
//! Why here: KubeVirt's tools read it; Sheaf makes it. The VM and the claims are kept as they were written, whatever this
//! version knows of them, so that the schema has no fields for them. Route in: the VM, when a snapshot of it begins. Route
//! out: what a restore puts back.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::PersistentVolumeClaimSpec,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{snapshot::SnapshotError, vm::VirtualMachineSpec};

/// What a VirtualMachineSnapshot holds; Sheaf creates it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "snapshot.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineSnapshotContent",
    plural = "virtualmachinesnapshotcontents",
    shortname = "vmsnapshotcontent",
    shortname = "vmsnapshotcontents",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "VirtualMachineSnapshotContentStatus",
    doc = "What a VirtualMachineSnapshot holds; Sheaf creates it.",
    printcolumn = r#"{"name":"ReadyToUse","type":"boolean","jsonPath":".status.readyToUse"}"#,
    printcolumn = r#"{"name":"CreationTime","type":"date","jsonPath":".status.creationTime"}"#,
    printcolumn = r#"{"name":"Error","type":"string","jsonPath":".status.error.message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSnapshotContentSpec {
    /// Its VirtualMachineSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_machine_snapshot_name: Option<String>,
    /// What it is of.
    pub source: SnapshotSource,
    /// Its volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_backups: Vec<VolumeBackup>,
}

/// What a snapshot is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSource {
    /// The VM as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "as_written")]
    pub virtual_machine: Option<SavedMachine>,
}

/// A VM as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedMachine {
    /// Name, UID, labels, annotations.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Its spec; of a VM that ran, the one that it was started with.
    pub spec: VirtualMachineSpec,
    /// Its instancetype and its preference, as it had them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<SavedRevision>,
}

/// Which of the two a VM names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevisionOf {
    /// `spec.instancetype`.
    Instancetype,
    /// `spec.preference`.
    Preference,
}

/// A ControllerRevision of a VM: its instancetype or preference as it was when the VM first named it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedRevision {
    /// Which of the two.
    pub of: RevisionOf,
    /// Name of the instancetype or preference.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Name of the ControllerRevision.
    pub revision_name: String,
    /// Labels of the ControllerRevision.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it holds.
    pub data: serde_json::Value,
}

/// A volume of the VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeBackup {
    /// Its name in the VM.
    pub volume_name: String,
    /// Its claim as it was.
    #[schemars(schema_with = "as_written")]
    pub persistent_volume_claim: SavedClaim,
    /// The VolumeSnapshot that has its contents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_name: Option<String>,
}

/// A claim as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedClaim {
    /// Name, labels, annotations, owners.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Its spec.
    #[serde(default)]
    pub spec: PersistentVolumeClaimSpec,
}

/// What is observed of a content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSnapshotContentStatus {
    /// When the last of its volumes was taken and the guest was thawed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// All of its volumes can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SnapshotError>,
    /// Its VolumeSnapshots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_snapshot_status: Vec<VolumeSnapshotState>,
}

/// What is observed of a VolumeSnapshot of a content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotState {
    /// Its name.
    pub volume_snapshot_name: String,
    /// When it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// A claim can be made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SnapshotError>,
}

/// An object that is kept as it was written.
fn as_written(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
