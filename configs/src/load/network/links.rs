//! NICs, bonds, VLANs and bridges, one table each.
//!
//! Route in: the tables of one kind. Route out: the links as the node uses them, and each as [`LinkAt`], in which
//! all kinds look alike, for the rules between them.

use super::addressing::{self, AddressingAt};
use super::{ELSEWHERE, plain, values};
use crate::diagnose::Report;
use crate::node::{Bond, BondMode, Bridge, HashPolicy, LacpRate, Nic, Vlan, VlanRange};
use crate::spanned::{At, Table, Value};
use crate::syntax::{self, VLAN_IDS};
use std::ops::RangeInclusive;

/// Bytes: the least that IPv6 requires (RFC 8200), and the most that common switches carry.
const MTU: RangeInclusive<i64> = 1280..=9216;
/// Milliseconds between looks at a bond's cables: below, the kernel does nothing else; above, VMs notice.
const MIIMON: RangeInclusive<i64> = 10..=10_000;

const MODES: &[(&str, BondMode)] = &[
    ("active-backup", BondMode::ActiveBackup),
    ("802.3ad", BondMode::Lacp),
    ("balance-xor", BondMode::BalanceXor),
    ("balance-rr", BondMode::BalanceRr),
    ("balance-tlb", BondMode::BalanceTlb),
    ("balance-alb", BondMode::BalanceAlb),
    ("broadcast", BondMode::Broadcast),
];
const LACP_RATES: &[(&str, LacpRate)] = &[("slow", LacpRate::Slow), ("fast", LacpRate::Fast)];
const HASH_POLICIES: &[(&str, HashPolicy)] = &[
    ("layer2", HashPolicy::Layer2),
    ("layer2+3", HashPolicy::Layer23),
    ("layer3+4", HashPolicy::Layer34),
    ("encap2+3", HashPolicy::Encap23),
    ("encap3+4", HashPolicy::Encap34),
    ("vlan+srcmac", HashPolicy::VlanSrcmac),
];

/// A link of any kind with the places of its values.
pub(super) struct LinkAt {
    pub place: At<()>,
    pub name: At<String>,
    pub kind: Kind,
    /// What is in it, of a bond or a bridge.
    pub ports: Vec<At<String>>,
    pub mtu: Option<At<u32>>,
    pub addressing: AddressingAt,
}

/// What only one kind of link has.
pub(super) enum Kind {
    Nic {
        mac: Option<At<String>>,
        path: Option<At<String>>,
    },
    Bond {
        mode: BondMode,
        lacp_rate: Option<At<LacpRate>>,
        hash: Option<At<HashPolicy>>,
        primary: Option<At<String>>,
    },
    Vlan {
        id: At<u16>,
        parent: At<String>,
    },
    Bridge {
        vlan_aware: bool,
        vlans: Vec<At<VlanRange>>,
    },
}

impl Kind {
    /// As the config calls it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Nic { .. } => "NIC",
            Self::Bond { .. } => "bond",
            Self::Vlan { .. } => "VLAN",
            Self::Bridge { .. } => "bridge",
        }
    }
}

impl LinkAt {
    /// Whether it stands in the list `place`.
    pub fn is_in(&self, place: &At<()>) -> bool {
        self.place.path.starts_with(&format!("{}[", place.path))
    }

    /// A key that it lacks, for problems about that.
    pub fn missing(&self, key: &str) -> At<()> {
        At { path: format!("{}.{key}", self.place.path), ..self.place.clone() }
    }

    pub fn is_bridge(&self) -> bool {
        matches!(self.kind, Kind::Bridge { .. })
    }

    /// Whether it asks DHCP for an address.
    pub fn uses_dhcp(&self) -> bool {
        let default = self.is_bridge() && self.addressing.addresses.is_empty();
        self.addressing.dhcp.as_ref().map_or(default, |dhcp| dhcp.value)
    }

