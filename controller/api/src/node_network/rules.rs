//! What the API server asks of network objects, with the sentence it answers.
//!
//! Why here: what types cannot say. Rules that need a node's node.toml or its NICs are that node's to check. Every
//! rule has a bad manifest in tests/manifests/network. Route in: nothing. Route out: tables for [`crate::crd`].

use crate::crd::rule::{Reason, Rule};

/// Rules of addresses, the same on each kind of link.
macro_rules! addressed {
    ($at:literal) => {
        [
            Rule {
                at: $at,
                rule: "!has(self.addresses) || self.addresses.all(a, isCIDR(a))",
                says: "write addresses with their prefix length: 192.0.2.10/24",
                field: ".addresses",
                reason: Reason::Invalid,
            },
            Rule {
                at: $at,
                rule: "!has(self.gateway) || isIP(self.gateway) && ip(self.gateway).family() == 4",
                says: "gateway is an IPv4 address; use gateway6 for IPv6",
                field: ".gateway",
                reason: Reason::Invalid,
            },
            Rule {
                at: $at,
                rule: "!has(self.gateway6) || isIP(self.gateway6) && ip(self.gateway6).family() == 6",
                says: "gateway6 is an IPv6 address; use gateway for IPv4",
                field: ".gateway6",
                reason: Reason::Invalid,
            },
            Rule {
                at: $at,
                rule: "!has(self.gateway) && !has(self.gateway6) || has(self.addresses) && size(self.addresses) > 0",
                says: "a gateway needs an address of the node in the same network; DHCP gives its own gateway",
                field: ".addresses",
                reason: Reason::Required,
            },
            Rule {
                at: $at,
                rule: "!has(self.routes) || self.routes.all(r, isCIDR(r.to) && (!has(r.via) || isIP(r.via)))",
                says: "a route goes to a network, 198.51.100.0/24, via an address",
                field: ".routes",
                reason: Reason::Invalid,
            },
            Rule {
                at: $at,
                rule: "!has(self.routes) || size(self.routes) == 0 || has(self.dhcp) && self.dhcp || \
                       has(self.addresses) && size(self.addresses) > 0 || \
                       has(self.ipv6) && self.ipv6 in ['auto', 'dhcp']",
                says: "routes need an address of the node on this link",
                field: ".routes",
                reason: Reason::Invalid,
            },
        ]
    };
}

