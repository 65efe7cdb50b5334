//! How a link gets its addresses: the same keys on a bridge, a VLAN, a bond and a NIC.
//!
//! Route in: node.toml, a policy. Route out: `[Network]` and its neighbours in networkd's files.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses, gateways and routes of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Addressing {
    /// Ask DHCP for an address. Default: on a bridge of node.toml, exactly when it is given no address; elsewhere `false`.
    /// A bridge with neither is only for VMs: the node has no address on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
    /// Where IPv6 addresses come from. Default: `"auto"` where DHCP is asked, else `"static"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6>,
    /// Addresses of the node with prefix length. A policy that sets them selects only one node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        with = "Vec<String>",
        length(max = 16),
        inner(length(max = 49)),
        extend("x-kubernetes-list-type" = "set", "examples" = [["192.0.2.10/24", "2001:db8::10/64"]])
    )]
    pub addresses: Vec<IpNet>,
    /// Default gateway of IPv4, in one of those networks. One on the whole node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 15), example = &"192.0.2.1")]
    pub gateway: Option<Ipv4Addr>,
    /// Default gateway of IPv6, in one of those networks or link-local. One on the whole node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 45), example = &"fe80::1")]
    pub gateway6: Option<Ipv6Addr>,
    /// Further routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub routes: Vec<Route>,
}

impl Addressing {
    /// Its default gateways, that of IPv4 first.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.gateway.map(IpAddr::V4).into_iter().chain(self.gateway6.map(IpAddr::V6))
    }

    /// Whether it asks DHCP, where silence means no.
    pub fn asks_dhcp(&self) -> bool {
        self.dhcp == Some(true)
    }

    /// Where IPv6 addresses come from, where DHCP is asked or not.
    pub fn ipv6_with(&self, dhcp: bool) -> Ipv6 {
        self.ipv6.unwrap_or(if dhcp { Ipv6::Auto } else { Ipv6::Static })
    }

    /// The keys that are given, as they are written, in the order of the documentation.
    pub fn given(&self) -> Vec<&'static str> {
        let keys = [
            ("dhcp", self.dhcp.is_some()),
            ("ipv6", self.ipv6.is_some()),
            ("addresses", !self.addresses.is_empty()),
            ("gateway", self.gateway.is_some()),
            ("gateway6", self.gateway6.is_some()),
            ("routes", !self.routes.is_empty()),
        ];
        keys.into_iter().filter_map(|(key, given)| given.then_some(key)).collect()
    }
}

/// Where IPv6 addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Ipv6 {
    /// Router advertisements, and DHCPv6 where they say so.
    Auto,
    /// DHCPv6 is asked, also without a router.
    Dhcp,
    /// Only `addresses`.
    Static,
    /// No IPv6 here, not even a link-local address.
    Off,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Destination network.
    #[schemars(with = "String", length(max = 49), example = &"198.51.100.0/24")]
    pub to: IpNet,
    /// The router. Without one the network is on this link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 45), example = &"192.0.2.254")]
    pub via: Option<IpAddr>,
    /// Metric: the lowest wins. Default: networkd's, 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub metric: Option<u32>,
}
