//! VirtualMachineExport, `export.kubevirt.io`: disks of a VM, of a snapshot or of a claim, to be downloaded by clients
//! with its token.
//!
//! Why here: names and meanings are KubeVirt's, whose `virtctl vmexport` and backup tools read them. Two versions are served,
//! v1beta1 and v1, which are the same. What a node has to know of an export is in [`ExportedVolumes`]. Route in: a manifest.
//! Route out: an exporter Pod for each node with volumes of the export, and the links in the status.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    crd::rule::{Reason, Rule},
    status::Condition,
    vm_snapshot::Reference,
};

/// API group.
pub const GROUP: &str = "export.kubevirt.io";
/// The version beside the one that is stored.
pub const LATER_VERSION: &str = "v1";
/// Header with the token of an export.
pub const TOKEN_HEADER: &str = "x-kubevirt-export-token";
/// Key of the token in its Secret.
pub const TOKEN_KEY: &str = "token";

/// Disks of a VM, of a snapshot or of a claim, to be downloaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "export.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineExport",
    plural = "virtualmachineexports",
    shortname = "vmexport",
    shortname = "vmexports",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "VirtualMachineExportStatus",
    doc = "Disks of a VM, of a snapshot or of a claim, to be downloaded.",
    printcolumn = r#"{"name":"SourceKind","type":"string","jsonPath":".spec.source.kind"}"#,
    printcolumn = r#"{"name":"SourceName","type":"string","jsonPath":".spec.source.name"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineExportSpec {
    /// A VirtualMachine, a VirtualMachineSnapshot or a PersistentVolumeClaim of the same namespace.
    pub source: Reference,
    /// Secret of the same namespace whose key `token` a download is to send. Default: one that Sheaf creates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub token_secret_ref: Option<String>,
    /// How long after its creation the export is deleted, as 30m0s. Default: 2h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(h|m|s|ms|us|µs|ns))+$"))]
    pub ttl_duration: Option<String>,
}

/// What is observed of an export.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineExportStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ExportPhase>,
    /// Where its volumes are downloaded, while it is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<ExportLinks>,
    /// The Secret with its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<String>,
    /// When it is deleted.
    #[serde(default, rename = "ttlExpirationTime", skip_serializing_if = "Option::is_none")]
    pub ttl_expiration_time: Option<Time>,
    /// Not used by Sheaf: an export has no Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// The VM that the volumes are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_machine_name: Option<String>,
    /// Details by type: Ready, PVCReady, VolumesCreated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// How far an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExportPhase {
    /// It waits for its source; its condition Ready says why.
    Pending,
    /// It can be downloaded.
    Ready,
    /// Its time is over.
    Terminated,
    /// Its source has no volumes.
    Skipped,
}

impl fmt::Display for ExportPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Links by where they are used. Sheaf has one listener for both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExportLinks {
    /// From inside of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal: Option<ExportLink>,
    /// From outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExportLink>,
}

/// Where an export is downloaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExportLink {
    /// The authority, in PEM, that signed the server's certificate.
    pub cert: String,
    /// Its volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volumes: Vec<ExportVolume>,
    /// Manifests that import them elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub manifests: Vec<ExportManifest>,
}

/// A volume of an export.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExportVolume {
    /// Its name: that of its claim.
    pub name: String,
    /// In which formats it is downloaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["format"]))]
    pub formats: Vec<ExportFormat>,
}

/// A volume in one format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExportFormat {
    /// Which.
    pub format: Format,
    /// Where.
    pub url: String,
}

/// Formats of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// The same, compressed by gzip.
    Gzip,
}

/// A manifest of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExportManifest {
    /// Which.
    #[serde(rename = "type")]
    pub type_: ManifestType,
    /// Where.
    pub url: String,
}

/// Manifests of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ManifestType {
    /// The VM, its DataVolumes and the authority of the server.
    All,
    /// A Secret that lets CDI send the token.
    AuthHeaderSecret,
}

/// What an exporter Pod lets its node hand out: JSON in [`crate::names::EXPORT_ANNOTATION`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportedVolumes {
    /// Until when.
    pub expires: Time,
    /// The Secret with the token.
    pub secret: String,
    /// The volumes.
    pub volumes: Vec<ExportedVolume>,
}

/// A volume that a node hands out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportedVolume {
    /// Its name in the export.
    pub name: String,
    /// Its LocalVolume.
    pub volume: String,
    /// Its size.
    pub bytes: u64,
}

/// Of a VirtualMachineExport.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        at: "spec.source",
        rule: "self.kind == 'PersistentVolumeClaim' ? self.?apiGroup.orValue('') == '' : \
               has(self.apiGroup) && (self.apiGroup == 'kubevirt.io' && self.kind == 'VirtualMachine' || \
               self.apiGroup == 'snapshot.kubevirt.io' && self.kind == 'VirtualMachineSnapshot')",
        says: "an export is of a VirtualMachine (apiGroup: kubevirt.io), of a VirtualMachineSnapshot (apiGroup: \
               snapshot.kubevirt.io) or of a PersistentVolumeClaim (apiGroup: \"\")",
        field: ".kind",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self == oldSelf",
        says: "a VirtualMachineExport cannot be changed; create another",
        field: "",
        reason: Reason::Forbidden,
    },
];
