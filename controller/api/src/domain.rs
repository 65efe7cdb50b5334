//! The virtual hardware of a VM apart from its devices: CPU, memory, firmware, machine type.
//!
//! Why here: names and meanings are KubeVirt's, so that its manifests work; doc comments are what
//! `kubectl explain` shows. Route in: `spec.domain` of a VMI. Route out: the agent's domain XML.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{devices::Devices, quantity::Amount};

/// The virtual machine's hardware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainSpec {
    /// Virtual CPUs. Default: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory that the guest sees. Default: resources.requests.memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// What the scheduler sets aside on the node. Default for cpu: a tenth of a core per virtual CPU; for
    /// memory: guest memory plus what QEMU itself needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Firmware settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Machine type. Default: q35.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// Disks, network interfaces and other devices.
    pub devices: Devices,
}

/// Virtual CPU topology and model: sockets × cores × threads CPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cpu {
    /// Cores per socket. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub cores: Option<u32>,
    /// Sockets. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub sockets: Option<u32>,
    /// Threads per core. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8))]
    pub threads: Option<u32>,
    /// host-model, host-passthrough or a CPU model that libvirt knows. Default: host-model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"))]
    pub model: Option<String>,
}

impl Cpu {
    /// Number of virtual CPUs; the schema bounds it, an annotation of a Pod may not.
    pub fn count(&self) -> u32 {
        let [sockets, cores, threads] =
            [self.sockets, self.cores, self.threads].map(|count| count.unwrap_or(1));
        sockets.saturating_mul(cores).saturating_mul(threads)
    }
}

/// Guest memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Memory that the guest sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Amount>,
}

/// Requests and limits by resource name; only cpu and memory are accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceRequirements {
    /// The least that the node must have free.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Amount>,
    /// The most that the VM's process can use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Amount>,
}

/// Firmware settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Firmware {
    /// UUID that the guest reads from its firmware. Default: derived from the VM's UID, the same at every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(
        pattern = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
    ))]
    pub uuid: Option<String>,
}

/// Machine type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// q35, or a version of it such as pc-q35-10.0.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = r"^(q35|pc-q35-[0-9]{1,2}\.[0-9]{1,2})$"))]
    pub type_: String,
}
