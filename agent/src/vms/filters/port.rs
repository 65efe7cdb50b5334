//! One port of a bridge with a guest behind it.
//!
//! Route in: made with the guest; kept in its record, so that the agent knows it after a restart. Route out: rules, and a
//! line of `sheaf-agent network`.

use serde::{Deserialize, Serialize};
use sheaf_api::network::VlanRange;
use std::net::IpAddr;

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Port {
    /// Name of the tap.
    pub tap: String,
    /// Name of the interface in the VMI's spec.
    pub interface: String,
    /// Bridge of the node.
    pub bridge: String,
    /// The guest's hardware address, lower case with colons.
    pub mac: String,
    /// The one VLAN of the port; its guest sees no tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// VLANs that the guest sends and receives with their tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trunk: Vec<VlanRange>,
    /// It is behind the node's own address: it uses the one address that the node leased it ([`super::leases`]), and
    /// reaches no other guest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masquerade: bool,
    /// The only addresses that it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<IpAddr>>,
}

impl Port {
    /// Its VLANs, as people write them; empty for untagged.
    pub fn vlans(&self) -> String {
        let trunk = self.trunk.iter().map(ToString::to_string);
        self.vlan.iter().map(ToString::to_string).chain(trunk).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_are_shown_as_people_write_them() {
        let trunk = vec![VlanRange { first: 10, last: 10 }, VlanRange { first: 20, last: 29 }];
        assert_eq!(Port { trunk, ..Port::default() }.vlans(), "10,20-29");
        assert_eq!(Port { vlan: Some(100), ..Port::default() }.vlans(), "100");
        assert_eq!(Port::default().vlans(), "");
    }
}