    /// Whether the node gets an address by it.
    pub fn has_address(&self) -> bool {
        use crate::node::Ipv6::{Auto, Dhcp};
        let ipv6 = self.addressing.ipv6.as_ref().is_some_and(|ipv6| matches!(ipv6.value, Auto | Dhcp));
        !self.addressing.addresses.is_empty() || self.uses_dhcp() || ipv6
    }
}

/// Reads every table of one kind; none when one of them could not be read.
pub(super) fn all<'d, 't, T>(
    value: Value<'d, 't>,
    read: impl Fn(Table<'d, 't>) -> Option<(T, LinkAt)>,
    links: &mut Vec<LinkAt>,
) -> Option<Vec<T>> {
    let read: Vec<_> = value.tables()?.into_iter().map(read).collect();
    let (plain, places): (Vec<_>, Vec<_>) = read.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
    links.extend(places);
    Some(plain)
}

/// Whether one of `keys` is there and was not `read`.
fn unread(table: &Table<'_, '_>, keys: &[(&str, bool)]) -> bool {
    keys.iter().any(|(key, read)| table.place(key).is_some() && !read)
}

pub(super) fn nic(mut table: Table<'_, '_>) -> Option<(Nic, LinkAt)> {
    let place = table.at();
    let name = table.required("name", "name = \"uplink0\"", |value| value.text(syntax::interface));
    let mac = table.optional("mac", |value| value.text(syntax::mac));
    let path = table.optional("path", |value| value.text(syntax::nic_path));
    let mtu = mtu(&mut table);
    let addressing = addressing::read(&mut table);
    let unread = unread(&table, &[("mac", mac.is_some()), ("path", path.is_some()), ("mtu", mtu.is_some())]);
    table.finish(ELSEWHERE);
    let (name, addressing) = (name?, addressing?);
    if unread {
        return None;
    }
    let nic = Nic {
        name: name.value.clone(),
        mac: plain(mac.clone()),
        path: plain(path.clone()),
        mtu: plain(mtu.clone()),
        addressing: addressing.plain(),
    };
    let kind = Kind::Nic { mac, path };
    Some((nic, LinkAt { place, name, kind, ports: Vec::new(), mtu, addressing }))
}

pub(super) fn bond(mut table: Table<'_, '_>) -> Option<(Bond, LinkAt)> {
    let (report, place) = (table.report(), table.at());
    let name = table.required("name", "name = \"bond0\"", |value| value.text(syntax::interface));
    let ports = table.required("ports", "ports = [\"<MAC or name>\", …]", |value| {
        let at = value.at();
        let ports = value.texts(syntax::port)?;
        if ports.is_empty() {
            at.wrong(report, "names no NIC", "write ports = [\"<MAC or name>\", …]");
        }
        Some(ports)
    });
    let mode = table.optional("mode", |value| value.one_of(MODES));
    let lacp_rate = table.optional("lacp-rate", |value| value.one_of(LACP_RATES));
    let hash = table.optional("transmit-hash-policy", |value| value.one_of(HASH_POLICIES));
    let primary = table.optional("primary", |value| value.text(syntax::port));
    let miimon = table.optional("miimon", |value| {
        number(report, value.integer()?, &MIIMON, "milliseconds between looks are not possible")
    });
    let mtu = mtu(&mut table);
    let addressing = addressing::read(&mut table);
    let unread = unread(
        &table,
        &[
            ("mode", mode.is_some()),
            ("lacp-rate", lacp_rate.is_some()),
            ("transmit-hash-policy", hash.is_some()),
            ("primary", primary.is_some()),
            ("mtu", mtu.is_some()),
        ],
    );
    table.finish(ELSEWHERE);
    let (name, ports, addressing) = (name?, ports?, addressing?);
    if unread {
        return None;
    }
    let mode = plain(mode).unwrap_or_default();
    let bond = Bond {
        name: name.value.clone(),
        ports: values(ports.clone()),
        mode,
        lacp_rate: plain(lacp_rate.clone()),
        transmit_hash_policy: plain(hash.clone()),
        primary: plain(primary.clone()),
        miimon: plain(miimon).unwrap_or_else(crate::node::default_miimon),
        mtu: plain(mtu.clone()),
        addressing: addressing.plain(),
    };
    let kind = Kind::Bond { mode, lacp_rate, hash, primary };
    Some((bond, LinkAt { place, name, kind, ports, mtu, addressing }))
}

