//! VirtualMachine: a virtual machine that exists whether it runs or not.
//!
//! Why here: it is what users write. Route in: a manifest. Route out: a VirtualMachineInstance made from
//! `template` whenever the run strategy wants one, and the status the controller writes.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    cdi::DataVolumeTemplate, instancetype::Matcher, status::VirtualMachineStatus,
    vmi::VirtualMachineInstanceSpec,
};

/// A virtual machine: its specification, and when it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachine",
    plural = "virtualmachines",
    shortname = "vm",
    shortname = "vms",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "VirtualMachineStatus",
    doc = "A virtual machine: its specification, and when it runs.",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Status","type":"string","description":"Human-readable status","jsonPath":".status.printableStatus"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineSpec {
    /// When the VM runs. Exactly one of runStrategy and running is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_strategy: Option<RunStrategy>,
    /// Deprecated by KubeVirt in favour of runStrategy: true is Always, false is Halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// Sizes: CPU and memory come from it, and the template sets neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instancetype: Option<Matcher>,
    /// What the VM has when its template does not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<Matcher>,
    /// Disks that belong to the VM: created with it, kept when it stops, deleted with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub data_volume_templates: Vec<DataVolumeTemplate>,
    /// Template of the next instance; a change takes effect at the next start.
    pub template: VirtualMachineInstanceTemplate,
}

impl VirtualMachineSpec {
    /// The strategy asked for, whichever of the two fields asks.
    pub fn strategy(&self) -> RunStrategy {
        match (self.run_strategy, self.running) {
            (Some(strategy), _) => strategy,
            (None, Some(true)) => RunStrategy::Always,
            (None, _) => RunStrategy::Halted,
        }
    }
}

/// When a VM runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunStrategy {
    /// Always: started again after any stop, its own included.
    Always,
    /// Never.
    Halted,
    /// Started and stopped by request only.
    Manual,
    /// Started again after a failure; left alone after it shut itself down.
    RerunOnFailure,
    /// Started once, and left alone however that ends.
    Once,
}

impl fmt::Display for RunStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What instances are made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualMachineInstanceTemplate {
    /// Labels and annotations of the instance and of its Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Spec of the instance.
    pub spec: VirtualMachineInstanceSpec,
}

/// The part of an instance's metadata that a template gives; name and creationTimestamp are accepted, because
/// tools write them, and have no meaning here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels of the instance and of its Pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Ignored: an instance has the name of its VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Ignored in a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
}
