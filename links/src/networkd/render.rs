//! Each device's settings, each beside the reason for it.
//!
//! Route in: a [`Device`] and the [`Purpose`]. Route out: its `.link`, `.netdev` and `.network` files.

use super::device::{Address, Device, Role, What, carried};
use super::unit::{
    BondSettings, BridgeSettings, BridgeVlan, Dhcp4, Dhcp6, LinkSettings, Match, Names, NetDev, Network,
    Route, Section, VlanSettings, file,
};
use super::{Purpose, Unit};
use crate::{Bond, Bridge, FoundNic, Ipv6, LacpRate, MIIMON, Selector, VlanRange};

/// How long a link keeps its addresses when its last cable goes: a switch restarts within it.
const CARRIER_LOSS: &str = "30s";

/// The VLAN of untagged packets inside a VLAN-aware bridge: the kernel's own choice.
const UNTAGGED: u16 = 1;

/// First line of every file.
fn header(purpose: Purpose<'_>) -> &'static str {
    match purpose {
        Purpose::Node => "# Written from /state/node.toml at each boot.\n",
        Purpose::Preflight { .. } => "# Written from node.toml for the trial of the network.\n",
    }
}

/// The files of one device.
pub(super) fn device(device: &Device<'_>, purpose: Purpose<'_>) -> Vec<Unit> {
    let is_nic = matches!(device.what, What::Nic(..));
    let unit = |kind: &str, text: String| Unit { name: format!("{}.{kind}", device.file), is_nic, text };
    let header = header(purpose);
    let link = link(device, header).map(|text| unit("link", text));
    let netdev = netdev(device, header).map(|text| unit("netdev", text));
    link.into_iter().chain(netdev).chain([unit("network", network(device, purpose))]).collect()
}

/// A NIC that the config does not use: nothing of the installer's boot is left on it.
pub(super) fn unused(found_nic: &FoundNic) -> Unit {
    let header = "# Not used by node.toml: it keeps no address of the installer's boot.\n";
    let matches = Match { name: Some(&found_nic.name), ..Match::default() };
    let network = Network { link_local: Some("no"), accept_ra: Some(false), ..Network::default() };
    let text = file(header, &[&matches, &network]);
    Unit { name: format!("unused-{}.network", found_nic.name), is_nic: true, text }
}

/// The file for udev, if any.
fn link(device: &Device<'_>, header: &str) -> Option<String> {
    let (name, driver) = match &device.what {
        What::Bridge(bridge) => (&bridge.name, "bridge"),
        What::Bond(bond) => (&bond.name, "bonding"),
        // A VLAN has its parent's MAC, whatever udev thinks.
        What::Vlan(_) | What::Nic(_, None) => return None,
        What::Nic(selector, Some(name)) => {
            // As systemd's own file does, which this one stands in front of; and one more name.
            let names = Names {
                name_policy: Some("keep kernel database onboard slot path"),
                alternative_names_policy: Some("database onboard slot path mac"),
                mac_policy: "persistent",
                alternative_name: Some(name),
                ..Names::default()
            };
            return Some(file(header, &[&by(selector), &names]));
        }
    };
    let matches = Match { original_name: Some(name), driver: Some(driver), ..Match::default() };
    // Keeps udev from giving it a MAC of its own: it has its first NIC's.
    Some(file(header, &[&matches, &Names { mac_policy: "none", ..Names::default() }]))
}

/// The device itself, when networkd makes it.
fn netdev(device: &Device<'_>, header: &str) -> Option<String> {
    // The MAC of its first NIC: a DHCP server sees the machine that it knows. Without a known one the kernel takes
    // the NIC's; taps of VMs never win, libvirt gives them high ones.
    let mac = Some(device.mac.as_deref().unwrap_or("none"));
    let (head, settings): (NetDev<'_>, Box<dyn Section>) = match &device.what {
        What::Nic(..) => return None,
        What::Bridge(link) => {
            let head = NetDev { name: &link.name, kind: "bridge", mac, mtu: device.mtu, ..NetDev::default() };
            (head, Box::new(bridge(link)))
        }
        What::Bond(link) => {
            (NetDev { name: &link.name, kind: "bond", mac, ..NetDev::default() }, Box::new(bond(link)))
        }
        What::Vlan(link) => {
            let settings = VlanSettings { id: link.id, ..VlanSettings::default() };
            (NetDev { name: &link.name, kind: "vlan", ..NetDev::default() }, Box::new(settings))
        }
    };
    Some(file(header, &[&head, settings.as_ref()]))
}

fn bridge(bridge: &Bridge) -> BridgeSettings<'static> {
    BridgeSettings {
        // One uplink: nothing to find loops in, and no half minute of learning before a VM is heard.
        stp: false,
        // Without a querier on the network, snooping loses IPv6 neighbour discovery and VRRP of VMs.
        multicast_snooping: false,
        vlan_filtering: bridge.vlan_aware().then_some(true),
        default_pvid: bridge.vlan_aware().then_some(UNTAGGED),
        ..BridgeSettings::default()
    }
}

