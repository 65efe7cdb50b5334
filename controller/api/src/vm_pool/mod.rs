//! VirtualMachinePool, `pool.kubevirt.io/v1beta1`: so many VMs of one template, numbered.
//!
//! Why here: names and meanings are KubeVirt's; what is not done is refused by name. Route in: a manifest, or `kubectl scale`.
//! Route out: VirtualMachines that the pool owns, the ControllerRevisions of its template, and its status.

use std::collections::BTreeMap;

use k8s_openapi::{
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, Time},
        util::intstr::IntOrString,
    },
    jiff::Timestamp,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{selector, status::Condition, vm::VirtualMachineSpec};

pub mod rules;
pub mod strategy;

use strategy::{ScaleInStrategy, SortPolicy, UpdateStrategy};

/// Label of a pool's VM, and of its instance: the ControllerRevision that it was made from.
pub const REVISION_LABEL: &str = "kubevirt.io/vm-pool-revision-name";

/// So many VMs of one template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "pool.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachinePool",
    plural = "virtualmachinepools",
    shortname = "vmpool",
    shortname = "vmpools",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "VirtualMachinePoolStatus",
    doc = "Keeps a number of VMs of one template: NAME-0, NAME-1, …",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.labelSelector"
    ),
    printcolumn = r#"{"name":"Desired","type":"integer","description":"Number of desired VirtualMachines","jsonPath":".spec.replicas"}"#,
    printcolumn = r#"{"name":"Current","type":"integer","description":"Number of VirtualMachines that the pool has","jsonPath":".status.replicas"}"#,
    printcolumn = r#"{"name":"Ready","type":"integer","description":"Number of VirtualMachines that are Ready","jsonPath":".status.readyReplicas"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachinePoolSpec {
    /// How many VMs. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: Option<i32>,
    /// Labels by which its VMs are known. A VM whose labels no longer match is released: it stays, and another takes its place.
    #[schemars(schema_with = "selector::schema")]
    pub selector: LabelSelector,
    /// Template of its VMs.
    pub virtual_machine_template: VirtualMachineTemplate,
    /// True: no VM is created, changed or deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Which names in the template get the number of the VM at their end; those of dataVolumeTemplates always do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_generation: Option<NameGeneration>,
    /// So many VMs, or percent of replicas, may be without a Ready instance while instances are restarted with a changed
    /// template. Default: 100%. At least one is restarted at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// Which VMs are deleted when there are more than replicas. Default: proactive, the highest number first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_in_strategy: Option<ScaleInStrategy>,
    /// What a changed template does to VMs. Default: proactive, which restarts their instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
}

/// What VMs are made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualMachineTemplate {
    /// Labels and annotations of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<VirtualMachineTemplateMetadata>,
    /// Spec of the VM.
    pub spec: VirtualMachineSpec,
}

/// The part of a VM's metadata that a pool gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineTemplateMetadata {
    /// Labels of the VM.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the VM.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Ignored: a VM has the name of its pool and its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Ignored in a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
}

/// Which names in the template get the number of the VM at their end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameGeneration {
    /// The Secrets of cloud-init disks and of volumes `secret`: each VM has its own. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_index_to_secret_refs: Option<bool>,
    /// The ConfigMaps of volumes `configMap`: each VM has its own. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_index_to_config_map_refs: Option<bool>,
}

/// What is observed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachinePoolStatus {
    /// VMs that the pool has, those being deleted among them.
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

impl VirtualMachinePoolSpec {
    /// How many VMs are wanted.
    pub fn wanted(&self) -> usize {
        self.replicas.map_or(1, |replicas| usize::try_from(replicas).unwrap_or(0))
    }

    /// How many VMs may be without a Ready instance during an update; at least one.
    pub fn unavailable(&self) -> usize {
        let most = match &self.max_unavailable {
            None => self.wanted(),
            Some(IntOrString::Int(many)) => usize::try_from(*many).unwrap_or(0),
            Some(IntOrString::String(text)) => {
                let percent: usize = text.strip_suffix('%').and_then(|text| text.parse().ok()).unwrap_or(0);
                self.wanted().saturating_mul(percent) / 100
            }
        };
        most.max(1)
    }

    /// Whether Secrets get the number of the VM.
    pub fn numbers_secrets(&self) -> bool {
        self.name_generation.as_ref().and_then(|names| names.append_index_to_secret_refs).unwrap_or(false)
    }

    /// Whether ConfigMaps do.
    pub fn numbers_config_maps(&self) -> bool {
        self.name_generation.as_ref().and_then(|names| names.append_index_to_config_map_refs).unwrap_or(false)
    }
}

/// What a VM is sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number in its name.
    pub ordinal: Option<usize>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its UID, which is random.
    pub uid: String,
}

impl SortPolicy {
    /// Which of two comes first.
    pub fn compare(self, a: &Place, b: &Place) -> std::cmp::Ordering {
        match self {
            Self::AscendingOrder => a.ordinal.cmp(&b.ordinal),
            Self::DescendingOrder => b.ordinal.cmp(&a.ordinal),
            Self::Newest => b.created.cmp(&a.created),
            Self::Oldest => a.created.cmp(&b.created),
            Self::Random => a.uid.cmp(&b.uid),
        }
    }
}