/// Joins tables.
const fn of(rules: &'static [Rule]) -> &'static [Rule] {
    rules
}

/// Of a NodeNetworkPolicy, table after table.
pub(crate) const POLICY: &[&[Rule]] = &[
    of(LINKS),
    of(BONDS),
    of(&addressed!("spec.network.nics[]")),
    of(&addressed!("spec.network.bonds[]")),
    of(&addressed!("spec.network.vlans[]")),
    of(&addressed!("spec.network.bridges[]")),
];

const LINKS: &[Rule] = &[
    Rule {
        at: "",
        rule: "size(self.metadata.name) <= 40 && !self.metadata.name.contains('.')",
        says: "metadata.name has at most 40 characters and no dot; names of enactments begin with it",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network",
        rule: "[has(self.nics) && size(self.nics) > 0, has(self.bonds) && size(self.bonds) > 0, \
               has(self.vlans) && size(self.vlans) > 0, has(self.bridges) && size(self.bridges) > 0].exists(x, x)",
        says: "has no link; write nics, bonds, vlans or bridges",
        field: "",
        reason: Reason::Required,
    },
    Rule {
        at: "spec.network",
        rule: "!has(self.bridges) || !has(self.bonds) || \
               self.bridges.all(a, !self.bonds.exists(b, b.name == a.name))",
        says: "a bridge and a bond have the same name; rename one of them",
        field: ".bridges",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network",
        rule: "!has(self.vlans) || !has(self.bridges) || \
               self.vlans.all(a, !self.bridges.exists(b, b.name == a.name))",
        says: "a VLAN and a bridge have the same name; rename one of them",
        field: ".vlans",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network",
        rule: "!has(self.vlans) || !has(self.bonds) || \
               self.vlans.all(a, !self.bonds.exists(b, b.name == a.name))",
        says: "a VLAN and a bond have the same name; rename one of them",
        field: ".vlans",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network",
        rule: "!has(self.bridges) || self.bridges.all(a, !has(a.ports) || self.bridges.all(b, a.name == b.name || \
               !has(b.ports) || a.ports.all(p, !(p in b.ports))))",
        says: "two bridges have the same port",
        field: ".bridges",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network",
        rule: "!has(self.bonds) || self.bonds.all(a, !has(a.ports) || self.bonds.all(b, a.name == b.name || \
               !has(b.ports) || a.ports.all(p, !(p in b.ports))))",
        says: "two bonds have the same port",
        field: ".bonds",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network",
        rule: "!has(self.bonds) || !has(self.bridges) || self.bonds.all(a, !has(a.ports) || \
               self.bridges.all(b, !has(b.ports) || a.ports.all(p, !(p in b.ports))))",
        says: "a port of a bond is a port of a bridge, too; put the bond into the bridge",
        field: ".bonds",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network.nics[]",
        rule: "!(has(self.mac) && has(self.path))",
        says: "a NIC is known by mac or by path; remove one of them",
        field: ".path",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec.network.vlans[]",
        rule: "self.parent != self.name",
        says: "a VLAN needs another link as its parent: name the one that carries it",
        field: ".parent",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network",
        rule: "!has(self.vlans) || self.vlans.all(a, \
               self.vlans.filter(b, b.parent == a.parent && b.id == a.id).size() == 1)",
        says: "two vlans are the same VLAN of the same parent",
        field: ".vlans",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network.bridges[]",
        rule: "!has(self.vlans) || size(self.vlans) == 0 || has(self.vlanAware) && self.vlanAware",
        says: "vlans need vlanAware: true",
        field: ".vlans",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network.bridges[]",
        rule: "!has(self.vlans) || self.vlans.all(v, int(v.split('-')[0]) >= 1 && int(v.split('-')[0]) <= 4094 && \
               (v.split('-').size() == 1 || int(v.split('-')[1]) <= 4094 && \
               int(v.split('-')[0]) <= int(v.split('-')[1])))",
        says: "VLANs are 1 to 4094, a range from the lower one to the higher one: \"100-199\"",
        field: ".vlans",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network.bridges[]",
        rule: "!has(self.ports) || !(self.name in self.ports)",
        says: "a bridge is not a port of itself",
        field: ".ports",
        reason: Reason::Invalid,
    },
];

const BONDS: &[Rule] = &[
    Rule {
        at: "spec.network.bonds[]",
        rule: "!has(self.lacpRate) || !has(self.mode) || self.mode == '802.3ad'",
        says: "lacpRate has no meaning in this mode; remove it, or write mode: 802.3ad",
        field: ".lacpRate",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network.bonds[]",
        rule: "!has(self.transmitHashPolicy) || !has(self.mode) || \
               self.mode in ['802.3ad', 'balance-xor', 'balance-tlb']",
        says: "transmitHashPolicy has no meaning in this mode; remove it, or write mode: 802.3ad or balance-xor",
        field: ".transmitHashPolicy",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.network.bonds[]",
        rule: "!has(self.primary) || !has(self.mode) || \
               self.mode in ['active-backup', 'balance-tlb', 'balance-alb']",
        says: "primary has no meaning in this mode; remove it, or write mode: active-backup",
        field: ".primary",
        reason: Reason::Invalid,
    },
];

/// Of a NodeNetworkEnactment.
pub(crate) const ENACTMENT: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name == self.spec.policy + '.' + self.spec.nodeName",
        says: "metadata.name is spec.policy, a dot, and spec.nodeName",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self == oldSelf",
        says: "policy and nodeName of an enactment cannot be changed",
        field: "",
        reason: Reason::Forbidden,
    },
];

/// Of a NodeNetworkState.
pub(crate) const STATE: &[Rule] = &[Rule {
    at: "",
    rule: "self.metadata.name == self.spec.nodeName",
    says: "metadata.name is spec.nodeName",
    field: "",
    reason: Reason::Invalid,
}];
