//! `sheaf.dev/v1alpha1` ClusterConfig: what an administrator decided for all VMs of the cluster, and for all who log in. There is one, `cluster`.
//!
//! Why here: how far memory is overcommitted, and which devices leave a node, concerns every tenant of a node, so no tenant may
//! choose it. Without the
//! object the defaults hold. Route in: an administrator's manifest. Route out: the controller's placeholder Pods, resources of
//! nodes, the API server's and the console's logins.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::rule::{Reason, Rule};
use crate::identity_provider::IdentityProvider;

/// Name of the one object.
pub const NAME: &str = "cluster";

/// Settings for the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "ClusterConfig",
    plural = "clusterconfigs",
    category = "sheaf",
    derive = "PartialEq",
    doc = "Settings for the whole cluster; the only object is called cluster.",
    printcolumn = r#"{"name":"Memory overcommit %","type":"integer","jsonPath":".spec.memoryOvercommitPercent"}"#,
    printcolumn = r#"{"name":"HA","type":"string","jsonPath":".spec.highAvailability"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfigSpec {
    /// Guest memory that may be promised per 100 bytes of a node's memory. Default: 100, the whole of a guest's memory is
    /// set aside. Above 100 VMs are killed when guests of one node use more than the node has. Takes effect when a VM
    /// starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 400))]
    pub memory_overcommit_percent: Option<u32>,
    /// `Armed`: a VM without disks on its node is stopped by the node when the node's lease was not renewed for 16 s, and started on
    /// another node 42 s after the last renewal. Arm it only with three control-plane nodes or more: while no API server can be
    /// reached, nodes stop these VMs too. Default: `Disarmed`. Takes effect when a VM starts; `Disarmed` at once for starting VMs elsewhere.
    #[serde(default, skip_serializing_if = "HighAvailability::is_disarmed")]
    pub high_availability: HighAvailability,
    /// The identity provider at which people log in to the console, and whose tokens kubectl may present. Default: none; the console
    /// has users of its own besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_provider: Option<IdentityProvider>,
    /// Devices of nodes that VMs can have to themselves (devices.hostDevices and devices.gpus). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permitted_host_devices: Option<PermittedHostDevices>,
}

/// Whether VMs are started elsewhere when their node is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HighAvailability {
    /// They wait until their node reports or is declared out of service.
    #[default]
    Disarmed,
    /// They are.
    Armed,
}

impl HighAvailability {
    /// Whether it is the default.
    pub fn is_disarmed(&self) -> bool {
        *self == Self::Disarmed
    }
}

/// Devices of nodes that VMs can have to themselves. Names and meanings are KubeVirt's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PermittedHostDevices {
    /// PCI devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub pci_host_devices: Vec<PciHostDevice>,
}

/// A kind of PCI device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PciHostDevice {
    /// Its vendor and device, as `lspci -nn` shows them: `10DE:1EB8`.
    #[schemars(length(max = 9), regex(pattern = r"^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$"))]
    pub pci_vendor_selector: String,
    /// The resource of nodes that counts such devices, and the deviceName by which VMs ask for one: `nvidia.com/TU104GL_Tesla_T4`.
    #[schemars(
        length(max = 127),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
    )]
    pub resource_name: String,
}

impl ClusterConfigSpec {
    /// PCI devices that VMs can have to themselves.
    pub fn pci_host_devices(&self) -> &[PciHostDevice] {
        self.permitted_host_devices
            .as_ref()
            .map(|permitted| permitted.pci_host_devices.as_slice())
            .unwrap_or_default()
    }

    /// Bytes that are set aside for `guest` bytes of guest memory, rounded up.
    pub fn set_aside(&self, guest: u64) -> u64 {
        // Bounds as in the schema, should an object have passed it by.
        let percent = u64::from(self.memory_overcommit_percent.unwrap_or(100).clamp(100, 400));
        let bytes = (u128::from(guest) * 100).div_ceil(u128::from(percent));
        u64::try_from(bytes).unwrap_or(guest)
    }
}

/// Of a ClusterConfig.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name == 'cluster'",
        says: "there is one ClusterConfig, and its name is cluster",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.identityProvider",
        rule: "self.issuer != 'https://kubernetes.default.svc'",
        says: "this is the issuer of the cluster's own service accounts; name the identity provider's",
        field: ".issuer",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.permittedHostDevices",
        rule: "!has(self.pciHostDevices) || self.pciHostDevices.all(d, self.pciHostDevices.exists_one(e, \
               e.pciVendorSelector.lowerAscii() == d.pciVendorSelector.lowerAscii()))",
        says: "two of pciHostDevices have the same pciVendorSelector: a device would count twice",
        field: ".pciHostDevices",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.permittedHostDevices.pciHostDevices[]",
        rule: "!self.resourceName.matches('(^|[.])(sheaf[.]dev|kubernetes[.]io|k8s[.]io)/') && \
               !self.resourceName.startsWith('devices.kubevirt.io/')",
        says: "the name is one that Sheaf or Kubernetes gives resources of their own; use the vendor's, such as nvidia.com/T4",
        field: ".resourceName",
        reason: Reason::Invalid,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_guests_memory_is_set_aside_unless_an_administrator_said_otherwise() {
        let of = |percent| ClusterConfigSpec { memory_overcommit_percent: percent, ..Default::default() };
        assert_eq!(ClusterConfigSpec::default().set_aside(1 << 30), 1 << 30);
        assert_eq!(of(Some(200)).set_aside(1 << 30), 1 << 29);
        assert_eq!(of(Some(150)).set_aside(100), 67);
        assert_eq!(of(Some(0)).set_aside(7), 7);
        assert_eq!(of(Some(100)).set_aside(u64::MAX), u64::MAX);
    }
}