pub(super) fn vlan(mut table: Table<'_, '_>) -> Option<(Vlan, LinkAt)> {
    let (report, place) = (table.report(), table.at());
    let name = table.required("name", "name = \"mgmt\"", |value| value.text(syntax::interface));
    let id = table.required("id", "id = 100", |value| {
        let ids = i64::from(*VLAN_IDS.start())..=i64::from(*VLAN_IDS.end());
        let id = number(report, value.integer()?, &ids, "is no VLAN")?;
        Some(id.map(|id| u16::try_from(id).unwrap_or_default()))
    });
    let parent = table.required("parent", "parent = \"bond0\"", |value| value.text(syntax::port));
    let mtu = mtu(&mut table);
    let addressing = addressing::read(&mut table);
    let unread = unread(&table, &[("mtu", mtu.is_some())]);
    table.finish(ELSEWHERE);
    let (name, id, parent, addressing) = (name?, id?, parent?, addressing?);
    if unread {
        return None;
    }
    let vlan = Vlan {
        name: name.value.clone(),
        id: id.value,
        parent: parent.value.clone(),
        mtu: plain(mtu.clone()),
        addressing: addressing.plain(),
    };
    let kind = Kind::Vlan { id, parent };
    Some((vlan, LinkAt { place, name, kind, ports: Vec::new(), mtu, addressing }))
}

pub(super) fn bridge(mut table: Table<'_, '_>) -> Option<(Bridge, LinkAt)> {
    let place = table.at();
    let name = table.required("name", "name = \"br0\"", |value| value.text(syntax::interface));
    let ports = table.optional("ports", |value| value.texts(syntax::port));
    let vlan_aware = table.optional("vlan-aware", |value| value.boolean());
    let vlans = table.optional("vlans", |value| value.texts(syntax::vlan_range));
    let mtu = mtu(&mut table);
    let addressing = addressing::read(&mut table);
    // A list that could not be read is not an empty one: rules about it would mislead.
    let unread = unread(
        &table,
        &[
            ("ports", ports.is_some()),
            ("vlan-aware", vlan_aware.is_some()),
            ("vlans", vlans.is_some()),
            ("mtu", mtu.is_some()),
        ],
    );
    table.finish(ELSEWHERE);
    let (name, addressing) = (name?, addressing?);
    if unread {
        return None;
    }
    let (ports, vlans) = (ports.unwrap_or_default(), vlans.unwrap_or_default());
    let vlan_aware = vlan_aware.is_some_and(|at| at.value);
    let bridge = Bridge {
        name: name.value.clone(),
        ports: values(ports.clone()),
        vlan_aware,
        vlans: values(vlans.clone()),
        mtu: plain(mtu.clone()),
        addressing: addressing.plain(),
    };
    let kind = Kind::Bridge { vlan_aware, vlans };
    Some((bridge, LinkAt { place, name, kind, ports, mtu, addressing }))
}

fn mtu(table: &mut Table<'_, '_>) -> Option<At<u32>> {
    let report = table.report();
    table.optional("mtu", |value| number(report, value.integer()?, &MTU, "bytes is not possible"))
}

fn number(report: &Report<'_>, at: At<i64>, range: &RangeInclusive<i64>, what: &str) -> Option<At<u32>> {
    if !range.contains(&at.value) {
        at.wrong(
            report,
            format!("{} {what}", at.value),
            format!("write {} to {}", range.start(), range.end()),
        );
        return None;
    }
    Some(at.map(|number| u32::try_from(number).unwrap_or_default()))
}
