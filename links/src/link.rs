//! NICs, bonds, VLANs and bridges.
//!
//! Why one spelling: JSON has the keys in camelCase, node.toml in kebab-case; `sheaf-config` translates the keys, so a new
//! one is added here alone. What only one of several sources may leave out is an `Option`, and a method has its default.
//! Route in: serde, or the loader of node.toml. Route out: rules, renderer, policies' merge.

use crate::{Addressing, Ipv6, value};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest packet in bytes where nobody says otherwise (Ethernet).
pub const USUAL_MTU: u32 = 1500;
/// Milliseconds between checks of a bond's cables: what the kernel's documentation advises.
pub const MIIMON: u32 = 100;

/// Links by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Links {
    /// NICs that need a name of their own, another MTU or an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nics: Vec<Nic>,
    /// Several NICs used as one link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub bonds: Vec<Bond>,
    /// Single VLANs of a trunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub vlans: Vec<Vlan>,
    /// Bridges: the node itself and its VMs are reached through these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub bridges: Vec<Bridge>,
}

/// A NIC that needs a name of its own, another MTU or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nic {
    /// With `mac` or `path`: the name that the config gives it, which the node adds to its names. Without them: its kernel name.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"), example = &"uplink0")]
    pub name: String,
    /// Its permanent MAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 17), regex(pattern = r"^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"), example = &"52:54:00:12:34:56")]
    pub mac: Option<String>,
    /// Its place on the bus: `ID_PATH` of `udevadm info /sys/class/net/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), example = &"pci-0000:01:00.0")]
    pub path: Option<String>,
    /// Largest packet in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// Its addresses, when it is in no bridge and no bond.
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// Several NICs used as one link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bond {
    /// Interface name.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"), example = &"bond0")]
    pub name: String,
    /// Its NICs: MAC, kernel name or name of a NIC of the config. A policy leaves them out to extend a bond of
    /// node.toml.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 17)), extend("x-kubernetes-list-type" = "set"))]
    pub ports: Vec<String>,
    /// How the ports share the traffic. Default: `"active-backup"`; in a policy for a bond of node.toml, that bond's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<BondMode>,
    /// 802.3ad: how often the switch reports that it is there. Default: `"slow"` (30 s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacp_rate: Option<LacpRate>,
    /// 802.3ad, balance-xor and balance-tlb: by what packets are spread over the ports. Default: `"layer2"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transmit_hash_policy: Option<HashPolicy>,
    /// active-backup, balance-tlb, balance-alb: the port that is used while it is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 17))]
    pub primary: Option<String>,
    /// Milliseconds between checks of the links. Default: 100.
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

impl Bond {
    /// How its NICs share the traffic.
    pub fn mode(&self) -> BondMode {
        self.mode.unwrap_or_default()
    }
}

/// The words of an enum whose variants are plain, as they are written.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $type {
            /// Every variant with the word for it.
            pub const WORDS: &[(&str, Self)] = &[$(($word, Self::$variant)),*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

/// How the NICs of a bond share the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum BondMode {
    /// One port works, the others stand by; works with every switch.
    #[default]
    ActiveBackup,
    /// LACP; the switch has the same ports in one group.
    #[serde(rename = "802.3ad")]
    Lacp,
    /// By hash; the switch has a static group.
    BalanceXor,
    /// Packet by packet; the switch has a static group.
    BalanceRr,
    /// Outgoing packets are spread over the ports.
    BalanceTlb,
    /// Outgoing and incoming packets are spread; not possible in a bridge.
    BalanceAlb,
    /// Everything on every port.
    Broadcast,
}

words!(BondMode {
    ActiveBackup = "active-backup",
    Lacp = "802.3ad",
    BalanceXor = "balance-xor",
    BalanceRr = "balance-rr",
    BalanceTlb = "balance-tlb",
    BalanceAlb = "balance-alb",
    Broadcast = "broadcast",
});

/// How often an LACP partner reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LacpRate {
    /// Every 30 seconds.
    Slow,
    /// Every second.
    Fast,
}

words!(LacpRate { Slow = "slow", Fast = "fast" });

/// What spreads packets over the ports of a bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
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

words!(HashPolicy {
    Layer2 = "layer2",
    Layer23 = "layer2+3",
    Layer34 = "layer3+4",
    Encap23 = "encap2+3",
    Encap34 = "encap3+4",
    VlanSrcmac = "vlan+srcmac",
});

