//! VolumeSnapshot and its partners, `snapshot.storage.k8s.io/v1`: what a claim held at one moment.
//!
//! Why here: it is Kubernetes' API for snapshots, which its clients and backup tools speak; the definitions are our own,
//! from these types, with what Sheaf does not do refused by name. Route in: a manifest. Route out: a LocalVolume of kind
//! Snapshot, and the status that `dataSource` of a claim waits for.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{CustomResource, core::TypeMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    crd::rule::{Reason, Rule},
    quantity::Amount,
};

/// API group.
pub const GROUP: &str = "snapshot.storage.k8s.io";
/// Finalizer of a VolumeSnapshot: held until its content is dealt with.
pub const SNAPSHOT_FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
/// Finalizer of a VolumeSnapshotContent: held while its VolumeSnapshot is there.
pub const CONTENT_FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
/// Annotation of the VolumeSnapshotClass for snapshots that name none. Value `true`.
pub const DEFAULT_CLASS_ANNOTATION: &str = "snapshot.storage.kubernetes.io/is-default-class";

/// The contents of a PersistentVolumeClaim at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "snapshot.storage.k8s.io",
    version = "v1",
    kind = "VolumeSnapshot",
    plural = "volumesnapshots",
    shortname = "vs",
    namespaced,
    derive = "PartialEq",
    status = "VolumeSnapshotStatus",
    doc = "The contents of a PersistentVolumeClaim at one time.",
    printcolumn = r#"{"name":"ReadyToUse","type":"boolean","jsonPath":".status.readyToUse"}"#,
    printcolumn = r#"{"name":"SourcePVC","type":"string","jsonPath":".spec.source.persistentVolumeClaimName"}"#,
    printcolumn = r#"{"name":"RestoreSize","type":"string","jsonPath":".status.restoreSize"}"#,
    printcolumn = r#"{"name":"SnapshotClass","type":"string","jsonPath":".spec.volumeSnapshotClassName"}"#,
    printcolumn = r#"{"name":"SnapshotContent","type":"string","jsonPath":".status.boundVolumeSnapshotContentName"}"#,
    printcolumn = r#"{"name":"CreationTime","type":"date","jsonPath":".status.creationTime"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotSpec {
    /// What it is of.
    pub source: SnapshotSource,
    /// VolumeSnapshotClass. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub volume_snapshot_class_name: Option<String>,
}

/// What a snapshot is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSource {
    /// A claim of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub persistent_volume_claim_name: Option<String>,
    /// Refused: contents are made by Sheaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub volume_snapshot_content_name: Option<String>,
}

/// What is observed of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotStatus {
    /// Its VolumeSnapshotContent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_volume_snapshot_content_name: Option<String>,
    /// The moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// A claim can be made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// The least size of a claim that is made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_size: Option<Amount>,
    /// Why it is not ready, if something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SnapshotError>,
}

/// What is wrong with a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotError {
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// In a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The cluster's object for a snapshot on its node; Sheaf creates it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "snapshot.storage.k8s.io",
    version = "v1",
    kind = "VolumeSnapshotContent",
    plural = "volumesnapshotcontents",
    shortname = "vsc",
    shortname = "vscs",
    derive = "PartialEq",
    status = "VolumeSnapshotContentStatus",
    doc = "The cluster's object for a snapshot on its node; Sheaf creates it.",
    printcolumn = r#"{"name":"ReadyToUse","type":"boolean","jsonPath":".status.readyToUse"}"#,
    printcolumn = r#"{"name":"RestoreSize","type":"integer","jsonPath":".status.restoreSize"}"#,
    printcolumn = r#"{"name":"DeletionPolicy","type":"string","jsonPath":".spec.deletionPolicy"}"#,
    printcolumn = r#"{"name":"Driver","type":"string","jsonPath":".spec.driver"}"#,
    printcolumn = r#"{"name":"VolumeSnapshotClass","type":"string","jsonPath":".spec.volumeSnapshotClassName"}"#,
    printcolumn = r#"{"name":"VolumeSnapshot","type":"string","jsonPath":".spec.volumeSnapshotRef.name"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotContentSpec {
    /// Whose it is.
    pub volume_snapshot_ref: SnapshotReference,
    /// What happens to the snapshot on the node when the VolumeSnapshot is deleted.
    pub deletion_policy: DeletionPolicy,
    /// Its driver: lvm.sheaf.dev.
    #[schemars(length(min = 1, max = 253))]
    pub driver: String,
    /// Its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_class_name: Option<String>,
    /// What it is of.
    pub source: ContentSource,
}

/// The VolumeSnapshot of a content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotReference {
    /// snapshot.storage.k8s.io/v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// VolumeSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// What a content is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContentSource {
    /// The LocalVolume.
    pub volume_handle: String,
}

/// What is observed of a content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotContentStatus {
    /// The LocalVolume of kind Snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_handle: Option<String>,
    /// The moment, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<i64>,
    /// A claim can be made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// Smallest size in bytes of a claim made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_size: Option<i64>,
    /// Why it is not ready, if something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SnapshotError>,
}

/// What becomes of what is on the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It is deleted too.
    #[default]
    Delete,
    /// It stays, for an administrator to deal with.
    Retain,
}

/// Which driver makes snapshots, and what happens to them on deletion. (This kind has no spec.)
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotClass {
    /// What it is: `kube` derives this only for kinds with a spec.
    #[schemars(skip)]
    #[serde(flatten)]
    pub types: Option<TypeMeta>,
    /// Name, labels, annotations.
    #[schemars(skip)]
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The driver of the snapshots: lvm.sheaf.dev.
    #[schemars(length(min = 1, max = 253))]
    pub driver: String,
    /// What happens to a snapshot on its node when its VolumeSnapshot is deleted.
    pub deletion_policy: DeletionPolicy,
    /// Settings of the driver; this driver has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

impl kube::Resource for VolumeSnapshotClass {
    type DynamicType = ();
    type Scope = k8s_openapi::ClusterResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "VolumeSnapshotClass".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        GROUP.into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "volumesnapshotclasses".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Of a VolumeSnapshot.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        at: "spec.source",
        rule: "!has(self.volumeSnapshotContentName)",
        says: "not supported by Sheaf; remove it",
        field: ".volumeSnapshotContentName",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec.source",
        rule: "has(self.persistentVolumeClaimName)",
        says: "name the claim to take a snapshot of",
        field: ".persistentVolumeClaimName",
        reason: Reason::Required,
    },
    Rule {
        at: "spec",
        rule: "self.source == oldSelf.source",
        says: "source cannot be changed; create another snapshot",
        field: ".source",
        reason: Reason::Forbidden,
    },
];

/// Of a VolumeSnapshotClass.
pub(crate) const CLASS_RULES: &[Rule] = &[Rule {
    at: "",
    rule: "self.driver != 'lvm.sheaf.dev' || !has(self.parameters) || size(self.parameters) == 0",
    says: "lvm.sheaf.dev has no parameters for snapshots; remove them",
    field: ".parameters",
    reason: Reason::Forbidden,
}];
