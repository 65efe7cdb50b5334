//! NetworkAttachmentDefinition: a network that VMs may be connected to, as Multus and KubeVirt know it.
//!
//! Why here: name, group and shape are upstream's, so that its manifests and tools work; no CNI plugin runs. Route in:
//! a manifest. Route out: [`super::parse`].

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "k8s.cni.cncf.io",
    version = "v1",
    kind = "NetworkAttachmentDefinition",
    plural = "network-attachment-definitions",
    singular = "network-attachment-definition",
    shortname = "net-attach-def",
    namespaced,
    derive = "PartialEq",
    doc = "A network for VMs: a bridge of their nodes, or VLANs of it."
)]
pub struct NetworkAttachmentDefinitionSpec {
    /// A CNI configuration as JSON: {"cniVersion": "0.3.1", "type": "bridge", "bridge": "br1", "vlan": 100}, or
    /// "vlanTrunk": [{"id": 10}, {"minID": 20, "maxID": 29}] in place of "vlan", or neither for untagged packets.
    #[schemars(length(min = 2, max = 16384))]
    pub config: String,
}
