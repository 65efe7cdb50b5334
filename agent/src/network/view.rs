//! Links of the kernel to what the cluster and the operator want to know. Pure.
//!
//! Route in: the network config, [`Link`]s, whether the clock is set. Route out: [`NetworkState`] for the Node
//! object, [`NetworkSection`] for the status page.

use crate::channels::NetworkState;
use crate::status::{LinkSection, NetworkSection};
use sheaf_config::node::{Bridge, Network};
use sheaf_host::links::Link;
use std::net::IpAddr;

/// What `links` mean for a node configured by `network`.
pub(super) fn view(
    network: &Network,
    links: &[Link],
    time_synchronised: bool,
) -> (NetworkState, NetworkSection) {
    let find = |bridge: &Bridge| links.iter().find(|link| link.name == bridge.name);
    let is_up = |link: &Link| link.bridge_ports.is_some() && link.state == "up";
    let bridges = network.bridges.iter().filter(|bridge| find(bridge).is_some_and(is_up));
    let bridges = bridges.map(|bridge| bridge.name.clone()).collect();
    // Bridges in the config's order: the first is the one by which the node is known.
    let addresses = network.bridges.iter().filter_map(find).flat_map(addresses).collect();
    let sections = network.bridges.iter().map(|bridge| section(bridge, find(bridge))).collect();
    let problem = network.bridges.iter().find_map(|bridge| problem(bridge, find(bridge), links));
    (
        NetworkState { addresses, bridges, time_synchronised },
        NetworkSection { links: sections, time_synchronised, problem },
    )
}

/// Addresses by which others reach the link: IPv4 first, as clusters do by default; none of the link's own scope.
fn addresses(link: &Link) -> Vec<IpAddr> {
    let of_link = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_loopback(),
    };
    let mut addresses: Vec<_> = link.addresses.iter().copied().filter(|ip| !of_link(ip)).collect();
    addresses.sort_by_key(IpAddr::is_ipv6); // stable: the kernel's order within a family
    addresses.dedup();
    addresses
}

fn section(bridge: &Bridge, link: Option<&Link>) -> LinkSection {
    let Some(link) = link else {
        return LinkSection { name: bridge.name.clone(), state: "missing".into(), ..LinkSection::default() };
    };
    // The kernel's word for a bridge none of whose NICs has a cable.
    let state = if link.state == "lowerlayerdown" { "no cable" } else { &link.state };
    LinkSection {
        name: link.name.clone(),
        state: state.to_owned(),
        addresses: addresses(link),
        ports: link.bridge_ports.clone().unwrap_or_default(),
    }
}

/// The first thing that is wrong with a bridge, with its remedy.
fn problem(bridge: &Bridge, link: Option<&Link>, links: &[Link]) -> Option<String> {
    let name = &bridge.name;
    let cards: Vec<_> = links.iter().filter(|link| link.is_card).collect();
    let names = || cards.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(link) = link else {
        return Some(format!("bridge {name} does not exist; read `journalctl -u systemd-networkd`"));
    };
    let Some(ports) = &link.bridge_ports else {
        return Some(format!("{name} exists and is no bridge; give the bridge another name in node.toml"));
    };
    // Taps of VMs are ports as well; without a card nobody outside hears them.
    if !ports.iter().any(|port| cards.iter().any(|card| card.name == *port)) {
        return Some(match cards.is_empty() {
            true => "this machine has no network card that the image has a driver for".to_owned(),
            false => {
                format!("bridge {name} has no network card; name one of {} as its port in node.toml", names())
            }
        });
    }
    if bridge.ports.is_empty() && cards.len() > 1 {
        let used = ports.join(", ");
        return Some(format!(
            "of {} network cards {name} uses {used}; write ports in node.toml to choose",
            cards.len()
        ));
    }
    if link.state != "up" {
        return Some(format!(
            "bridge {name} is down: no cable in {}, or its switch port is off",
            ports.join(", ")
        ));
    }
    if bridge.uses_dhcp() && addresses(link).is_empty() {
        return Some(format!(
            "{name} has no address yet; DHCP does not answer, or write addresses in node.toml"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str) -> Link {
        Link { name: name.into(), state: "up".into(), is_card: true, ..Link::default() }
    }

    fn bridge(name: &str, state: &str, ports: &[&str], addresses: &[&str]) -> Link {
        Link {
            name: name.into(),
            state: state.into(),
            bridge_ports: Some(ports.iter().map(ToString::to_string).collect()),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..Link::default()
        }
    }

    #[test]
    fn the_first_bridges_ipv4_address_comes_first_and_link_local_ones_never() {
        let network = Network {
            bridges: vec![
                Bridge { name: "br1".into(), ports: vec!["enp2s0".into()], ..Bridge::default() },
                Bridge { name: "br0".into(), ports: vec!["enp1s0".into()], ..Bridge::default() },
            ],
            ..Network::default()
        };
        let links = [
            card("enp1s0"),
            card("enp2s0"),
            bridge("br0", "up", &["enp1s0"], &["192.0.2.10"]),
            bridge(
                "br1",
                "up",
                &["enp2s0", "vnet0"],
                &["2001:db8::1", "fe80::1", "198.51.100.1", "169.254.3.3"],
            ),
        ];
        let (state, section) = view(&network, &links, true);
        let expected: Vec<IpAddr> =
            ["198.51.100.1", "2001:db8::1", "192.0.2.10"].iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(state.addresses, expected);
        assert_eq!(state.bridges, ["br1", "br0"]);
        assert_eq!(section.problem, None);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let problem = |links: &[Link]| view(&Network::default(), links, false).1.problem.unwrap_or_default();
        assert!(problem(&[]).contains("br0 does not exist"));
        assert!(problem(&[card("br0")]).contains("no bridge"));
        assert!(
            problem(&[bridge("br0", "down", &["vnet0"], &[])]).contains("no network card that the image")
        );
        let unused = problem(&[card("enp1s0"), bridge("br0", "down", &[], &[])]);
        assert!(unused.contains("name one of enp1s0"), "{unused}");
        let two =
            problem(&[card("enp1s0"), card("enp2s0"), bridge("br0", "up", &["enp1s0"], &["192.0.2.1"])]);
        assert!(two.contains("of 2 network cards br0 uses enp1s0"), "{two}");
        let no_cable = problem(&[card("enp1s0"), bridge("br0", "lowerlayerdown", &["enp1s0"], &[])]);
        assert!(no_cable.contains("no cable in enp1s0"), "{no_cable}");
        let silent = problem(&[card("enp1s0"), bridge("br0", "up", &["enp1s0"], &["fe80::1"])]);
        assert!(silent.contains("DHCP does not answer"), "{silent}");
    }
}
