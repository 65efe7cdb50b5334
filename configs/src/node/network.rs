//! `[network]`: name and time servers, proxy, trusted authorities, and the links of [`sheaf_links`].
//!
//! Route in: `load`. Route out: what the agent renders for networkd, resolved, timesyncd and its own clients.

use super::Secret;
use schemars::JsonSchema;
use serde::Serialize;
use sheaf_links::Links;
use std::net::IpAddr;

/// Links and addresses, name and time servers.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Network {
    /// Name servers, in addition to those of DHCP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["192.0.2.53"]]))]
    pub dns: Vec<IpAddr>,
    /// Domains in which a name without dots is looked up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["example.org"]]))]
    pub search: Vec<String>,
    /// Time servers, names or addresses, in addition to those of DHCP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["ntp1.example.org"]]))]
    pub ntp: Vec<String>,
    /// By which the node fetches images and releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Certificate authorities in PEM that are trusted in addition to the public ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub ca_certificates: Vec<String>,
    /// `[[network.nic]]`, `[[network.bond]]`, `[[network.vlan]]`, `[[network.bridge]]`. Without any link in the file the node
    /// makes `br0` over its only NIC and asks DHCP.
    #[serde(flatten, serialize_with = "super::links::serialize")]
    #[schemars(with = "super::links::Tables")]
    pub links: Links,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            dns: Vec::new(),
            search: Vec::new(),
            ntp: Vec::new(),
            proxy: None,
            ca_certificates: Vec::new(),
            links: Links::only_nic(),
        }
    }
}

/// Proxy for fetching images and releases. The cluster's API server and other nodes are reached without it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Proxy {
    /// For `http://…`: `"http://proxy.example.org:3128"`, user and password before an `@`. Never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Secret>,
    /// For `https://…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https: Option<Secret>,
    /// Names, domains (`".example.org"`), addresses and networks that are reached without a proxy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub no_proxy: Vec<String>,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_cluster_knows_a_node_by_its_gateway_then_by_dhcp_then_by_any_address() {
        let primary = |links: &str| {
            let text = format!("version = 1\nsystem.hostname = \"a\"\n{links}");
            let config = crate::load::parse_node_config("node.toml", &text).unwrap_or_else(|e| panic!("{e}"));
            config.network.links.primary().map(str::to_owned)
        };
        let bridge = |name: &str, rest: &str| {
            format!("[[network.bridge]]\nname = \"{name}\"\nports = [\"en{name}\"]\n{rest}\n")
        };
        let (fixed, other) = ("addresses = [\"192.0.2.10/24\"]", "addresses = [\"198.51.100.10/24\"]");
        assert_eq!(primary("").as_deref(), Some("br0"));
        assert_eq!(primary(&(bridge("a", fixed) + &bridge("b", ""))).as_deref(), Some("b"));
        let gateway = format!("{other}\ngateway = \"198.51.100.1\"");
        assert_eq!(primary(&(bridge("a", "") + &bridge("b", &gateway))).as_deref(), Some("b"));
        assert_eq!(primary(&(bridge("a", "dhcp = false") + &bridge("b", fixed))).as_deref(), Some("b"));
        let vlan = "[[network.vlan]]\nname = \"v\"\nid = 5\nparent = \"enp9s0\"\ndhcp = true\n";
        assert_eq!(primary(&(bridge("a", "dhcp = false") + vlan)).as_deref(), Some("v"));
    }
}
