//! VirtualMachineInstance: one run of a virtual machine, from start to stop, on one node.
//!
//! Why here: it is what the scheduler places and the agent runs. Of its spec only volumes that are hotpluggable and their disks,
//! interfaces of multus networks, links and its size change while it is there; any other change of a VM takes effect with its next instance. Route in: the VM controller, or a user's manifest. Route out: the placeholder
//! Pod, and the status the controller copies back from it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, PodDNSConfig, Toleration, TopologySpreadConstraint};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::AccessCredential,
    devices::{Devices, Disk, Interface},
    domain::DomainSpec,
    firmware::Efi,
    peripherals::Tpm,
    status::VirtualMachineInstanceStatus,
    volumes::Volume,
};

/// One run of a virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachineInstance",
    plural = "virtualmachineinstances",
    shortname = "vmi",
    shortname = "vmis",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "VirtualMachineInstanceStatus",
    doc = "One run of a virtual machine, on one node.",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"IP","type":"string","jsonPath":".status.interfaces[0].ipAddress"}"#,
    printcolumn = r#"{"name":"NodeName","type":"string","jsonPath":".status.nodeName"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Live-Migratable","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='LiveMigratable')].status"}"#,
    printcolumn = r#"{"name":"Paused","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='Paused')].status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceSpec {
    /// The virtual hardware.
    pub domain: DomainSpec,
    /// What is behind the disks; each is used by the disk of the same name. A volume without one gets a virtio disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub volumes: Vec<Volume>,
    /// What is behind the interfaces; each is used by the interface of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub networks: Vec<Network>,
    /// Claims of dynamic resource allocation, as of a Pod, of which gpus and hostDevices may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub resource_claims: Vec<ResourceClaim>,
    /// SSH keys and passwords of the guest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub access_credentials: Vec<AccessCredential>,
    /// Host name given to the guest by cloud-init. Default: the VMI's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub hostname: Option<String>,
    /// Labels that the node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Wishes and demands about the node and about VMs beside it, as of a Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Node taints that this VM may be placed in spite of, as of a Pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// How VMs are spread over nodes, as of a Pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// PriorityClass: which VMs are placed first when nodes are full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    /// Seconds from pressing the power button until the VM is destroyed when it is stopped. Default: 180.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub termination_grace_period_seconds: Option<i64>,
    /// What a drain of the node does. VMs are not migrated yet: each is shut down and started on another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_strategy: Option<EvictionStrategy>,
    /// Paused: the VM starts paused, and waits until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_strategy: Option<StartStrategy>,
    /// Scheduler that chooses the node. Default: default-scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub scheduler_name: Option<String>,
    /// amd64, the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
    /// Subdomain of the Pod's name in the cluster's DNS, which a headless Service of that name gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub subdomain: Option<String>,
    /// Accepted; the guest has its name servers from its networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_policy: Option<DnsPolicy>,
    /// Accepted; the guest has its name servers from its networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<PodDNSConfig>,
}

/// A claim of dynamic resource allocation; exactly one of resourceClaimName and resourceClaimTemplateName.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceClaim {
    /// Its name in this VM.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// A ResourceClaim of the VM's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub resource_claim_name: Option<String>,
    /// A ResourceClaimTemplate of the VM's namespace, of which each instance gets a claim of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub resource_claim_template_name: Option<String>,
}

/// What a drain of the node does with a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EvictionStrategy {
    /// It is shut down.
    None,
    /// It is migrated, as soon as Sheaf migrates VMs; until then it is shut down.
    LiveMigrate,
    /// It is migrated if it can be, or shut down.
    LiveMigrateIfPossible,
}

/// How a VM starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StartStrategy {
    /// Its processors wait until the VM is resumed.
    Paused,
}

/// Architecture of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
}

/// Name servers of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // Kubernetes' own words
pub enum DnsPolicy {
    ClusterFirstWithHostNet,
    ClusterFirst,
    Default,
    None,
}

/// A network; exactly one of pod and multus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// Name of the interface that connects the guest to it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// The node's bridge br0, that is the network of the node's first uplink (Sheaf has no cluster Pod network).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodNetwork>,
    /// A bridge of the node, or VLANs of it, by a NetworkAttachmentDefinition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multus: Option<MultusNetwork>,
}

/// The node's bridge br0; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PodNetwork {}

/// A network that a NetworkAttachmentDefinition describes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultusNetwork {
    /// The NetworkAttachmentDefinition: `name` in the VM's namespace, or `namespace/name`.
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?/)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub network_name: String,
}

impl MultusNetwork {
    /// Namespace and name, for a VM of `namespace`.
    pub fn place<'a>(&'a self, namespace: &'a str) -> (&'a str, &'a str) {
        self.network_name.split_once('/').unwrap_or((namespace, &self.network_name))
    }
}

impl VirtualMachineInstanceSpec {
    /// The devices of the domain.
    pub fn devices(&self) -> &Devices {
        &self.domain.devices
    }

    /// Whether the VM has UEFI variables or a TPM that outlive an instance, on the node that it ran on.
    pub fn keeps_state(&self) -> bool {
        let efi = self.domain.firmware.as_ref().and_then(|firmware| firmware.efi());
        let tpm = self.domain.devices.tpm.as_ref();
        efi.is_some_and(Efi::is_persistent) || tpm.is_some_and(Tpm::is_persistent)
    }

    /// The volume called `name`.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }

    /// The disk called `name`.
    pub fn disk(&self, name: &str) -> Option<&Disk> {
        self.domain.devices.disks.iter().find(|disk| disk.name == name)
    }

    /// Volumes whose disks are added to the VM while it runs.
    pub fn hotpluggable(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.iter().filter(|volume| volume.is_hotpluggable())
    }

    /// Those of them that are media of CD-ROM drives.
    pub fn media(&self) -> impl Iterator<Item = &Volume> {
        self.hotpluggable().filter(|volume| self.disk(&volume.name).is_some_and(Disk::is_drive))
    }

    /// The spec without them and their disks: what the VM starts with. Drives stay, without their media.
    #[must_use]
    pub fn without_hotpluggable(&self) -> Self {
        let mut spec = self.clone();
        let is_added = |disk: &Disk| self.hotpluggable().any(|volume| volume.name == disk.name);
        spec.domain.devices.disks.retain(|disk| disk.is_drive() || !is_added(disk));
        spec.volumes.retain(|volume| !volume.is_hotpluggable());
        spec
    }

    /// The interface called `name`.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.domain.devices.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The spec without the interfaces that `is_left_out` selects, and their networks. If none is left, the VM has none.
    #[must_use]
    pub fn without_interfaces(&self, is_left_out: impl Fn(&Interface) -> bool) -> Self {
        let mut spec = self.clone();
        let devices = &mut spec.domain.devices;
        devices.interfaces.retain(|interface| !is_left_out(interface));
        // An empty list would mean the default interface.
        if devices.interfaces.is_empty() && !self.domain.devices.interfaces.is_empty() {
            devices.autoattach_pod_interface = Some(false);
        }
        spec.networks.retain(|network| !self.interface(&network.name).is_some_and(&is_left_out));
        spec
    }

    /// The network called `name`.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }
}
