//! Links as a tree of devices: who is in whom, with what MAC, MTU and addresses.
//!
//! Why here: networkd takes one file for each device, while a config speaks of bridges, bonds and VLANs that refer to one
//! another by name, and to a NIC by MAC, place or name. Route in: [`Links`] and the NICs found. Route out: [`Device`]s.

use crate::{
    Addressing, Bond, Bridge, FoundNic, Ipv6, Link, LinkRef, Links, Selector, Vlan, VlanRange, default_nic,
};

/// What a device is, beside what every device has.
#[derive(Clone, Debug, PartialEq)]
pub enum What<'a> {
    /// A NIC of the machine; with the name that the config adds to it.
    Nic(Selector, Option<&'a str>),
    /// Made by networkd.
    Bond(&'a Bond),
    /// Made by networkd, on the device that lists it.
    Vlan(&'a Vlan),
    /// Made by networkd.
    Bridge(&'a Bridge),
}

/// What a device is for. One that is part of another has no addresses.
#[derive(Clone, Debug, PartialEq)]
pub enum Role<'a> {
    /// A port of a bridge.
    BridgePort(&'a Bridge),
    /// A port of a bond, the preferred one or not.
    BondPort(&'a Bond, bool),
    /// The node has addresses on it.
    Addressed(Address<'a>),
    /// For VMs, VLANs or a bridge alone: up, and without any address of the node.
    Carrier,
}

/// How a device gets its addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Address<'a> {
    /// IPv4 by DHCP.
    pub dhcp: bool,
    /// Where IPv6 addresses come from.
    pub ipv6: Ipv6,
    /// Addresses, gateways, routes.
    pub fixed: &'a Addressing,
}

/// One device with all its settings for networkd.
#[derive(Clone, Debug, PartialEq)]
pub struct Device<'a> {
    /// Its files' names: `br0`, `br0-port0`.
    pub file: String,
    /// What it is.
    pub what: What<'a>,
    /// MAC it is given; none leaves it to the kernel.
    pub mac: Option<String>,
    /// Largest packet in bytes; none leaves what is usual.
    pub mtu: Option<u32>,
    /// What it is for.
    pub role: Role<'a>,
    /// VLANs on it.
    pub vlans: Vec<&'a Vlan>,
}

impl Device<'_> {
    /// The kernel's name of it; none for a NIC that is not there.
    pub fn kernel_name<'s>(&'s self, found_nics: &'s [FoundNic]) -> Option<&'s str> {
        match &self.what {
            What::Bond(bond) => Some(&bond.name),
            What::Vlan(vlan) => Some(&vlan.name),
            What::Bridge(bridge) => Some(&bridge.name),
            What::Nic(Selector { name: Some(name), .. }, _) => Some(name),
            What::Nic(selector, _) => selector.find(found_nics).map(|found_nic| found_nic.name.as_str()),
        }
    }
}

/// All devices: bridges, bonds, VLANs, then NICs. `usual` is the MAC of the NIC taken at an earlier boot.
pub fn devices<'a>(links: &'a Links, found_nics: &'a [FoundNic], usual: Option<&str>) -> Vec<Device<'a>> {
    let tree = Tree { links, found_nics, default: default_nic(found_nics, usual) };
    let bridges = links.bridges.iter().map(|bridge| tree.bridge(bridge));
    let bonds = links.bonds.iter().map(|bond| tree.bond(bond));
    let vlans = links.vlans.iter().map(|vlan| tree.vlan(vlan));
    bridges.chain(bonds).chain(vlans).chain(tree.found_nics()).collect()
}

/// VLANs that the ports of a bridge carry tagged; by default all that there are beside the untagged one.
pub(super) fn carried(bridge: &Bridge) -> Vec<VlanRange> {
    match bridge.vlans.is_empty() {
        true => vec![VlanRange { first: 2, last: 4094 }],
        false => bridge.vlans.clone(),
    }
}

/// What a text in `ports` or `parent` means.
enum Meant<'a> {
    Made(Link<'a>),
    Nic(Selector),
}

impl Meant<'_> {
    fn is(&self, name: &str) -> bool {
        matches!(self, Self::Made(link) if LinkRef { link: *link, index: 0 }.name() == name)
    }
}

struct Tree<'a> {
    links: &'a Links,
    found_nics: &'a [FoundNic],
    default: Option<&'a FoundNic>,
}

