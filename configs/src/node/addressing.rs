//! How a link gets its addresses: the same keys on a bridge, a VLAN, a bond and a NIC.
//!
//! Route in: `load`. Route out: networkd's settings for the link.

use super::Cidr;
use schemars::JsonSchema;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses, gateways and routes of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Addressing {
    /// Ask DHCP for an address. Default: on a bridge, exactly when it is given no address; elsewhere `false`. `false`
    /// on a bridge without addresses makes it one for VMs alone, on which the node has no address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
    /// Where IPv6 addresses come from. Default: `"auto"` where DHCP is asked, else `"static"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6>,
    /// Addresses of the node with prefix length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["192.0.2.10/24", "2001:db8::10/64"]]))]
    pub addresses: Vec<Cidr>,
    /// Default gateway of IPv4, in one of those networks. One on the whole node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"192.0.2.1")]
    pub gateway: Option<Ipv4Addr>,
    /// Default gateway of IPv6, in one of those networks or link-local. One on the whole node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"fe80::1")]
    pub gateway6: Option<Ipv6Addr>,
    /// Further routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
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

    /// Whether it says anything that gives the node an address here.
    pub fn is_given(&self) -> bool {
        self.asks_dhcp() || !self.addresses.is_empty() || matches!(self.ipv6, Some(Ipv6::Auto | Ipv6::Dhcp))
    }
}

/// Where IPv6 addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Route {
    /// The network that it leads to.
    #[schemars(example = &"198.51.100.0/24")]
    pub to: Cidr,
    /// The router. Without one the network is on this link.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"192.0.2.254")]
    pub via: Option<IpAddr>,
    /// The lower one wins. Default: networkd's, 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}
