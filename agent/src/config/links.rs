//! `[network]`'s links as a tree: who is in whom, with what MAC, MTU and addresses.
//!
//! Why here: networkd takes one file for each device, while node.toml speaks of bridges, bonds and VLANs that refer to
//! one another by name, and to a NIC by MAC, place or name. Pure. Route in: [`Network`] and the NICs found. Route
//! out: [`Device`]s, each with all that its files say; [`super::units`] writes them.

use sheaf_config::node::{Addressing, Bond, Bridge, Ipv6, Network, Nic, Vlan, VlanRange};
use sheaf_host::nic::Nic as Card;

/// How a NIC is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selector {
    /// By the MAC it was made with.
    Mac(String),
    /// By its place on the bus.
    Path(String),
    /// By its kernel name.
    Name(String),
}

/// What a device is, beside what every device has.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// A card of the machine; with the name that node.toml gives it.
    Card(Selector, Option<&'a str>),
    /// Made by networkd.
    Bond(&'a Bond),
    /// Made by networkd, on the device that lists it.
    Vlan(&'a Vlan),
    /// Made by networkd.
    Bridge(&'a Bridge),
}

/// What a device is part of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Master<'a> {
    /// A port of a bridge.
    Bridge(&'a Bridge),
    /// A port of a bond, the preferred one or not.
    Bond(&'a Bond, bool),
}

/// How a device gets its addresses.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address<'a> {
    /// IPv4 by DHCP.
    pub dhcp: bool,
    /// Where IPv6 addresses come from.
    pub ipv6: Ipv6,
    /// Addresses, gateways, routes.
    pub fixed: &'a Addressing,
}

/// One device with all that networkd is told of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Device<'a> {
    /// Middle of its files' names: `br0`, `br0-port0`.
    pub file: String,
    /// What it is.
    pub kind: Kind<'a>,
    /// MAC it is given; none leaves it to the kernel.
    pub mac: Option<String>,
    /// Largest packet in bytes; none leaves what is usual.
    pub mtu: Option<u32>,
    /// What it is part of.
    pub master: Option<Master<'a>>,
    /// VLANs on it.
    pub vlans: Vec<&'a Vlan>,
    /// Its addresses; none for a device on which the node has no address.
    pub address: Option<Address<'a>>,
}

impl Device<'_> {
    /// The kernel's name of it; none for a card that is not there.
    pub(super) fn kernel_name<'s>(&'s self, cards: &'s [Card]) -> Option<&'s str> {
        let found = |is: &dyn Fn(&&Card) -> bool| cards.iter().find(is).map(|card| card.name.as_str());
        match &self.kind {
            Kind::Bond(bond) => Some(&bond.name),
            Kind::Vlan(vlan) => Some(&vlan.name),
            Kind::Bridge(bridge) => Some(&bridge.name),
            Kind::Card(Selector::Name(name), _) => Some(name),
            Kind::Card(Selector::Mac(mac), _) => found(&|card| card.permanent_mac.as_ref() == Some(mac)),
            Kind::Card(Selector::Path(path), _) => found(&|card| card.path.as_ref() == Some(path)),
        }
    }
}

/// All devices: bridges, bonds, VLANs, then cards. `usual` is the MAC of the NIC taken at an earlier boot.
pub(super) fn devices<'a>(network: &'a Network, cards: &'a [Card], usual: Option<&str>) -> Vec<Device<'a>> {
    let tree = Tree { network, cards, default: default_nic(cards, usual) };
    let bridges = network.bridges.iter().map(|bridge| tree.bridge(bridge));
    let bonds = network.bonds.iter().map(|bond| tree.bond(bond));
    let vlans = network.vlans.iter().map(|vlan| tree.vlan(vlan));
    bridges.chain(bonds).chain(vlans).chain(tree.cards()).collect()
}

/// The NIC of a bridge that names none: the machine's only one. Where there are several it is the one of the earlier
/// boot, else the first by name, and never all of them: two cables into one switch and a bridge that joins them stop
/// a whole network.
pub(crate) fn default_nic<'a>(cards: &'a [Card], usual: Option<&str>) -> Option<&'a Card> {
    let is_usual = |card: &&Card| usual.is_some() && card.permanent_mac.as_deref() == usual;
    cards.iter().find(is_usual).or_else(|| cards.iter().min_by_key(|card| &card.name))
}