/// One VLAN of a trunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vlan {
    /// Interface name.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"), example = &"mgmt")]
    pub name: String,
    /// Its number on the trunk.
    #[schemars(range(min = 1, max = 4094))]
    pub id: u16,
    /// The trunk: a bond, a VLAN-aware bridge, or a NIC (MAC, kernel name or name of a NIC of the config).
    #[schemars(length(min = 1, max = 17), example = &"bond0")]
    pub parent: String,
    /// Largest packet in bytes, at most that of its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// Its addresses, when it is in no bridge.
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// A bridge: a switch inside the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    /// Interface name, 1 to 15 letters, digits, `-`, `_`, `.`; VM networks refer to it.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"), example = &"br0")]
    pub name: String,
    /// Its ports: NICs (MAC, kernel name or name of a NIC of the config), bonds, VLANs. Default, in node.toml alone: the
    /// only NIC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(min = 1, max = 17)),
        extend("x-kubernetes-list-type" = "set", "examples" = [["52:54:00:12:34:56"]])
    )]
    pub ports: Vec<String>,
    /// Whether it filters VLANs, so that VMs and VLAN links can use tagged VLANs of it. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_aware: Option<bool>,
    /// VLANs that the ports of a VLAN-aware bridge carry: `"10"`, `"100-199"`. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        with = "Vec<String>",
        length(max = 64),
        inner(length(max = 9), regex(pattern = r"^[0-9]{1,4}(-[0-9]{1,4})?$"))
    )]
    pub vlans: Vec<VlanRange>,
    /// Largest packet in bytes, also of its ports. Default: 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// The node's own addresses on it.
    #[serde(flatten)]
    pub addressing: Addressing,
}

impl Default for Bridge {
    /// What a node.toml without links means: `br0` by DHCP over the machine's only NIC.
    fn default() -> Self {
        Self {
            name: "br0".into(),
            ports: Vec::new(),
            vlan_aware: None,
            vlans: Vec::new(),
            mtu: None,
            addressing: Addressing::default(),
        }
    }
}

impl Bridge {
    /// Whether it filters VLANs.
    pub fn vlan_aware(&self) -> bool {
        self.vlan_aware == Some(true)
    }
}

/// VLANs from `first` to `last`, both included; written `"10"` or `"100-199"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VlanRange {
    /// The lowest, from 1.
    pub first: u16,
    /// The highest, up to 4094.
    pub last: u16,
}

impl std::fmt::Display for VlanRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for VlanRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VlanRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        value::vlan_range(&text).map_err(|wrong| serde::de::Error::custom(wrong.to_string()))
    }
}

/// What a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the names say it
pub enum Kind {
    Nic,
    Bond,
    Vlan,
    Bridge,
}

impl Kind {
    /// Its name in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nic => "NIC",
            Self::Bond => "bond",
            Self::Vlan => "VLAN",
            Self::Bridge => "bridge",
        }
    }

    /// Its key in `[network]` of node.toml, and its word in the API.
    pub fn key(self) -> &'static str {
        match self {
            Self::Nic => "nic",
            Self::Bond => "bond",
            Self::Vlan => "vlan",
            Self::Bridge => "bridge",
        }
    }
}

/// A link of any kind.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
pub enum Link<'l> {
    Nic(&'l Nic),
    Bond(&'l Bond),
    Vlan(&'l Vlan),
    Bridge(&'l Bridge),
}

/// A link of any kind, with its place among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkRef<'l> {
    /// Itself.
    pub link: Link<'l>,
    /// From 0.
    pub index: usize,
}

impl<'l> LinkRef<'l> {
    /// What it is.
    pub fn kind(self) -> Kind {
        match self.link {
            Link::Nic(_) => Kind::Nic,
            Link::Bond(_) => Kind::Bond,
            Link::Vlan(_) => Kind::Vlan,
            Link::Bridge(_) => Kind::Bridge,
        }
    }

    /// Its name in the config.
    pub fn name(self) -> &'l str {
        match self.link {
            Link::Nic(link) => &link.name,
            Link::Bond(link) => &link.name,
            Link::Vlan(link) => &link.name,
            Link::Bridge(link) => &link.name,
        }
    }

    /// What is in it, of a bond or a bridge.
    pub fn ports(self) -> &'l [String] {
        match self.link {
            Link::Nic(_) | Link::Vlan(_) => &[],
            Link::Bond(link) => &link.ports,
            Link::Bridge(link) => &link.ports,
        }
    }

    /// Largest packet in bytes, where it is given.
    pub fn mtu(self) -> Option<u32> {
        match self.link {
            Link::Nic(link) => link.mtu,
            Link::Bond(link) => link.mtu,
            Link::Vlan(link) => link.mtu,
            Link::Bridge(link) => link.mtu,
        }
    }

    /// How it gets addresses.
    pub fn addressing(self) -> &'l Addressing {
        match self.link {
            Link::Nic(link) => &link.addressing,
            Link::Bond(link) => &link.addressing,
            Link::Vlan(link) => &link.addressing,
            Link::Bridge(link) => &link.addressing,
        }
    }

    /// Whether it asks DHCP for an address: a bridge also where nothing is said and no address is given.
    pub fn uses_dhcp(self) -> bool {
        let addressing = self.addressing();
        let default = self.kind() == Kind::Bridge && addressing.addresses.is_empty();
        addressing.dhcp.unwrap_or(default)
    }

    /// Where its IPv6 addresses come from.
    pub fn ipv6(self) -> Ipv6 {
        self.addressing().ipv6_with(self.uses_dhcp())
    }

    /// Whether the node gets an address by it.
    pub fn has_address(self) -> bool {
        self.uses_dhcp()
            || !self.addressing().addresses.is_empty()
            || matches!(self.ipv6(), Ipv6::Auto | Ipv6::Dhcp)
    }
}

