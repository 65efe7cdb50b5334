//! NICs, bonds, VLANs and bridges of `[network]`.
//!
//! Route in: `load`, whose rules make a tree of them: no NIC has two users, no VLAN lacks its parent.
//! Route out: networkd's files, VMs' networks.

use super::{Addressing, Ipv6};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

/// A NIC that needs a name of its own, another MTU or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Nic {
    /// With `mac` or `path`: what this file calls it, which the node adds to its names. Alone: the kernel's name of it.
    #[schemars(example = &"uplink0")]
    pub name: String,
    /// The MAC it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"52:54:00:12:34:56")]
    pub mac: Option<String>,
    /// Its place on the bus: `ID_PATH` of `udevadm info /sys/class/net/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"pci-0000:01:00.0")]
    pub path: Option<String>,
    /// Largest packet in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// Its addresses, when it is in no bridge and no bond.
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// Several NICs as one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Bond {
    /// Interface name.
    #[schemars(example = &"bond0")]
    pub name: String,
    /// Its NICs: MAC, kernel name or name of a `[[network.nic]]`.
    #[schemars(length(min = 1))]
    pub ports: Vec<String>,
    /// How they share the work.
    #[schemars(default)]
    pub mode: BondMode,
    /// 802.3ad: how often the switch is to say that it is there. Default: `"slow"` (30 s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacp_rate: Option<LacpRate>,
    /// 802.3ad and balance-xor: what spreads the packets. Default: `"layer2"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transmit_hash_policy: Option<HashPolicy>,
    /// active-backup, balance-tlb, balance-alb: the port that is used while it is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Milliseconds between looks at the cables.
    #[schemars(default = "default_miimon", range(min = 10, max = 10000))]
    pub miimon: u32,
    /// Largest packet in bytes, also of its ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// Its addresses, when it is in no bridge.
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// Milliseconds between looks at the cables: what the kernel's documentation advises.
pub(crate) fn default_miimon() -> u32 {
    100
}

/// How the NICs of a bond share the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum BondMode {
    /// One works, the others wait; needs nothing of the switch.
    #[default]
    ActiveBackup,
    /// LACP; the switch has the same ports in one group.
    #[serde(rename = "802.3ad")]
    Lacp,
    /// By hash; the switch has a static group.
    BalanceXor,
    /// Packet by packet; the switch has a static group.
    BalanceRr,
    /// What is sent is spread.
    BalanceTlb,
    /// What is sent and received is spread; not under a bridge.
    BalanceAlb,
    /// Everything on every port.
    Broadcast,
}

impl BondMode {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::ActiveBackup => "active-backup",
            Self::Lacp => "802.3ad",
            Self::BalanceXor => "balance-xor",
            Self::BalanceRr => "balance-rr",
            Self::BalanceTlb => "balance-tlb",
            Self::BalanceAlb => "balance-alb",
            Self::Broadcast => "broadcast",
        }
    }
}

/// How often an LACP partner reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LacpRate {
    /// Every 30 seconds.
    Slow,
    /// Every second.
    Fast,
}

/// What spreads packets over the ports of a bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)] // the names say it
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

impl HashPolicy {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Layer2 => "layer2",
            Self::Layer23 => "layer2+3",
            Self::Layer34 => "layer3+4",
            Self::Encap23 => "encap2+3",
            Self::Encap34 => "encap3+4",
            Self::VlanSrcmac => "vlan+srcmac",
        }
    }
}

/// One VLAN of a trunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Vlan {
    /// Interface name.
    #[schemars(example = &"mgmt")]
    pub name: String,
    /// Its number on the trunk.
    #[schemars(range(min = 1, max = 4094))]
    pub id: u16,
    /// The trunk: a bond, a bridge that is `vlan-aware`, or a NIC (MAC, kernel name or name of a `[[network.nic]]`).
    #[schemars(example = &"bond0")]
    pub parent: String,
    /// Largest packet in bytes, at most that of its parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// Its addresses, when it is in no bridge.
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// A bridge: a switch inside the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Bridge {
    /// Interface name: 1 to 15 letters, digits, `-`, `_`, `.`.
    #[schemars(example = &"br0")]
    pub name: String,
    /// What is in it: NICs (MAC, kernel name or name of a `[[network.nic]]`), bonds, VLANs. Default: the only NIC.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, extend("examples" = [["52:54:00:12:34:56"]]))]
    pub ports: Vec<String>,
    /// Whether it keeps VLANs apart, so that VMs and `[[network.vlan]]` may have tagged ones of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    pub vlan_aware: bool,
    /// VLANs that its ports carry, with `vlan-aware`: `["10", "100-199"]`. Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub vlans: Vec<VlanRange>,
    /// Largest packet in bytes, also of its ports. Default: 1500.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// The node's own addresses on it.
    #[serde(flatten)]
    pub addressing: Addressing,
}

impl Default for Bridge {
    /// What a file without links means: `br0` by DHCP over the machine's only NIC.
    fn default() -> Self {
        Self {
            name: "br0".into(),
            ports: Vec::new(),
            vlan_aware: false,
            vlans: Vec::new(),
            mtu: None,
            addressing: Addressing::default(),
        }
    }
}

impl Bridge {
    /// Whether it asks DHCP for an address.
    pub fn uses_dhcp(&self) -> bool {
        self.addressing.dhcp.unwrap_or(self.addressing.addresses.is_empty())
    }

    /// Where its IPv6 addresses come from.
    pub fn ipv6(&self) -> Ipv6 {
        self.addressing.ipv6_with(self.uses_dhcp())
    }
}

/// VLANs from `first` to `last`, both included; written `"10"` or `"100-199"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(inline, with = "String")]
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