impl<'a> Tree<'a> {
    fn bridge(&self, bridge: &'a Bridge) -> Device<'a> {
        Device {
            file: bridge.name.clone(),
            mac: self.first_mac(self.ports(bridge), 0),
            mtu: bridge.mtu,
            role: addressed(Link::Bridge(bridge)),
            vlans: self.vlans_on(&bridge.name),
            what: What::Bridge(bridge),
        }
    }

    fn bond(&self, bond: &'a Bond) -> Device<'a> {
        Device {
            file: bond.name.clone(),
            mac: self.first_mac(self.bond_ports(bond), 0),
            mtu: self.bond_mtu(bond),
            role: self.role(&bond.name, Link::Bond(bond)),
            vlans: self.vlans_on(&bond.name),
            what: What::Bond(bond),
        }
    }

    fn vlan(&self, vlan: &'a Vlan) -> Device<'a> {
        Device {
            file: vlan.name.clone(),
            // Its parent's: the kernel sees to it.
            mac: None,
            mtu: vlan.mtu.or(self.bridge_of(&vlan.name).and_then(|bridge| bridge.mtu)),
            role: self.role(&vlan.name, Link::Vlan(vlan)),
            vlans: Vec::new(),
            what: What::Vlan(vlan),
        }
    }

    fn role(&self, name: &str, link: Link<'a>) -> Role<'a> {
        self.bridge_of(name).map_or_else(|| addressed(link), Role::BridgePort)
    }

    /// Every NIC that is meant, once: it may be a port, carry VLANs and have a table of its own.
    fn found_nics(&self) -> Vec<Device<'a>> {
        let mut devices: Vec<Device<'a>> = Vec::new();
        for bridge in &self.links.bridges {
            for (index, port) in self.ports(bridge).into_iter().enumerate() {
                if let Meant::Nic(selector) = port {
                    let device = of_nic(&mut devices, selector, || format!("{}-port{index}", bridge.name));
                    device.role = Role::BridgePort(bridge);
                    device.mtu = bridge.mtu;
                }
            }
        }
        for bond in &self.links.bonds {
            // It may be written in another way than in `ports`.
            let primary = bond.primary.as_ref().map(|primary| self.links.selector(primary));
            for (index, port) in self.bond_ports(bond).into_iter().enumerate() {
                if let Meant::Nic(selector) = port {
                    let is_primary = primary.as_ref() == Some(&selector);
                    let device = of_nic(&mut devices, selector, || format!("{}-port{index}", bond.name));
                    device.role = Role::BondPort(bond, is_primary);
                    device.mtu = self.bond_mtu(bond);
                }
            }
        }
        for vlan in &self.links.vlans {
            if let Meant::Nic(selector) = self.meant(&vlan.parent) {
                let device = of_nic(&mut devices, selector, || format!("{}-parent", vlan.name));
                // What a VLAN carries its NIC must carry, too: without a table of its own it is raised to that.
                device.mtu = device.mtu.max(self.vlan(vlan).mtu);
                device.vlans.push(vlan);
            }
        }
        for nic in &self.links.nics {
            let device = of_nic(&mut devices, nic.selector(), || nic.name.clone());
            device.mtu = nic.mtu.or(device.mtu);
            if device.role == Role::Carrier {
                device.role = addressed(Link::Nic(nic));
            }
            if let What::Nic(Selector { name: None, .. }, name) = &mut device.what {
                *name = Some(&nic.name);
            }
        }
        devices
    }

    /// The ports of `bridge`; without any in the config the machine's only NIC.
    fn ports(&self, bridge: &'a Bridge) -> Vec<Meant<'a>> {
        if !bridge.ports.is_empty() {
            return bridge.ports.iter().map(|port| self.meant(port)).collect();
        }
        let default = self
            .default
            .map(|found_nic| self.meant(found_nic.permanent_mac.as_ref().unwrap_or(&found_nic.name)));
        default.into_iter().collect()
    }

    fn bond_ports(&self, bond: &'a Bond) -> Vec<Meant<'a>> {
        bond.ports.iter().map(|port| self.meant(port)).collect()
    }

    /// What `text` means: a link of the config, else a NIC by MAC or kernel name.
    fn meant(&self, text: &str) -> Meant<'a> {
        self.links.made(text).map_or_else(|| Meant::Nic(self.links.selector(text)), Meant::Made)
    }

    /// The bridge that the link `name` is a port of.
    fn bridge_of(&self, name: &str) -> Option<&'a Bridge> {
        self.links.bridges.iter().find(|bridge| self.ports(bridge).iter().any(|port| port.is(name)))
    }

    fn vlans_on(&self, name: &str) -> Vec<&'a Vlan> {
        self.links.vlans.iter().filter(|vlan| self.meant(&vlan.parent).is(name)).collect()
    }

    fn bond_mtu(&self, bond: &'a Bond) -> Option<u32> {
        bond.mtu.or(self.bridge_of(&bond.name).and_then(|bridge| bridge.mtu))
    }

    /// That of the first with a known one: a DHCP server sees the machine that it knows.
    fn first_mac(&self, ports: Vec<Meant<'a>>, depth: u8) -> Option<String> {
        // Links that refer to one another in a circle are refused by the rules; here they end.
        const DEEPEST: u8 = 8;
        if depth > DEEPEST {
            return None;
        }
        ports.into_iter().find_map(|port| match port {
            Meant::Made(Link::Bond(bond)) => self.first_mac(self.bond_ports(bond), depth + 1),
            Meant::Made(Link::Vlan(vlan)) => match self.meant(&vlan.parent) {
                Meant::Made(Link::Bridge(bridge)) => self.first_mac(self.ports(bridge), depth + 1),
                parent => self.first_mac(vec![parent], depth + 1),
            },
            Meant::Made(Link::Bridge(_) | Link::Nic(_)) => None,
            Meant::Nic(selector) => {
                let known = selector.mac.clone();
                known.or_else(|| selector.find(self.found_nics)?.permanent_mac.clone())
            }
        })
    }
}

/// The device of the NIC `selector`, made with the file name `file` when it is not there yet.
fn of_nic<'d, 'a>(
    devices: &'d mut Vec<Device<'a>>,
    selector: Selector,
    file: impl FnOnce() -> String,
) -> &'d mut Device<'a> {
    let is = |device: &Device<'_>| matches!(&device.what, What::Nic(known, _) if *known == selector);
    let at = devices.iter().position(is).unwrap_or_else(|| {
        devices.push(Device {
            file: file(),
            what: What::Nic(selector, None),
            mac: None,
            mtu: None,
            role: Role::Carrier,
            vlans: Vec::new(),
        });
        devices.len() - 1
    });
    &mut devices[at]
}

/// How a link that is part of none gets its addresses, if it gets any.
fn addressed(link: Link<'_>) -> Role<'_> {
    let link = LinkRef { link, index: 0 };
    match link.has_address() {
        true => {
            Role::Addressed(Address { dhcp: link.uses_dhcp(), ipv6: link.ipv6(), fixed: link.addressing() })
        }
        false => Role::Carrier,
    }
}