fn bond(bond: &Bond) -> BondSettings<'static> {
    BondSettings {
        mode: bond.mode().name(),
        miimon: format!("{}ms", bond.miimon.unwrap_or(MIIMON)),
        lacp_rate: bond.lacp_rate.map(LacpRate::name),
        hash_policy: bond.transmit_hash_policy.map(crate::HashPolicy::name),
        ..BondSettings::default()
    }
}

fn by(selector: &Selector) -> Match<'_> {
    Match {
        permanent_mac: selector.mac.as_deref(),
        path: selector.path.as_deref(),
        name: selector.name.as_deref(),
        // Not the VLANs and bridges that inherit it.
        kind: selector.name.is_none().then_some("!*"),
        ..Match::default()
    }
}

/// What networkd does with the device.
fn network(device: &Device<'_>, purpose: Purpose<'_>) -> String {
    let named = |name| Match { name: Some(name), ..Match::default() };
    let matches = match &device.what {
        What::Nic(selector, _) => by(selector),
        What::Bond(link) => named(link.name.as_str()),
        What::Vlan(link) => named(link.name.as_str()),
        What::Bridge(link) => named(link.name.as_str()),
    };
    let link = LinkSettings {
        // A bridge is made with its MTU.
        mtu: device.mtu.filter(|_| !matches!(device.what, What::Bridge(_))),
        required_for_online: if matches!(device.role, Role::Addressed(_)) { "routable" } else { "no" },
        ..LinkSettings::default()
    };
    let is_nic = matches!(device.what, What::Nic(..));
    let mut network = Network {
        vlans: device.vlans.iter().map(|vlan| vlan.name.as_str()).collect(),
        // The switch and the node show each other where a cable ends.
        lldp: is_nic.then_some(true),
        emit_lldp: is_nic.then_some("nearest-bridge"),
        ..Network::default()
    };
    let mut protocols: Vec<Box<dyn Section>> = Vec::new();
    match &device.role {
        Role::Addressed(address) => {
            addressing(&mut network, address, purpose);
            protocols = self::protocols(address, purpose);
        }
        port_or_carrier => {
            match port_or_carrier {
                Role::BridgePort(bridge) => network.bridge = Some(&bridge.name),
                Role::BondPort(bond, primary) => {
                    network.bond = Some(&bond.name);
                    network.primary = primary.then_some(true);
                }
                Role::Addressed(_) | Role::Carrier => {}
            }
            network.link_local = Some("no");
            network.accept_ra = Some(false);
            network.without_carrier = (!is_nic).then_some(true);
        }
    }
    let vlans = bridge_vlans(device);
    let mut sections: Vec<&dyn Section> = vec![&matches, &link, &network];
    sections.extend(protocols.iter().map(Box::as_ref));
    sections.extend(vlans.iter().map(|vlan| vlan as &dyn Section));
    file(header(purpose), &sections)
}

