//! Links of the kernel to what the cluster and the operator want to know. Pure.
//!
//! Route in: the links asked for, [`Link`]s, whether the clock is set. Route out: [`NetworkState`] for the Node
//! object, [`NetworkSection`] for the status page; what is wrong is found by [`super::problems`].

use super::merge::{Merged, NODE_TOML};
use super::{problems, verify};
use crate::channels::NetworkState;
use crate::names::is_tap;
use crate::status::{LinkSection, NetworkSection};
use sheaf_host::links::Link;
use sheaf_links::{LinkRef, Links};
use std::net::IpAddr;

/// What `links` mean for a node that shall have those of `merged`.
pub(super) fn view(
    merged: &Merged,
    links: &[Link],
    time_synchronised: bool,
    vip: Option<IpAddr>,
) -> (NetworkState, NetworkSection) {
    let network = &merged.links;
    let wanted = network.top_down();
    let bridges: Vec<&Link> = bridges(network, links);
    let vlan_aware = bridges.iter().filter(|bridge| bridge.vlan_aware);
    let vlan_bridges = vlan_aware.map(|bridge| bridge.name.clone()).collect();
    let bridges = bridges.iter().map(|bridge| bridge.name.clone()).collect();
    // The link by which the node is known comes first, then those of the config in its order.
    let mut in_order = wanted.clone();
    in_order.sort_by_key(|link| network.primary() != Some(link.name()));
    let mut all: Vec<IpAddr> = Vec::new();
    for address in in_order.into_iter().filter_map(|wanted| kernel_link(wanted, links)).flat_map(addresses) {
        // The address for people is here only while this node holds it.
        if !all.contains(&address) && Some(address) != vip {
            all.push(address);
        }
    }
    let asked_by = |name: &str| merged.asked_by.get(name).filter(|by| *by != NODE_TOML).cloned();
    let section =
        |wanted: &LinkRef<'_>| LinkSection { asked_by: asked_by(wanted.name()), ..section(*wanted, links) };
    let sections = wanted.iter().map(section).collect();
    let problem = problems::first(network, links);
    (
        NetworkState {
            addresses: all,
            bridges,
            vlan_bridges,
            ways_out: verify::ways_out(merged, links),
            time_synchronised,
        },
        NetworkSection { links: sections, time_synchronised, problem, ..NetworkSection::default() },
    )
}

/// Bridges that VMs can be connected to: those asked for in their order, then all others. One with an uplink must be
/// up; one without, for VMs alone, is up only while a VM is in it.
fn bridges<'l>(network: &Links, links: &'l [Link]) -> Vec<&'l Link> {
    let is_bridge = |link: &&Link| link.bridge_ports.is_some();
    let place = |link: &Link| network.bridges.iter().position(|bridge| bridge.name == link.name);
    let has_uplink = |link: &Link| link.bridge_ports.iter().flatten().any(|port| !is_tap(port));
    let usable = |link: &&Link| link.state == "up" || (place(link).is_none() && !has_uplink(link));
    let mut bridges: Vec<_> = links.iter().filter(is_bridge).filter(usable).collect();
    bridges.sort_by_key(|link| place(link).unwrap_or(usize::MAX));
    bridges
}

/// The kernel's link that a link of the config is: a NIC the kernel may call otherwise.
pub(super) fn kernel_link<'l>(wanted: LinkRef<'_>, links: &'l [Link]) -> Option<&'l Link> {
    let sheaf_links::Link::Nic(nic) = wanted.link else { return named(links, wanted.name()) };
    let selector = nic.selector();
    links.iter().find(|link| link.is_nic && selector.is(&super::found_nic(link)))
}

/// The kernel's link `name`.
pub(super) fn named<'l>(links: &'l [Link], name: &str) -> Option<&'l Link> {
    links.iter().find(|link| link.name == name)
}

