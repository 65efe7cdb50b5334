//! VirtualMachineInstanceReplicaSet, `kubevirt.io/v1`: so many instances of one template, none of which is worth keeping.
//!
//! Why here: names and meanings are KubeVirt's. Route in: a manifest, or `kubectl scale`. Route out: VirtualMachineInstances
//! that the replica set owns, and the status that people and autoscalers read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    crd::rule::{Reason, Rule},
    selector,
    status::Condition,
    vm::VirtualMachineInstanceTemplate,
};

/// So many instances of one template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachineInstanceReplicaSet",
    plural = "virtualmachineinstancereplicasets",
    shortname = "vmirs",
    shortname = "vmirss",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "VirtualMachineInstanceReplicaSetStatus",
    doc = "Keeps a number of instances of one template.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.labelSelector"
    ),
    printcolumn = r#"{"name":"Desired","type":"integer","description":"Number of desired VirtualMachineInstances","jsonPath":".spec.replicas"}"#,
    printcolumn = r#"{"name":"Current","type":"integer","description":"Number of instances that are neither over nor being deleted","jsonPath":".status.replicas"}"#,
    printcolumn = r#"{"name":"Ready","type":"integer","description":"Number of instances that are Ready","jsonPath":".status.readyReplicas"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceReplicaSetSpec {
    /// How many instances. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: Option<i32>,
    /// Labels by which its instances are known. An instance whose labels no longer match is released: it keeps running, and
    /// another takes its place.
    #[schemars(schema_with = "selector::schema")]
    pub selector: LabelSelector,
    /// Template of its instances. A change takes effect for those that are created later.
    pub template: VirtualMachineInstanceTemplate,
    /// True: no instance is created or deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

impl VirtualMachineInstanceReplicaSetSpec {
    /// How many instances are wanted.
    pub fn wanted(&self) -> usize {
        self.replicas.map_or(1, |replicas| usize::try_from(replicas).unwrap_or(0))
    }
}

/// What is observed of a replica set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceReplicaSetStatus {
    /// Instances that are neither over nor being deleted.
    #[serde(default)]
    pub replicas: i32,
    /// Those of them that are Ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Details by type: ReplicaFailure, ReplicaPaused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The selector as a string, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<String>,
}

/// Of the spec of a replica set.
pub(crate) const RULES: &[Rule] = selector::rules!("template");

/// Of the spec of its instances: nothing in it outlives an instance, or is written by several.
pub(crate) const INSTANCE: &[Rule] = &[
    Rule {
        at: "",
        rule: "!has(self.volumes) || self.volumes.all(v, !has(v.persistentVolumeClaim) && !has(v.dataVolume) && \
               (!has(v.hostDisk) || v.hostDisk.path.startsWith('/data/images/')))",
        says: "all instances would write to one disk; use containerDisk, emptyDisk or an image of /data/images, or a \
               VirtualMachinePool, whose VMs have disks of their own",
        field: ".volumes",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain",
        rule: "!has(self.firmware) || !has(self.firmware.bootloader) || !has(self.firmware.bootloader.efi) || \
               !has(self.firmware.bootloader.efi.persistent) || !self.firmware.bootloader.efi.persistent",
        says: "an instance of a replica set is not started again, so its variables have no use afterwards; remove \
               persistent, or use a VirtualMachinePool",
        field: ".firmware.bootloader.efi.persistent",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain.devices",
        rule: "!has(self.tpm) || !has(self.tpm.persistent) || !self.tpm.persistent",
        says: "an instance of a replica set is not started again, so its TPM has no use afterwards; remove persistent, or \
               use a VirtualMachinePool",
        field: ".tpm.persistent",
        reason: Reason::Forbidden,
    },
];
