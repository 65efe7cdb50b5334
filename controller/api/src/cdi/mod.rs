//! DataVolume, `cdi.kubevirt.io/v1beta1`: a claim together with what is in it at first. [`CdiConfig`] says where clients
//! send images.
//!
//! Why here: it is how KubeVirt's manifests ask for disks, alone or as a VM's `dataVolumeTemplates`; names and meanings
//! are CDI's, and what Sheaf does not do is refused by name ([`crate::crd`]). Route in: a manifest. Route out: a
//! PersistentVolumeClaim of the same name, whose volume the node fills, and the status that CDI's tools look for.

mod config;
pub(crate) mod rules;
mod status;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    quantity::Amount,
    storage::local_volume::{Blank, RegistrySource, Upload},
};
pub use config::{CDI_CONFIG, CdiConfig, CdiConfigSpec, CdiConfigStatus};
pub use status::{DataVolumePhase, DataVolumeStatus};

/// API group and version.
pub const CDI_API_VERSION: &str = "cdi.kubevirt.io/v1beta1";

/// Scheme of the URL of a container disk.
const DOCKER: &str = "docker://";

/// A PersistentVolumeClaim and its initial contents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "cdi.kubevirt.io",
    version = "v1beta1",
    kind = "DataVolume",
    plural = "datavolumes",
    shortname = "dv",
    shortname = "dvs",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "DataVolumeStatus",
    doc = "A PersistentVolumeClaim and its initial contents.",
    printcolumn = r#"{"name":"Phase","type":"string","description":"Phase","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Progress","type":"string","description":"Progress, where it is known","jsonPath":".status.progress"}"#,
    printcolumn = r#"{"name":"Restarts","type":"integer","jsonPath":".status.restartCount"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeSpec {
    /// Its initial contents; exactly one.
    pub source: DataVolumeSource,
    /// The claim; Sheaf chooses what is left out. Exactly one of storage and pvc is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<ClaimSpec>,
    /// Spec of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<ClaimSpec>,
    /// What the source holds: the image of a disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
}

impl DataVolumeSpec {
    /// The claim, whichever of the two fields asks for it.
    pub fn claim(&self) -> ClaimSpec {
        self.storage.clone().or_else(|| self.pvc.clone()).unwrap_or_default()
    }
}

/// Contents of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    /// The image of a disk.
    Kubevirt,
}

/// What is in a DataVolume at first; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataVolumeSource {
    /// Nothing: it reads as zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blank: Option<Blank>,
    /// An image from a server: raw or qcow2, plain or compressed by xz, zstd or gzip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpImage>,
    /// The contents of another claim at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<SourceName>,
    /// The contents of a VolumeSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SourceName>,
    /// The disk in a container disk of a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryImage>,
    /// An image that a client sends to the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

/// A container disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryImage {
    /// `docker://` and the image, for example `docker://quay.io/containerdisks/debian:13`.
    #[schemars(length(max = 1024))]
    pub url: String,
    /// Both mean the same here: the node pulls the image, and keeps it for the next volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_method: Option<PullMethod>,
    /// Secret of the same namespace with a user name (accessKeyId) and a password (secretKey) of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub secret_ref: Option<String>,
    /// ConfigMap of the same namespace with certificate authorities of the registry in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub cert_config_map: Option<String>,
}

impl RegistryImage {
    /// What the node is asked for.
    pub fn to_source(&self) -> RegistrySource {
        RegistrySource {
            image: self.url.strip_prefix(DOCKER).unwrap_or(&self.url).to_owned(),
            secret_ref: self.secret_ref.clone(),
            cert_config_map: self.cert_config_map.clone(),
        }
    }
}

/// Who pulls an image, in CDI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PullMethod {
    /// CDI's importer.
    Pod,
    /// The node.
    Node,
}

/// An image from a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpImage {
    /// Its URL: http or https.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// SHA-256 of the file as the server sends it: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub checksum: Option<String>,
    /// Secret of the same namespace with a user name (accessKeyId) and a password (secretKey) for HTTP basic
    /// authentication. Needs https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub secret_ref: Option<String>,
    /// ConfigMap of the same namespace with certificate authorities in PEM: they alone are trusted for this image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub cert_config_map: Option<String>,
    /// Secrets of the same namespace whose values are headers, `X-Token: value`. Needs https.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))
    )]
    pub secret_extra_headers: Vec<String>,
}

/// A claim or snapshot that is copied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceName {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace: the DataVolume's own. Default: that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
}

/// The part of a PersistentVolumeClaim's spec that a DataVolume gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSpec {
    /// Access modes. Default in storage: ReadWriteOnce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub access_modes: Vec<AccessMode>,
    /// Its size. Default in storage, for a copy: the size of its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ClaimResources>,
    /// StorageClass. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// Either gives a VM a raw disk. Default: Block in storage, Filesystem in pvc, as in CDI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<VolumeMode>,
}

impl ClaimSpec {
    /// How large it is to be.
    pub fn size(&self) -> Option<&Amount> {
        self.resources.as_ref()?.requests.get("storage")
    }
}

/// Requests by resource name; only storage is accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimResources {
    /// storage: the size.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Amount>,
}

/// Access modes of a claim, as in Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(clippy::enum_variant_names)] // Kubernetes' words
pub enum AccessMode {
    /// Pods of one node.
    ReadWriteOnce,
    /// One Pod.
    ReadWriteOncePod,
    /// Refused: a volume is on one node.
    ReadWriteMany,
    /// Refused: a volume is on one node.
    ReadOnlyMany,
}

/// Volume mode, as in Kubernetes; VMs get a raw disk in both modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumeMode {
    /// A device.
    Block,
    /// A folder.
    Filesystem,
}

/// A DataVolume that a VirtualMachine creates and owns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeTemplate {
    /// Optional: cdi.kubevirt.io/v1beta1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^cdi\.kubevirt\.io/v1beta1$"))]
    pub api_version: Option<String>,
    /// Optional: DataVolume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^DataVolume$"))]
    pub kind: Option<String>,
    /// Its name, labels and annotations.
    pub metadata: DataVolumeTemplateMetadata,
    /// Spec of the DataVolume.
    pub spec: DataVolumeSpec,
}

/// The part of a DataVolume's metadata that a template gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeTemplateMetadata {
    /// Its name, in the VM's namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Ignored in a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
}
