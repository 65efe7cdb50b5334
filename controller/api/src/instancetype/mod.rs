//! Instancetypes and preferences, `instancetype.kubevirt.io/v1beta1`: sizes and wishes that VMs name instead of repeating.
//!
//! Why here: names and meanings are KubeVirt's. An instancetype sets CPU and memory and conflicts with a VM that sets them
//! too; a preference ([`preference`]) fills in what a VM leaves open. Each is there twice, for a namespace and for the cluster.
//! Route in: manifests, and the set that the controller installs. Route out: a VM's spec, put together by the controller.

pub mod preference;

use std::collections::BTreeMap;

use kube::{CustomResource, core::ApiResource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use preference::VirtualMachinePreferenceSpec;

use crate::{disk_options::IoThreadsPolicy, domain::Hugepages, quantity::Amount};

/// API group.
pub const GROUP: &str = "instancetype.kubevirt.io";
/// Its version.
pub const VERSION: &str = "v1beta1";
/// Label of a volume: the instancetype that VMs on it have.
pub const DEFAULT_INSTANCETYPE_LABEL: &str = "instancetype.kubevirt.io/default-instancetype";
/// Label of a volume: the kind of it.
pub const DEFAULT_INSTANCETYPE_KIND_LABEL: &str = "instancetype.kubevirt.io/default-instancetype-kind";
/// Label of a volume: the preference that VMs on it have.
pub const DEFAULT_PREFERENCE_LABEL: &str = "instancetype.kubevirt.io/default-preference";
/// Label of a volume: the kind of it.
pub const DEFAULT_PREFERENCE_KIND_LABEL: &str = "instancetype.kubevirt.io/default-preference-kind";

/// Sizes of a VM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "instancetype.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachineInstancetype",
    plural = "virtualmachineinstancetypes",
    category = "all",
    namespaced,
    derive = "PartialEq",
    doc = "Sizes that virtual machines of a namespace can name.",
    printcolumn = r#"{"name":"CPU","type":"integer","jsonPath":".spec.cpu.guest"}"#,
    printcolumn = r#"{"name":"Memory","type":"string","jsonPath":".spec.memory.guest"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstancetypeSpec {
    /// Virtual CPUs.
    pub cpu: InstancetypeCpu,
    /// Memory.
    pub memory: InstancetypeMemory,
    /// Which threads of QEMU do the I/O of virtio disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_threads_policy: Option<IoThreadsPolicy>,
    /// Labels that the node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Annotations of the instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Virtual CPUs of an instancetype.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstancetypeCpu {
    /// How many; a preference says whether they are sockets, cores or threads. Default: sockets.
    #[schemars(range(min = 1, max = 512))]
    pub guest: u32,
    /// host-model, host-passthrough or a CPU model that libvirt knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"))]
    pub model: Option<String>,
    /// The most sockets that the VM can grow to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub max_sockets: Option<u32>,
}

/// Memory of an instancetype.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstancetypeMemory {
    /// Memory that the guest sees.
    pub guest: Amount,
    /// The most memory that the VM can grow to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_guest: Option<Amount>,
    /// Puts the guest's memory on huge pages of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepages: Option<Hugepages>,
}

/// Names an instancetype or a preference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Matcher {
    /// Its name. Exactly one of name and inferFromVolume is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Its kind. Default: the one of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub kind: Option<String>,
    /// ControllerRevision that holds it as it was. Default: as it was when the VM was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub revision_name: Option<String>,
    /// The volume whose labels name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub infer_from_volume: Option<String>,
    /// What happens when the volume's labels name none. Default: Reject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infer_from_volume_failure_policy: Option<InferFailurePolicy>,
}

impl Matcher {
    /// Whether a volume without labels is as good as no matcher.
    pub fn ignores_failure(&self) -> bool {
        self.infer_from_volume_failure_policy == Some(InferFailurePolicy::Ignore)
    }
}

/// What happens when a volume's labels name nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InferFailurePolicy {
    /// The VM is not started.
    Reject,
    /// The VM has none.
    Ignore,
}

/// What a VM had named when it was created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusRef {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// ControllerRevision that holds it as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_revision_ref: Option<RevisionRef>,
}

impl StatusRef {
    /// Name of the ControllerRevision.
    pub fn revision(&self) -> Option<&str> {
        self.controller_revision_ref.as_ref()?.name.as_deref()
    }
}

/// A ControllerRevision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionRef {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// One of the four kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// In manifests.
    pub kind: &'static str,
    /// In paths.
    pub plural: &'static str,
    /// In messages and in matchers of older tools.
    pub singular: &'static str,
    /// For kubectl; KubeVirt's.
    pub short: &'static [&'static str],
    /// Whether it is in a namespace.
    pub namespaced: bool,
}

/// Instancetypes, of a namespace and of the cluster.
pub const INSTANCETYPES: [Kind; 2] = [
    Kind {
        kind: "VirtualMachineInstancetype",
        plural: "virtualmachineinstancetypes",
        singular: "virtualmachineinstancetype",
        short: &["vminstancetype", "vminstancetypes", "vmf", "vmfs"],
        namespaced: true,
    },
    Kind {
        kind: "VirtualMachineClusterInstancetype",
        plural: "virtualmachineclusterinstancetypes",
        singular: "virtualmachineclusterinstancetype",
        short: &["vmclusterinstancetype", "vmclusterinstancetypes", "vmcf", "vmcfs"],
        namespaced: false,
    },
];

/// Preferences, of a namespace and of the cluster.
pub const PREFERENCES: [Kind; 2] = [
    Kind {
        kind: "VirtualMachinePreference",
        plural: "virtualmachinepreferences",
        singular: "virtualmachinepreference",
        short: &["vmpref", "vmprefs", "vmp", "vmps"],
        namespaced: true,
    },
    Kind {
        kind: "VirtualMachineClusterPreference",
        plural: "virtualmachineclusterpreferences",
        singular: "virtualmachineclusterpreference",
        short: &["vmcp", "vmcps"],
        namespaced: false,
    },
];

impl Kind {
    /// The one of `kinds` that a matcher names, in any of the ways that KubeVirt takes; the cluster's if it names none.
    pub fn named<'a>(kinds: &'a [Kind; 2], name: Option<&str>) -> Option<&'a Kind> {
        match name.unwrap_or_default().to_ascii_lowercase().as_str() {
            "" => kinds.iter().find(|kind| !kind.namespaced),
            name => kinds.iter().find(|kind| name == kind.singular || name == kind.plural),
        }
    }

    /// For requests.
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            group: GROUP.into(),
            version: VERSION.into(),
            api_version: format!("{GROUP}/{VERSION}"),
            kind: self.kind.into(),
            plural: self.plural.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_as_kubevirt_finds_them() {
        let of = |name| Kind::named(&INSTANCETYPES, name).map(|kind| kind.namespaced);
        assert_eq!(of(None), Some(false));
        assert_eq!(of(Some("VirtualMachineInstancetype")), Some(true));
        assert_eq!(of(Some("virtualmachineclusterinstancetypes")), Some(false));
        assert_eq!(of(Some("VirtualMachinePreference")), None);
    }
}