/// Whether addresses, gateways and routes of the config are set.
fn sets_static(purpose: Purpose<'_>) -> bool {
    !matches!(purpose, Purpose::Preflight { static_addresses: false, .. })
}

fn addressing(network: &mut Network<'_>, address: &Address<'_>, purpose: Purpose<'_>) {
    let Address { dhcp, ipv6, fixed } = address;
    let (asks, accepts) = match (dhcp, ipv6) {
        (true, Ipv6::Auto) => ("yes", None),
        (true, Ipv6::Dhcp) => ("yes", Some(true)),
        (true, Ipv6::Static | Ipv6::Off) => ("ipv4", Some(false)),
        (false, Ipv6::Auto) => ("no", Some(true)),
        (false, Ipv6::Dhcp) => ("ipv6", Some(true)),
        (false, Ipv6::Static | Ipv6::Off) => ("no", Some(false)),
    };
    network.dhcp = Some(asks);
    network.accept_ra = accepts;
    network.link_local = (*ipv6 == Ipv6::Off).then_some("no");
    if sets_static(purpose) {
        network.addresses.clone_from(&fixed.addresses);
        network.gateways = fixed.gateways().collect();
    }
    if let Purpose::Preflight { dns, search, .. } = purpose {
        network.dns = dns.to_vec();
        network.domains = (!search.is_empty()).then(|| search.join(" "));
    }
    match fixed.addresses.is_empty() {
        // There before a cable is, and after: a control plane does not wait for a switch.
        false => network.without_carrier = Some(true),
        true => network.carrier_loss = Some(CARRIER_LOSS),
    }
    if *dhcp || *ipv6 == Ipv6::Dhcp {
        // networkd may be restarted under a running cluster.
        network.keep = Some("dhcp-on-stop");
    }
}

/// Sections behind `[Network]`.
fn protocols(address: &Address<'_>, purpose: Purpose<'_>) -> Vec<Box<dyn Section>> {
    let mut sections: Vec<Box<dyn Section>> = Vec::new();
    if address.dhcp {
        // By MAC: the same address after a reinstall, and for the installer as for the node.
        sections.push(Box::new(Dhcp4 { client_identifier: "mac", ..Dhcp4::default() }));
    }
    match address.ipv6 {
        // Asked also where no router says so.
        Ipv6::Dhcp => sections.push(Box::new(Dhcp6 { without_ra: Some("solicit"), ..Dhcp6::default() })),
        Ipv6::Auto => sections.push(Box::new(Dhcp6::default())),
        Ipv6::Static | Ipv6::Off => {}
    }
    for route in address.fixed.routes.iter().filter(|_| sets_static(purpose)) {
        sections.push(Box::new(Route {
            destination: Some(route.to),
            gateway: route.via,
            metric: route.metric,
            ..Route::default()
        }));
    }
    sections
}

/// Which VLANs pass: tagged ones through the ports of a VLAN-aware bridge, and those that the node itself has of it.
fn bridge_vlans(device: &Device<'_>) -> Vec<BridgeVlan<'static>> {
    let untagged = BridgeVlan { pvid: Some(UNTAGGED), untagged: Some(UNTAGGED), ..BridgeVlan::default() };
    let tagged = |range: VlanRange| BridgeVlan { vlan: Some(range), ..BridgeVlan::default() };
    let ranges: Vec<VlanRange> = match (&device.what, &device.role) {
        (What::Bridge(bridge), _) if bridge.vlan_aware() => {
            device.vlans.iter().map(|vlan| VlanRange { first: vlan.id, last: vlan.id }).collect()
        }
        (_, Role::BridgePort(bridge)) if bridge.vlan_aware() => carried(bridge),
        _ => return Vec::new(),
    };
    std::iter::once(untagged).chain(ranges.into_iter().map(tagged)).collect()
}
