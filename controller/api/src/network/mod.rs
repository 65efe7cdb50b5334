//! Networks of virtual machines: what a NetworkAttachmentDefinition says, and what a node saw of an interface.
//!
//! Why here: the controller reads the definition once and tells the node what it means ([`Attachment`]); the node
//! trusts nothing else. Route in: `networks[].multus` of a VMI. Route out: the placeholder Pod's annotation.

mod config;
mod definition;

pub use config::{ConfigError, parse, parse_function};
pub use definition::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec};

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

/// Highest VLAN there is; 4095 is reserved.
pub const LAST_VLAN: u16 = 4094;

/// Longest name of a link in the kernel.
const NAME_MAX: usize = 15;

/// A port of a bridge, as a NetworkAttachmentDefinition asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Bridge of the node.
    pub bridge: String,
    /// The one VLAN of the port, whose guest sees no tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// VLANs that the guest sends and receives with their tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trunk: Vec<VlanRange>,
}

impl Attachment {
    /// Whether it needs a bridge that knows VLANs.
    pub fn has_vlans(&self) -> bool {
        self.vlan.is_some() || !self.trunk.is_empty()
    }

    /// What is wrong with it: anyone who wrote a Pod may have written this.
    pub fn problem(&self) -> Option<String> {
        let outside = |id: u16| id == 0 || id > LAST_VLAN;
        if !is_link_name(&self.bridge) {
            return Some(format!("bridge {:?} is not a name of a link", self.bridge));
        }
        if let Some(id) = self.vlan.filter(|id| outside(*id)) {
            return Some(format!("VLAN {id} is not between 1 and {LAST_VLAN}"));
        }
        if let Some(range) =
            self.trunk.iter().find(|r| outside(r.first) || outside(r.last) || r.first > r.last)
        {
            return Some(format!("VLANs {range} are not a range between 1 and {LAST_VLAN}"));
        }
        (self.vlan.is_some() && !self.trunk.is_empty())
            .then(|| "a port has one VLAN or a trunk, not both".into())
    }
}

/// A virtual function of a NIC (SR-IOV), as a NetworkAttachmentDefinition asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Function {
    /// The resource that counts such functions; permittedHostDevices of the ClusterConfig says which devices those are.
    pub resource_name: String,
    /// The VLAN that the NIC puts the function into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

impl Function {
    /// What is wrong with it: anyone who wrote a Pod may have written this.
    pub fn problem(&self) -> Option<String> {
        if !is_resource_name(&self.resource_name) {
            return Some(format!("{:?} is not a name of a resource", self.resource_name));
        }
        let id = self.vlan.filter(|id| *id == 0 || *id > LAST_VLAN)?;
        Some(format!("VLAN {id} is not between 1 and {LAST_VLAN}"))
    }
}

/// Whether `name` can be the name of an extended resource, `intel.com/x710-vf`.
pub fn is_resource_name(name: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let part = |part: &str, max: usize, more: &[u8]| {
        part.len() <= max
            && edge(part.bytes().next())
            && edge(part.bytes().last())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    name.split_once('/').is_some_and(|(domain, name)| part(domain, 63, b"-.") && part(name, 63, b"-_."))
}

/// VLANs from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VlanRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl fmt::Display for VlanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Whether the kernel takes `name` for a link, and Kubernetes for the name of a resource.
pub fn is_link_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= NAME_MAX
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| inner(*byte))
}

/// An interface of a running guest as its node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenInterface {
    /// Name in the spec.
    pub name: String,
    /// Addresses, the one by which it is reached first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<IpAddr>,
    /// Where they are known from: see `infoSource` of a VMI's status.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub info_source: String,
    /// Its link is down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kernel_and_kubernetes_take() {
        for name in ["br0", "br-vms", "br_x.1", "a23456789012345"] {
            assert!(is_link_name(name), "{name}");
        }
        for name in ["", "a234567890123456", "br 0", "-br", "br.", "br/0", "brä"] {
            assert!(!is_link_name(name), "{name}");
        }
    }

    #[test]
    fn a_function_that_somebody_else_wrote_is_looked_through() {
        let function = |name: &str, vlan| Function { resource_name: name.into(), vlan };
        assert_eq!(function("intel.com/x710_vf", Some(100)).problem(), None);
        assert_eq!(function("vf", None).problem().unwrap(), "\"vf\" is not a name of a resource");
        assert_eq!(function("a/b/c", None).problem().unwrap(), "\"a/b/c\" is not a name of a resource");
        assert_eq!(function("a/b", Some(4095)).problem().unwrap(), "VLAN 4095 is not between 1 and 4094");
    }

    #[test]
    fn an_attachment_that_somebody_else_wrote_is_looked_through() {
        let on = |vlan, trunk: &[(u16, u16)]| Attachment {
            bridge: "br0".into(),
            vlan,
            trunk: trunk.iter().map(|(first, last)| VlanRange { first: *first, last: *last }).collect(),
        };
        assert_eq!(on(Some(100), &[]).problem(), None);
        assert_eq!(on(None, &[(1, 4094)]).problem(), None);
        assert_eq!(on(Some(4095), &[]).problem().unwrap(), "VLAN 4095 is not between 1 and 4094");
        assert_eq!(on(None, &[(7, 5)]).problem().unwrap(), "VLANs 7-5 are not a range between 1 and 4094");
        assert_eq!(on(None, &[(0, 0)]).problem().unwrap(), "VLANs 0 are not a range between 1 and 4094");
        assert_eq!(on(Some(1), &[(5, 5)]).problem().unwrap(), "a port has one VLAN or a trunk, not both");
        let named = Attachment { bridge: "br0'/>".into(), ..Attachment::default() };
        assert_eq!(named.problem().unwrap(), "bridge \"br0'/>\" is not a name of a link");
    }
}
