//! NodeNetworkState: the links of one node as they are.
//!
//! Why here: anyone who writes a policy needs the NICs of a node, by MAC and place, and what already stands on them.
//! Route in: the node's agent alone. Route out: the operator.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The links of one node as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "NodeNetworkState",
    plural = "nodenetworkstates",
    shortname = "nns",
    category = "sheaf",
    derive = "PartialEq",
    status = "NodeNetworkStateStatus",
    selectable = ".spec.nodeName",
    doc = "The links of one node as they are.",
    printcolumn = r#"{"name":"Management","type":"string","jsonPath":".status.management"}"#,
    printcolumn = r#"{"name":"Bridges","type":"string","jsonPath":".status.links[?(@.kind=='bridge')].name"}"#,
    printcolumn = r#"{"name":"Problem","type":"string","jsonPath":".status.problem"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkStateSpec {
    /// The node.
    #[schemars(length(min = 1, max = 63))]
    pub node_name: String,
}

/// What the node's agent observes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkStateStatus {
    /// The link by which the cluster knows the node; its addresses are node.toml's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management: Option<String>,
    /// All links of the node except those of its VMs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub links: Vec<LinkState>,
    /// Default gateways.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_servers: Vec<String>,
    /// What is wrong, with the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkState {
    /// The kernel's name.
    pub name: String,
    /// nic, bond, vlan, bridge, other.
    pub kind: String,
    /// The kernel's state: up, down, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// What asked for it: node.toml, or policy NAME. Empty for other links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// The MAC that a NIC was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its place on the bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Largest packet in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Its addresses, without link-local ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Links below it: ports of a bridge (except VMs) or bond, parent of a VLAN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Number of a VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Whether a bridge filters VLANs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_aware: Option<bool>,
    /// Mode of a bond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Number of VMs' interfaces in a bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<u32>,
}
