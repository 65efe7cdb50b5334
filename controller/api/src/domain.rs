//! The virtual hardware of a VM apart from its devices: CPU, memory, firmware, machine type.
//!
//! Why here: names and meanings are KubeVirt's, so that its manifests work; doc comments are what
//! `kubectl explain` shows. Route in: `spec.domain` of a VMI. Route out: the agent's domain XML.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::firmware::Firmware;
use crate::{
    clock::Clock,
    devices::Devices,
    disk_options::IoThreadsPolicy,
    features::Features,
    firmware::{Chassis, KernelBootContainer},
    quantity::Amount,
    words::words,
};

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
    /// What SMBIOS says of the chassis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chassis: Option<Chassis>,
    /// Features that are on or off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// Clock and timers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// Which threads of QEMU do the I/O of virtio disks. Default: QEMU's main thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_threads_policy: Option<IoThreadsPolicy>,
    /// Machine type. Default: q35.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// Disks, network interfaces and other devices.
    pub devices: Devices,
}

impl DomainSpec {
    /// The image with the kernel that boots the guest, if it is not booted from its disks.
    pub fn kernel_container(&self) -> Option<&KernelBootContainer> {
        self.firmware.as_ref()?.kernel_boot.as_ref()?.container.as_ref()
    }
}

/// Virtual CPU topology and model: sockets × cores × threads CPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
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
    /// The most sockets that the VM can grow to while it runs. Default: it does not grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub max_sockets: Option<u32>,
    /// Features of the CPU beside those of its model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub features: Vec<CpuFeature>,
    /// Each virtual CPU has a CPU of the node to itself; on nodes with the label cpumanager=true. The VM does not grow while it
    /// runs, and needs whole CPUs in requests and limits, if it has any. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedicated_cpu_placement: Option<bool>,
    /// One CPU more for the other threads of QEMU; needs dedicatedCpuPlacement. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolate_emulator_thread: Option<bool>,
    /// NUMA cells of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<Numa>,
}

/// NUMA cells of the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Numa {
    /// The guest has the cells of its CPUs on the node, each with memory of that cell; needs dedicatedCpuPlacement and hugepages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_mapping_passthrough: Option<GuestMappingPassthrough>,
}

/// The guest's NUMA cells are those of its CPUs; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GuestMappingPassthrough {}

impl Cpu {
    /// Whether each virtual CPU has a CPU of the node to itself.
    pub fn is_dedicated(&self) -> bool {
        self.dedicated_cpu_placement == Some(true)
    }

    /// CPUs of the node that the VM has to itself; none if they are shared.
    pub fn dedicated(&self) -> Option<u32> {
        let emulator = u32::from(self.isolate_emulator_thread == Some(true));
        self.is_dedicated().then(|| self.count().saturating_add(emulator))
    }

    /// Number of virtual CPUs; the schema bounds it, an annotation of a Pod may not.
    pub fn count(&self) -> u32 {
        let [sockets, cores, threads] =
            [self.sockets, self.cores, self.threads].map(|count| count.unwrap_or(1));
        sockets.saturating_mul(cores).saturating_mul(threads)
    }
}

/// A feature of the CPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuFeature {
    /// Its name in libvirt.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"))]
    pub name: String,
    /// Default: require.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<CpuFeaturePolicy>,
}

impl CpuFeature {
    /// Its policy.
    pub fn policy(&self) -> CpuFeaturePolicy {
        self.policy.unwrap_or(CpuFeaturePolicy::Require)
    }
}

words! {
    /// Whether the guest has a feature of the CPU.
    CpuFeaturePolicy {
        /// It has it, whether or not the node's CPU does.
        Force = "force",
        /// It has it; the VM does not start on a CPU without it.
        Require = "require",
        /// It has it if the node's CPU does.
        Optional = "optional",
        /// It does not have it.
        Disable = "disable",
        /// The VM does not start on a CPU that has it.
        Forbid = "forbid",
    }
}

/// Guest memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Memory that the guest sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Amount>,
    /// The most memory that the VM can grow to while it runs, in steps of 2Mi; not on huge pages. Default: it does not grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_guest: Option<Amount>,
    /// Puts the guest's memory on huge pages of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepages: Option<Hugepages>,
}

impl Memory {
    /// Size of the huge pages, if the guest is on such.
    pub fn page_size(&self) -> Option<PageSize> {
        self.hugepages.as_ref().map(|pages| pages.page_size)
    }
}

/// Huge pages of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hugepages {
    /// 2Mi or 1Gi; the guest's memory is a multiple of it.
    pub page_size: PageSize,
}

/// Size of a huge page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names say it
pub enum PageSize {
    #[serde(rename = "2Mi")]
    Mi2,
    #[serde(rename = "1Gi")]
    Gi1,
}

impl PageSize {
    /// Bytes of a page.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Mi2 => 2 << 20,
            Self::Gi1 => 1 << 30,
        }
    }

    /// The resource of a node that counts them.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Mi2 => "hugepages-2Mi",
            Self::Gi1 => "hugepages-1Gi",
        }
    }
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

/// Machine type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// q35, or a version of it such as pc-q35-10.0.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = r"^(q35|pc-q35-[0-9]{1,2}\.[0-9]{1,2})$"))]
    pub type_: String,
}