/// What a text in `ports` or `parent` means.
enum Link<'a> {
    Bridge(&'a Bridge),
    Bond(&'a Bond),
    Vlan(&'a Vlan),
    Card(Selector),
}

struct Tree<'a> {
    network: &'a Network,
    cards: &'a [Card],
    default: Option<&'a Card>,
}

impl<'a> Tree<'a> {
    fn bridge(&self, bridge: &'a Bridge) -> Device<'a> {
        Device {
            file: bridge.name.clone(),
            mac: self.bridge_mac(bridge),
            mtu: bridge.mtu,
            master: None,
            vlans: self.vlans_on(|parent| matches!(parent, Link::Bridge(is) if is.name == bridge.name)),
            address: address(&bridge.addressing, bridge.uses_dhcp()),
            kind: Kind::Bridge(bridge),
        }
    }

    fn bond(&self, bond: &'a Bond) -> Device<'a> {
        let master = self.bridge_of(|port| matches!(port, Link::Bond(is) if is.name == bond.name));
        Device {
            file: bond.name.clone(),
            mac: self.bond_mac(bond),
            mtu: self.bond_mtu(bond),
            master: master.map(|(bridge, _)| Master::Bridge(bridge)),
            vlans: self.vlans_on(|parent| matches!(parent, Link::Bond(is) if is.name == bond.name)),
            address: address(&bond.addressing, bond.addressing.asks_dhcp()),
            kind: Kind::Bond(bond),
        }
    }

    fn vlan(&self, vlan: &'a Vlan) -> Device<'a> {
        let master = self.bridge_of(|port| matches!(port, Link::Vlan(is) if is.name == vlan.name));
        Device {
            file: vlan.name.clone(),
            // Its parent's: the kernel sees to it.
            mac: None,
            mtu: vlan.mtu.or(master.and_then(|(bridge, _)| bridge.mtu)),
            master: master.map(|(bridge, _)| Master::Bridge(bridge)),
            vlans: Vec::new(),
            address: address(&vlan.addressing, vlan.addressing.asks_dhcp()),
            kind: Kind::Vlan(vlan),
        }
    }

    /// Every card that node.toml means, once: it may be a port, carry VLANs and have a table of its own.
    fn cards(&self) -> Vec<Device<'a>> {
        let mut devices: Vec<Device<'a>> = Vec::new();
        for bridge in &self.network.bridges {
            for (index, port) in self.ports(bridge).into_iter().enumerate() {
                if let Link::Card(selector) = port {
                    let device = of_card(&mut devices, selector, || format!("{}-port{index}", bridge.name));
                    device.master = Some(Master::Bridge(bridge));
                    device.mtu = bridge.mtu;
                }
            }
        }
        for bond in &self.network.bonds {
            for (index, port) in bond.ports.iter().enumerate() {
                if let Link::Card(selector) = self.link(port) {
                    // It may be written in another way than in `ports`.
                    let primary = bond.primary.as_ref().map(|primary| self.link(primary));
                    let is_primary = matches!(primary, Some(Link::Card(is)) if is == selector);
                    let device = of_card(&mut devices, selector, || format!("{}-port{index}", bond.name));
                    device.master = Some(Master::Bond(bond, is_primary));
                    device.mtu = self.bond_mtu(bond);
                }
            }
        }
        for vlan in &self.network.vlans {
            if let Link::Card(selector) = self.link(&vlan.parent) {
                of_card(&mut devices, selector, || format!("{}-parent", vlan.name)).vlans.push(vlan);
            }
        }
        for nic in &self.network.nics {
            let device = of_card(&mut devices, selector(nic), || nic.name.clone());
            device.mtu = nic.mtu.or(device.mtu);
            device.address = address(&nic.addressing, nic.addressing.asks_dhcp());
            if let Kind::Card(Selector::Mac(_) | Selector::Path(_), name) = &mut device.kind {
                *name = Some(&nic.name);
            }
        }
        devices
    }

    /// The ports of `bridge`; without any in node.toml the machine's only NIC.
    fn ports(&self, bridge: &'a Bridge) -> Vec<Link<'a>> {
        if !bridge.ports.is_empty() {
            return bridge.ports.iter().map(|port| self.link(port)).collect();
        }
        let of_card = |card: &Card| match &card.permanent_mac {
            Some(mac) => self.link(mac),
            None => self.link(&card.name),
        };
        self.default.map(of_card).into_iter().collect()
    }

    /// What `text` means: a link of node.toml, else a card by MAC or kernel name.
    fn link(&self, text: &str) -> Link<'a> {
        let network = self.network;
        if let Some(bridge) = network.bridges.iter().find(|link| link.name == text) {
            return Link::Bridge(bridge);
        }
        if let Some(bond) = network.bonds.iter().find(|link| link.name == text) {
            return Link::Bond(bond);
        }
        if let Some(vlan) = network.vlans.iter().find(|link| link.name == text) {
            return Link::Vlan(vlan);
        }
        let named = |nic: &&Nic| {
            nic.name == text || nic.mac.as_deref().is_some_and(|mac| mac.eq_ignore_ascii_case(text))
        };
        Link::Card(match network.nics.iter().find(named) {
            Some(nic) => selector(nic),
            None if text.contains(':') => Selector::Mac(text.to_ascii_lowercase()),
            None => Selector::Name(text.to_owned()),
        })
    }

    /// The bridge that has a port of which `is` holds, and which one.
    fn bridge_of(&self, is: impl Fn(&Link<'a>) -> bool) -> Option<(&'a Bridge, usize)> {
        self.network
            .bridges
            .iter()
            .find_map(|bridge| Some((bridge, self.ports(bridge).iter().position(&is)?)))
    }

    fn vlans_on(&self, is: impl Fn(&Link<'a>) -> bool) -> Vec<&'a Vlan> {
        self.network.vlans.iter().filter(|vlan| is(&self.link(&vlan.parent))).collect()
    }

    fn bond_mtu(&self, bond: &'a Bond) -> Option<u32> {
        let bridge = self.bridge_of(|port| matches!(port, Link::Bond(is) if is.name == bond.name));
        bond.mtu.or(bridge.and_then(|(bridge, _)| bridge.mtu))
    }

    /// That of its first port with a known one: a DHCP server sees the machine that it knows.
    fn bridge_mac(&self, bridge: &'a Bridge) -> Option<String> {
        self.ports(bridge).iter().find_map(|port| self.mac(port))
    }

    fn bond_mac(&self, bond: &'a Bond) -> Option<String> {
        bond.ports.iter().find_map(|port| self.mac(&self.link(port)))
    }

    fn mac(&self, link: &Link<'a>) -> Option<String> {
        match link {
            // A bridge is no port, and node.toml that says so is refused.
            Link::Bridge(_) => None,
            Link::Bond(bond) => self.bond_mac(bond),
            Link::Vlan(vlan) => match self.link(&vlan.parent) {
                // Of a VLAN nothing but a bond, a bridge or a card is the parent.
                Link::Bridge(bridge) => self.bridge_mac(bridge),
                Link::Vlan(_) => None,
                parent => self.mac(&parent),
            },
            Link::Card(Selector::Mac(mac)) => Some(mac.clone()),
            Link::Card(Selector::Name(name)) => {
                self.cards.iter().find(|card| card.name == *name)?.permanent_mac.clone()
            }
            Link::Card(Selector::Path(path)) => {
                self.cards.iter().find(|card| card.path.as_ref() == Some(path))?.permanent_mac.clone()
            }
        }
    }
}

fn selector(nic: &Nic) -> Selector {
    match (&nic.mac, &nic.path) {
        (Some(mac), _) => Selector::Mac(mac.to_ascii_lowercase()),
        (None, Some(path)) => Selector::Path(path.clone()),
        (None, None) => Selector::Name(nic.name.clone()),
    }
}

/// The device of the card `selector`, made with the file name `file` when it is not there yet.
fn of_card<'d, 'a>(
    devices: &'d mut Vec<Device<'a>>,
    selector: Selector,
    file: impl FnOnce() -> String,
) -> &'d mut Device<'a> {
    let is = |device: &Device<'_>| matches!(&device.kind, Kind::Card(known, _) if *known == selector);
    let at = devices.iter().position(is).unwrap_or_else(|| {
        devices.push(Device {
            file: file(),
            kind: Kind::Card(selector, None),
            mac: None,
            mtu: None,
            master: None,
            vlans: Vec::new(),
            address: None,
        });
        devices.len() - 1
    });
    &mut devices[at]
}

/// How a link gets its addresses; none when it gets none.
fn address(fixed: &Addressing, dhcp: bool) -> Option<Address<'_>> {
    let ipv6 = fixed.ipv6_with(dhcp);
    let has = dhcp || !fixed.addresses.is_empty() || matches!(ipv6, Ipv6::Auto | Ipv6::Dhcp);
    has.then_some(Address { dhcp, ipv6, fixed })
}

/// VLANs that the ports of a bridge carry tagged; by default all that there are beside the untagged one.
pub(super) fn carried(bridge: &Bridge) -> Vec<VlanRange> {
    match bridge.vlans.is_empty() {
        true => vec![VlanRange { first: 2, last: 4094 }],
        false => bridge.vlans.clone(),
    }
}
