//! VirtualMachineClone, `clone.kubevirt.io/v1beta1`: another VM like one, or like a snapshot of one.
//!
//! Why here: names and meanings are KubeVirt's. Route in: a manifest. Route out: a VirtualMachineSnapshot and a
//! VirtualMachineRestore that the clone owns, a VM, and the status that people and tools wait for.

use std::{collections::BTreeMap, fmt};

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
pub const GROUP: &str = "clone.kubevirt.io";

/// Makes another VM like one, or like a snapshot of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "clone.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineClone",
    plural = "virtualmachineclones",
    shortname = "vmclone",
    shortname = "vmclones",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "VirtualMachineCloneStatus",
    doc = "Makes another VM like one, or like a snapshot of one.",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"SourceVirtualMachine","type":"string","jsonPath":".spec.source.name"}"#,
    printcolumn = r#"{"name":"TargetVirtualMachine","type":"string","jsonPath":".spec.target.name"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineCloneSpec {
    /// A VirtualMachine or a VirtualMachineSnapshot of the same namespace.
    pub source: Reference,
    /// The VirtualMachine to create. Default: one of a name that the status shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Reference>,
    /// Which annotations of the VM are copied: those that a filter names, `*` at the end standing for anything, and none
    /// that a filter with `!` at the start names. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 253), regex(pattern = r"^(!?[^!*]+\*?|!?\*)$")))]
    pub annotation_filters: Option<Vec<String>>,
    /// Which labels of the VM are copied, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 253), regex(pattern = r"^(!?[^!*]+\*?|!?\*)$")))]
    pub label_filters: Option<Vec<String>>,
    /// The same for the template of its instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateFilters>,
    /// MAC addresses by the name of their interface. Default: new ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub new_mac_addresses: BTreeMap<String, MacAddress>,
    /// SMBIOS serial number. Default: none.
    #[serde(default, rename = "newSMBiosSerial", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,128}$"))]
    pub new_smbios_serial: Option<String>,
    /// JSON patches of the VM, each an operation as a string; of its spec, labels and annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 2048)))]
    pub patches: Vec<String>,
}

/// A MAC address; none is the same as no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct MacAddress(
    #[schemars(length(max = 17), regex(pattern = r"^([0-9a-fA-F][02468aceACE]([:-][0-9a-fA-F]{2}){5})?$"))]
    pub String,
);

/// Which labels and annotations of the template are copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateFilters {
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 253), regex(pattern = r"^(!?[^!*]+\*?|!?\*)$")))]
    pub annotation_filters: Option<Vec<String>>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 253), regex(pattern = r"^(!?[^!*]+\*?|!?\*)$")))]
    pub label_filters: Option<Vec<String>>,
}

/// What is observed of a clone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineCloneStatus {
    /// When it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ClonePhase>,
    /// Details by type: Ready, Progressing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The snapshot that it is made from, while it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_name: Option<String>,
    /// The restore that makes it, while it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_name: Option<String>,
    /// The VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_name: Option<String>,
}

/// How far a clone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClonePhase {
    /// The snapshot is being taken.
    SnapshotInProgress,
    /// The VM is being created.
    CreatingTargetVM,
    /// The volumes are being made.
    RestoreInProgress,
    /// The VM is there.
    Succeeded,
    /// There will be no VM.
    Failed,
    /// Not known.
    Unknown,
}

impl fmt::Display for ClonePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Of a VirtualMachineClone.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        at: "spec.source",
        rule: "has(self.apiGroup) && (self.apiGroup == 'kubevirt.io' && self.kind == 'VirtualMachine' || \
               self.apiGroup == 'snapshot.kubevirt.io' && self.kind == 'VirtualMachineSnapshot')",
        says: "a clone is of a VirtualMachine (apiGroup: kubevirt.io) or of a VirtualMachineSnapshot (apiGroup: \
               snapshot.kubevirt.io)",
        field: ".kind",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.target",
        rule: "has(self.apiGroup) && self.apiGroup == 'kubevirt.io' && self.kind == 'VirtualMachine'",
        says: "a clone is a VM: set apiGroup: kubevirt.io and kind: VirtualMachine",
        field: ".kind",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "!has(self.target) || self.source.kind != 'VirtualMachine' || self.target.name != self.source.name",
        says: "source and target are the same VM; name another target",
        field: ".target.name",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self == oldSelf",
        says: "a VirtualMachineClone cannot be changed; create another",
        field: "",
        reason: Reason::Forbidden,
    },
];
