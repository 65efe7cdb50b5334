//! NICs, bonds, VLANs and bridges, as a policy asks for them.
//!
//! Why here: own types, since this crate knows nobody; every key is that of node.toml's `[network]` in camelCase, and
//! means the same. Route in: `spec.network` of a policy. Route out: the agent, which reads them as node.toml's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Links by kind. A link of node.toml may be named, too, to add to it; its addresses stay node.toml's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Links {
    /// Network cards that need a name of their own, another MTU or an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nics: Vec<Nic>,
    /// Several network cards as one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub bonds: Vec<Bond>,
    /// Single VLANs of a trunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub vlans: Vec<Vlan>,
    /// Switches inside the node; VMs are plugged into them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub bridges: Vec<Bridge>,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// With mac or path: what this policy calls it. Alone: the kernel's name of it.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    pub name: String,
    /// The MAC it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 17), regex(pattern = r"^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"))]
    pub mac: Option<String>,
    /// Its place on the bus: pci-0000:01:00.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub path: Option<String>,
    /// Largest packet in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// Its addresses, when it is in no bridge and no bond.
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// Several network cards as one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bond {
    /// Interface name.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    pub name: String,
    /// Its network cards: MAC, kernel name, or name of one of nics or of node.toml's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 17)), extend("x-kubernetes-list-type" = "set"))]
    pub ports: Vec<String>,
    /// How they share the work; active-backup, unless it is a bond of node.toml, which keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<BondMode>,
    /// 802.3ad: how often the switch is to say that it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacp_rate: Option<LacpRate>,
    /// 802.3ad, balance-xor and balance-tlb: what spreads the packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmit_hash_policy: Option<HashPolicy>,
    /// active-backup, balance-tlb, balance-alb: the port that is used while it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 17))]
    pub primary: Option<String>,
    /// Milliseconds between looks at the cables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 10000))]
    pub miimon: Option<u32>,
    /// Largest packet in bytes, also of its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// Its addresses, when it is in no bridge.
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// How the cards of a bond share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // the names are the kernel's
pub enum BondMode {
    ActiveBackup,
    #[serde(rename = "802.3ad")]
    Lacp,
    BalanceXor,
    BalanceRr,
    BalanceTlb,
    BalanceAlb,
    Broadcast,
}

/// How often an LACP partner reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LacpRate {
    /// Every 30 seconds.
    Slow,
    /// Every second.
    Fast,
}

/// What spreads packets over the ports of a bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are the kernel's
pub enum HashPolicy {
    #[serde(rename = "layer2")]
    Layer2,
    #[serde(rename = "layer2+3")]
    Layer23,
    #[serde(rename = "layer3+4")]
    Layer34,
    #[serde(rename = "encap2+3")]
    Encap23,
    #[serde(rename = "encap3+4")]
    Encap34,
    #[serde(rename = "vlan+srcmac")]
    VlanSrcmac,
}

/// One VLAN of a trunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vlan {
    /// Interface name.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    pub name: String,
    /// Its number on the trunk.
    #[schemars(range(min = 1, max = 4094))]
    pub id: u16,
    /// The trunk: a bond, a bridge that is vlanAware, or a network card (MAC, kernel name or name of a NIC).
    #[schemars(length(min = 1, max = 17))]
    pub parent: String,
    /// Largest packet in bytes, at most that of its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// Its addresses, when it is in no bridge.
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// A switch inside the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    /// Interface name; VM networks refer to it.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    pub name: String,
    /// What is in it: network cards (MAC, kernel name or name of a NIC), bonds, VLANs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 17)), extend("x-kubernetes-list-type" = "set"))]
    pub ports: Vec<String>,
    /// Whether it keeps VLANs apart, so that VMs and vlans may have tagged ones of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_aware: Option<bool>,
    /// VLANs that its ports carry, with vlanAware: "10", "100-199". Without: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 9), regex(pattern = r"^[0-9]{1,4}(-[0-9]{1,4})?$")))]
    pub vlans: Vec<String>,
    /// Largest packet in bytes, also of its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// The node's own addresses on it. Without any the bridge is for VMs alone.
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// Addresses, gateways and routes of a link. Without any of it the node has no address there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Addressing {
    /// Ask DHCP for an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
    /// Where IPv6 addresses come from. Default: auto where DHCP is asked, else static.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6>,
    /// Addresses of the node with prefix length. They are one node's: select that node alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 49)), extend("x-kubernetes-list-type" = "set"))]
    pub addresses: Vec<String>,
    /// Default gateway of IPv4, in one of those networks. One on the whole node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub gateway: Option<String>,
    /// Default gateway of IPv6, in one of those networks or link-local. One on the whole node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub gateway6: Option<String>,
    /// Further routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub routes: Vec<Route>,
}

impl Addressing {
    /// The keys that are given, as they are written.
    pub fn given(&self) -> Vec<&'static str> {
        [
            ("dhcp", self.dhcp.is_some()),
            ("ipv6", self.ipv6.is_some()),
            ("addresses", !self.addresses.is_empty()),
            ("gateway", self.gateway.is_some()),
            ("gateway6", self.gateway6.is_some()),
            ("routes", !self.routes.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect()
    }
}

/// Where IPv6 addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6 {
    /// Router advertisements, and DHCPv6 where they say so.
    Auto,
    /// DHCPv6 is asked, also without a router.
    Dhcp,
    /// Only addresses.
    Static,
    /// No IPv6 here, not even a link-local address.
    Off,
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The network that it leads to.
    #[schemars(length(max = 49))]
    pub to: String,
    /// The router. Without one the network is on this link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    pub via: Option<String>,
    /// The lower one wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub metric: Option<u32>,
}