/// Addresses by which others reach the link: IPv4 first, as clusters do by default; none of the link's own scope.
pub(super) fn addresses(link: &Link) -> Vec<IpAddr> {
    let of_link = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_loopback(),
    };
    let mut addresses: Vec<_> = link.addresses.iter().copied().filter(|ip| !of_link(ip)).collect();
    addresses.sort_by_key(IpAddr::is_ipv6); // stable: the kernel's order within a family
    addresses.dedup();
    addresses
}

fn section(wanted: LinkRef<'_>, links: &[Link]) -> LinkSection {
    let (name, kind) = (wanted.name(), wanted.kind().key());
    let base = LinkSection { name: name.to_owned(), kind: kind.to_owned(), ..LinkSection::default() };
    let Some(link) = kernel_link(wanted, links) else {
        return LinkSection { state: "missing".into(), ..base };
    };
    // The kernel's word for a link on top of one that has no cable.
    let state = if link.state == "lowerlayerdown" { "no cable" } else { &link.state };
    let of_bond = || link.bond.iter().flat_map(|bond| bond.ports.iter().map(|(name, _up)| name.clone()));
    let of_bridge = || link.bridge_ports.iter().flatten().filter(|port| !is_tap(port)).cloned();
    let of_vlan = || link.vlan.iter().map(|vlan| vlan.parent.clone());
    LinkSection {
        state: state.to_owned(),
        addresses: addresses(link),
        ports: of_bridge().chain(of_bond()).chain(of_vlan()).collect(),
        vms: link.bridge_ports.iter().flatten().filter(|port| is_tap(port)).count(),
        mtu: link.mtu,
        vlan: link.vlan.as_ref().map(|vlan| vlan.id),
        vlan_aware: link.vlan_aware,
        mode: link.bond.as_ref().map(|bond| bond.mode.clone()),
        active_port: link.bond.as_ref().and_then(|bond| bond.active.clone()),
        kernel_name: Some(link.name.clone()).filter(|kernel| kernel != name),
        is_addressed: wanted.has_address(),
        ..base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_config::load::parse_node_config;
    use sheaf_host::links::{Bond, Vlan};

    fn found_nic(name: &str, mac: &str) -> Link {
        let mac = Some(mac.to_owned());
        Link { name: name.into(), state: "up".into(), is_nic: true, permanent_mac: mac, ..Link::default() }
    }

    fn bridge(name: &str, ports: &[&str], addresses: &[&str]) -> Link {
        Link {
            name: name.into(),
            state: "up".into(),
            bridge_ports: Some(ports.iter().map(ToString::to_string).collect()),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..Link::default()
        }
    }

    fn network(text: &str) -> Links {
        let text = format!("version = 1\nsystem.hostname = \"a\"\n{text}");
        parse_node_config("node.toml", &text).unwrap_or_else(|errors| panic!("{errors}")).network.links
    }

    #[test]
    fn the_first_bridges_ipv4_address_comes_first_and_link_local_ones_never() {
        let network = network(
            "[[network.bridge]]\nname = \"br1\"\nports = [\"enp2s0\"]\n\
             [[network.bridge]]\nname = \"br0\"\nports = [\"enp1s0\"]\n",
        );
        let links = [
            found_nic("enp1s0", "52:54:00:00:00:01"),
            found_nic("enp2s0", "52:54:00:00:00:02"),
            bridge("br0", &["enp1s0"], &["192.0.2.10"]),
            bridge("br1", &["enp2s0", "vnet0"], &["2001:db8::1", "fe80::1", "198.51.100.1", "169.254.3.3"]),
        ];
        let (state, section) = view(&Merged::plain(&network), &links, true, None);
        let expected: Vec<IpAddr> =
            ["198.51.100.1", "2001:db8::1", "192.0.2.10"].iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(state.addresses, expected);
        assert_eq!(state.bridges, ["br1", "br0"]);
        assert_eq!(section.problem, None);
        assert_eq!(
            (section.links[0].ports.as_slice(), section.links[0].vms),
            (&["enp2s0".to_owned()][..], 1)
        );
    }

    #[test]
    fn the_address_for_people_is_never_the_nodes_own() {
        let network = network("[[network.bridge]]\nname = \"br0\"\nports = [\"enp1s0\"]\n");
        let links = [
            found_nic("enp1s0", "52:54:00:00:00:01"),
            bridge("br0", &["enp1s0"], &["192.0.2.100", "192.0.2.10"]),
        ];
        let vip = Some("192.0.2.100".parse().unwrap());
        let (state, section) = view(&Merged::plain(&network), &links, true, vip);
        assert_eq!(state.addresses, ["192.0.2.10".parse::<IpAddr>().unwrap()]);
        assert_eq!(section.links[0].addresses.len(), 2, "people see it where it is");
    }

    #[test]
    fn a_bridge_for_vms_alone_is_usable_without_a_port_and_one_with_a_dead_uplink_is_not() {
        let down = |link: Link| Link { state: "down".into(), ..link };
        let links = [
            found_nic("enp1s0", "52:54:00:00:00:01"),
            Link { vlan_aware: true, ..bridge("br0", &["enp1s0", "vm0b0e6d2c6an0"], &["192.0.2.10"]) },
            down(bridge("br5", &["enp2s0", "vm0b0e6d2c6an1"], &[])),
            down(bridge("masq0", &[], &[])),
        ];
        let (state, section) =
            view(&Merged::plain(&network("[[network.bridge]]\nname = \"br0\"\n")), &links, true, None);
        assert_eq!(state.bridges, ["br0", "masq0"]);
        assert_eq!(state.vlan_bridges, ["br0"]);
        assert_eq!(
            (section.links[0].ports.as_slice(), section.links[0].vms),
            (&["enp1s0".to_owned()][..], 1)
        );
    }

    #[test]
    fn bond_and_vlan_and_a_nic_with_a_name_of_its_own_are_shown_as_they_are() {
        let network = network(
            "[[network.nic]]\nname = \"up0\"\nmac = \"52:54:00:00:00:01\"\n\
             [[network.bond]]\nname = \"bond0\"\nports = [\"up0\", \"enp2s0\"]\nmode = \"802.3ad\"\n\
             [[network.vlan]]\nname = \"mgmt\"\nid = 10\nparent = \"bond0\"\naddresses = [\"192.0.2.10/24\"]\n\
             gateway = \"192.0.2.1\"\n",
        );
        let bond = Bond {
            mode: "802.3ad".into(),
            ports: vec![("enp1s0".into(), true), ("enp2s0".into(), true)],
            active: None,
            partner: Some("02:00:00:00:00:09".into()),
        };
        let links = [
            found_nic("enp1s0", "52:54:00:00:00:01"),
            found_nic("enp2s0", "52:54:00:00:00:02"),
            Link { name: "bond0".into(), state: "up".into(), bond: Some(bond), mtu: 9000, ..Link::default() },
            Link {
                name: "mgmt".into(),
                state: "up".into(),
                vlan: Some(Vlan { id: 10, parent: "bond0".into() }),
                addresses: vec!["192.0.2.10".parse().unwrap()],
                ..Link::default()
            },
        ];
        let (state, section) = view(&Merged::plain(&network), &links, true, None);
        assert_eq!(state.addresses, ["192.0.2.10".parse::<IpAddr>().unwrap()]);
        assert_eq!(section.problem, None);
        let shown: Vec<_> =
            section.links.iter().map(|link| (link.kind.as_str(), link.name.as_str())).collect();
        assert_eq!(shown, [("vlan", "mgmt"), ("bond", "bond0"), ("nic", "up0")]);
        assert_eq!(
            (section.links[0].vlan, section.links[0].ports.as_slice()),
            (Some(10), &["bond0".to_owned()][..])
        );
        assert_eq!((section.links[1].mode.as_deref(), section.links[1].mtu), (Some("802.3ad"), 9000));
        assert_eq!(section.links[2].kernel_name.as_deref(), Some("enp1s0"));
    }
}
