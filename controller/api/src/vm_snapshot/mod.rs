//! VirtualMachineSnapshot, `snapshot.kubevirt.io/v1beta1`: a VM and the contents of its volumes at one time.
//!
//! Why here: names and meanings are KubeVirt's, whose clients and backup tools read them. What is kept is in [`content`], how
//! it comes back in [`restore`], what is refused in [`rules`]. Route in: a manifest. Route out: a
//! VirtualMachineSnapshotContent, VolumeSnapshots, and the status that a restore waits for.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{snapshot::SnapshotError, status::Condition};

pub mod content;
pub mod restore;
pub(crate) mod rules;

pub use content::VirtualMachineSnapshotContent;
pub use restore::VirtualMachineRestore;

/// API group of snapshots and restores.
pub const GROUP: &str = "snapshot.kubevirt.io";
/// API group of VMs.
pub const VM_GROUP: &str = "kubevirt.io";
/// Finalizer of a VirtualMachineSnapshot: held until its VM is thawed and released and its content is dealt with.
pub const SNAPSHOT_FINALIZER: &str = "snapshot.kubevirt.io/vmsnapshot-protection";
/// Finalizer of a VirtualMachineSnapshotContent: held while its VirtualMachineSnapshot exists.
pub const CONTENT_FINALIZER: &str = "snapshot.kubevirt.io/vmsnapshotcontent-protection";
/// Annotation of a VirtualMachineSnapshotContent: UID of the instance whose guest is frozen for it, and until when at most,
/// `<uid> <time>`. It is written before the guest is frozen and removed after it is thawed.
pub const FROZEN_ANNOTATION: &str = "sheaf.dev/frozen";
/// Annotation of a VirtualMachineSnapshotContent of a VM that keeps UEFI variables or a TPM: the node that has a copy of them;
/// empty if there were none, since the VM had not run. A content that has none was made by a release that copied nothing.
pub const STATE_ANNOTATION: &str = "sheaf.dev/firmware-state";

/// A VM and the contents of its volumes at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "snapshot.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineSnapshot",
    plural = "virtualmachinesnapshots",
    shortname = "vmsnapshot",
    shortname = "vmsnapshots",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "VirtualMachineSnapshotStatus",
    doc = "A VM and the contents of its volumes at one time.",
    printcolumn = r#"{"name":"SourceKind","type":"string","jsonPath":".spec.source.kind"}"#,
    printcolumn = r#"{"name":"SourceName","type":"string","jsonPath":".spec.source.name"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"ReadyToUse","type":"boolean","jsonPath":".status.readyToUse"}"#,
    printcolumn = r#"{"name":"CreationTime","type":"date","jsonPath":".status.creationTime"}"#,
    printcolumn = r#"{"name":"Error","type":"string","jsonPath":".status.error.message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSnapshotSpec {
    /// The VM, in the same namespace.
    pub source: Reference,
    /// What happens to the contents when the VirtualMachineSnapshot is deleted. Default: Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// How long it may take, as 5m0s; after that it fails. 0s: any time. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^(0|([0-9]+(\.[0-9]+)?(h|m|s|ms|us|µs|ns))+)$"))]
    pub failure_deadline: Option<String>,
}

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Its API group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub api_group: Option<String>,
    /// Its kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl Reference {
    /// A VirtualMachine.
    pub fn vm(name: &str) -> Self {
        Self { api_group: Some(VM_GROUP.into()), kind: "VirtualMachine".into(), name: name.into() }
    }
}

/// What happens to the contents of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They are deleted too.
    #[default]
    Delete,
    /// The VirtualMachineSnapshotContent and its VolumeSnapshots stay.
    Retain,
}

/// What is observed of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSnapshotStatus {
    /// UID of the VM.
    #[serde(default, rename = "sourceUID", skip_serializing_if = "Option::is_none")]
    pub source_uid: Option<String>,
    /// Its VirtualMachineSnapshotContent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_machine_snapshot_content_name: Option<String>,
    /// When the last of its volumes was taken and the guest was thawed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<SnapshotPhase>,
    /// The VM can be restored from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SnapshotError>,
    /// Details by type: Ready, Progressing, Failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// State of the VM when it was taken; deprecated by KubeVirt in favour of sourceIndications.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indications: Vec<Indication>,
    /// State of the VM when it was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_indications: Vec<SourceIndication>,
    /// Which volumes of the VM are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_volumes: Option<SnapshotVolumes>,
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotPhase {
    /// It is being taken.
    InProgress,
    /// It was taken.
    Succeeded,
    /// It was not taken before its deadline.
    Failed,
    /// It is deleted before it was taken.
    Deleting,
    /// Not known.
    Unknown,
}

impl fmt::Display for SnapshotPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// State of a VM when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Indication {
    /// It ran.
    Online,
    /// The guest agent did not answer: the contents are as after a power cut.
    NoGuestAgent,
    /// The guest agent froze the file systems.
    GuestAgent,
    /// They were thawed before the last volume was taken.
    QuiesceTimeout,
    /// The guest stood still.
    Paused,
}

/// An indication, with its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceIndication {
    /// Which.
    pub indication: Indication,
    /// In a sentence.
    pub message: String,
}

/// Names of a VM's volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotVolumes {
    /// In the snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_volumes: Vec<String>,
    /// Not in it: they are not on a claim of Sheaf's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_volumes: Vec<String>,
}