impl Links {
    /// What a node.toml without links means.
    pub fn only_nic() -> Self {
        Self { bridges: vec![Bridge::default()], ..Self::default() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Every link, from the cable upwards: NICs, bonds, VLANs, bridges.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = LinkRef<'_>> {
        let nics = self.nics.iter().map(Link::Nic).enumerate();
        let bonds = self.bonds.iter().map(Link::Bond).enumerate();
        let vlans = self.vlans.iter().map(Link::Vlan).enumerate();
        let bridges = self.bridges.iter().map(Link::Bridge).enumerate();
        nics.chain(bonds).chain(vlans).chain(bridges).map(|(index, link)| LinkRef { link, index })
    }

    /// Every link, from the top down: bridges, VLANs, bonds, NICs, each in the config's order.
    pub fn top_down(&self) -> Vec<LinkRef<'_>> {
        let mut all: Vec<_> = self.all().collect();
        all.sort_by_key(|link| std::cmp::Reverse(link.kind())); // stable: the order within a kind stays
        all
    }

    /// The link that is called `name` in the config.
    pub fn get(&self, name: &str) -> Option<LinkRef<'_>> {
        self.top_down().into_iter().find(|link| link.name() == name)
    }

    /// The link by which the cluster knows the node: that of the default gateway, else the first by DHCP, which gives one,
    /// else the first with an address.
    pub fn primary(&self) -> Option<&str> {
        let links = self.top_down();
        let find = |is: &dyn Fn(&LinkRef<'_>) -> bool| links.iter().find(|link| is(link));
        find(&|link| link.addressing().gateways().next().is_some())
            .or_else(|| find(&|link| link.uses_dhcp()))
            .or_else(|| find(&|link| link.has_address()))
            .map(|link| link.name())
    }

    /// The same with each MAC in lowercase, as node.toml writes it.
    #[must_use]
    pub fn normal(mut self) -> Self {
        let mut spell = |text: &mut String| {
            if text.contains(':') {
                text.make_ascii_lowercase();
            }
        };
        self.nics.iter_mut().filter_map(|nic| nic.mac.as_mut()).for_each(&mut spell);
        self.texts().for_each(spell);
        self
    }

    /// Every text that may mean a NIC: ports, primaries, parents.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let bridges = self.bridges.iter_mut().flat_map(|bridge| &mut bridge.ports);
        let bonds = self.bonds.iter_mut().flat_map(|bond| bond.ports.iter_mut().chain(bond.primary.as_mut()));
        bridges.chain(bonds).chain(self.vlans.iter_mut().map(|vlan| &mut vlan.parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_kernel_are_those_of_serde() {
        for (word, mode) in BondMode::WORDS {
            assert_eq!(serde_json::to_value(mode).unwrap(), *word);
        }
        for (word, rate) in LacpRate::WORDS {
            assert_eq!(serde_json::to_value(rate).unwrap(), *word);
        }
        for (word, policy) in HashPolicy::WORDS {
            assert_eq!(serde_json::to_value(policy).unwrap(), *word);
        }
    }

    #[test]
    fn links_survive_being_written_and_read_again() {
        let text = r#"{"bonds":[{"name":"bond0","ports":["enp1s0"],"mode":"802.3ad","lacpRate":"fast","addresses":["192.0.2.1/24"]}],
            "bridges":[{"name":"br0","ports":["bond0"],"vlanAware":true,"vlans":["10","100-199"]}]}"#;
        let links: Links = serde_json::from_str(text).unwrap();
        assert_eq!(links.bridges[0].vlans[1], VlanRange { first: 100, last: 199 });
        let written = serde_json::to_string(&links).unwrap();
        assert_eq!(serde_json::from_str::<Links>(&written).unwrap(), links);
        let error = serde_json::from_str::<Links>(r#"{"bridges":[{"name":"br0","vlans":["9-2"]}]}"#);
        assert!(error.unwrap_err().to_string().contains("ends before it begins"));
    }
}
