//! Whether the kernel's links are those that were asked for. Pure.
//!
//! Why here: networkd takes a file and may still not do it; and an address that does not come is what a wrong VLAN looks
//! like. Route in: the links asked for, the kernel's links, which of them worked before. Route out: [`Finding`]s, graver
//! ones first; with a grave one a change is rolled back.

use super::merge::{Merged, NODE_TOML};
use super::view::{addresses, kernel_link, named};
use crate::names::is_tap;
use sheaf_host::links::Link;
use sheaf_links::{Bond, BondMode, Bridge, Kind, LinkRef, Links};
use std::collections::{BTreeMap, BTreeSet};

/// Something that is not as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, with the name of the link.
    pub what: String,
    /// It cuts somebody off, or was not done at all.
    pub is_grave: bool,
}

/// Names of the links in `network` that work in `links`: there, up, addressed where they shall be.
pub fn working(network: &Links, links: &[Link]) -> BTreeSet<String> {
    let works = |wanted: &LinkRef<'_>| {
        let Some(link) = kernel_link(*wanted, links) else { return false };
        is_up(link) && has_port(link) && (!wanted.has_address() || !addresses(link).is_empty())
    };
    network.all().filter(works).map(|wanted| wanted.name().to_owned()).collect()
}

/// Links of `merged` that lead out of the machine, and whether each works. A bridge works by a port of its own, for VMs
/// keep it up without one; one that a policy made for VMs alone leads nowhere.
pub fn ways_out(merged: &Merged, links: &[Link]) -> BTreeMap<String, bool> {
    let works = working(&merged.links, links);
    let by_policy = |name: &str| merged.asked_by.get(name).is_some_and(|by| by != NODE_TOML);
    let for_vms_alone = |wanted: &LinkRef<'_>| match wanted.link {
        sheaf_links::Link::Bridge(bridge) => bridge.ports.is_empty() && by_policy(&bridge.name),
        _ => false,
    };
    let port_works =
        |port: &String| !is_tap(port) && named(links, port).is_some_and(|link| is_up(link) && has_port(link));
    let has_uplink = |wanted: LinkRef<'_>| {
        let ports = kernel_link(wanted, links).and_then(|link| link.bridge_ports.as_ref());
        ports.is_none_or(|ports| ports.iter().any(port_works))
    };
    let way_out =
        |wanted: LinkRef<'_>| (wanted.name().to_owned(), works.contains(wanted.name()) && has_uplink(wanted));
    merged.links.all().filter(|wanted| !for_vms_alone(wanted)).map(way_out).collect()
}

fn is_up(link: &Link) -> bool {
    // A dummy or a tunnel has no carrier that it could lose.
    ["up", "unknown"].contains(&link.state.as_str())
}

/// A bond may say that it is up when none of its ports is.
fn has_port(link: &Link) -> bool {
    link.bond.as_ref().is_none_or(|bond| bond.ports.iter().any(|(_, up)| *up))
}

/// What of `network` is not as it shall be. `before` are the links that worked before the change.
pub fn verify(network: &Links, links: &[Link], before: &BTreeSet<String>) -> Vec<Finding> {
    // From the cable upwards: what is below explains what is above.
    let mut findings: Vec<Finding> =
        network.all().filter_map(|wanted| of_link(network, wanted, links, before)).collect();
    findings.sort_by_key(|finding| !finding.is_grave);
    findings
}

fn grave(what: String) -> Option<Finding> {
    Some(Finding { what, is_grave: true })
}

fn of_link(
    network: &Links,
    wanted: LinkRef<'_>,
    links: &[Link],
    before: &BTreeSet<String>,
) -> Option<Finding> {
    let (name, kind) = (wanted.name(), wanted.kind().key());
    let worked = before.contains(name);
    let Some(link) = kernel_link(wanted, links) else {
        // A NIC that is not in this machine is for the status page; it was so before.
        let what = format!("{kind} {name} is not there");
        return Some(Finding { what, is_grave: wanted.kind() != Kind::Nic || worked });
    };
    if let Some(what) = differs(network, wanted, link, links) {
        return grave(format!("{kind} {name}: {what}"));
    }
    if let (sheaf_links::Link::Bond(wants), Some(bond)) = (wanted.link, &link.bond)
        && wants.mode() == BondMode::Lacp
        && bond.partner.is_none()
        && bond.ports.iter().any(|(_, up)| *up)
    {
        return grave(format!("bond {name}: the switch does not speak LACP"));
    }
    if !is_up(link) || !has_port(link) {
        let state = if has_port(link) { &link.state } else { "down" };
        let what = format!("{kind} {name} is {state}: no cable, or its switch port is off");
        return Some(Finding { what, is_grave: worked });
    }
    if wanted.has_address() && addresses(link).is_empty() {
        let what = match wanted.uses_dhcp() {
            true => format!("{kind} {name} has no address: DHCP does not answer"),
            false => format!("{kind} {name} has no address"),
        };
        return grave(what);
    }
    let dead = link.bond.iter().flat_map(|bond| &bond.ports).find(|(_, up)| !up);
    dead.map(|(port, _)| Finding { what: format!("bond {name}: no cable in {port}"), is_grave: false })
}

/// In what the kernel's link is another one.
fn differs(network: &Links, wanted: LinkRef<'_>, link: &Link, links: &[Link]) -> Option<String> {
    match wanted.link {
        sheaf_links::Link::Bridge(bridge) => of_bridge(network, bridge, link, links),
        sheaf_links::Link::Bond(bond) => of_bond(network, bond, link, links),
        sheaf_links::Link::Vlan(vlan) => {
            let Some(is) = &link.vlan else { return Some("another link has its name".into()) };
            if is.id != vlan.id {
                return Some(format!("is VLAN {} and not {}", is.id, vlan.id));
            }
            mtu(vlan.mtu, link)
        }
        sheaf_links::Link::Nic(nic) => mtu(nic.mtu, link),
    }
}

fn mtu(wants: Option<u32>, link: &Link) -> Option<String> {
    let wants = wants?;
    (link.mtu != wants).then(|| format!("has MTU {} and not {wants}", link.mtu))
}

fn of_bridge(network: &Links, bridge: &Bridge, link: &Link, links: &[Link]) -> Option<String> {
    let Some(ports) = &link.bridge_ports else { return Some("another link has its name".into()) };
    if link.vlan_aware != bridge.vlan_aware() {
        return Some(match bridge.vlan_aware() {
            true => "VLAN filtering is off; expected on".into(),
            false => "VLAN filtering is on; expected off".into(),
        });
    }
    let has = ports.iter().map(String::as_str).collect();
    missing(network, &bridge.ports, &has, links).or_else(|| mtu(bridge.mtu, link))
}

fn of_bond(network: &Links, bond: &Bond, link: &Link, links: &[Link]) -> Option<String> {
    let Some(is) = &link.bond else { return Some("another link has its name".into()) };
    if is.mode != bond.mode().name() {
        return Some(format!("is in mode {} and not {}", is.mode, bond.mode().name()));
    }
    let has = is.ports.iter().map(|(port, _)| port.as_str()).collect();
    missing(network, &bond.ports, &has, links).or_else(|| mtu(bond.mtu, link))
}

/// The first port that is there and not in it.
fn missing(network: &Links, wants: &[String], has: &BTreeSet<&str>, links: &[Link]) -> Option<String> {
    let found_nics = super::found_nics(links);
    let kernel_name = |port: &String| match network.made(port) {
        Some(_) => named(links, port).map(|link| link.name.clone()),
        None => network.find(port, &found_nics).map(|found_nic| found_nic.name.clone()),
    };
    let port = wants.iter().filter_map(kernel_name).find(|port| !has.contains(port.as_str()))?;
    Some(format!("{port} is not in it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_config::load::parse_node_config;
    use sheaf_host::links::{Bond as KernelBond, Vlan};

    const NETWORK: &str = "version = 1\nsystem.hostname = \"a\"\n\
        [[network.bond]]\nname = \"bond1\"\nports = [\"52:54:00:00:00:02\", \"enp3s0\"]\nmtu = 9000\n\
        [[network.vlan]]\nname = \"stor\"\nid = 100\nparent = \"bond1\"\ndhcp = true\n\
        [[network.bridge]]\nname = \"br0\"\nports = [\"enp1s0\"]\nvlan-aware = true\n";

    fn links() -> Vec<Link> {
        let found_nic = |name: &str, mac: &str| Link {
            name: name.into(),
            state: "up".into(),
            is_nic: true,
            permanent_mac: Some(mac.into()),
            mtu: 1500,
            ..Link::default()
        };
        let bond = KernelBond {
            mode: "active-backup".into(),
            ports: vec![("enp2s0".into(), true), ("enp3s0".into(), true)],
            ..KernelBond::default()
        };
        let up = |name: &str| Link { name: name.into(), state: "up".into(), mtu: 1500, ..Link::default() };
        let address = |text: &str| vec![text.parse().unwrap()];
        vec![
            found_nic("enp1s0", "52:54:00:00:00:01"),
            found_nic("enp2s0", "52:54:00:00:00:02"),
            found_nic("enp3s0", "52:54:00:00:00:03"),
            Link { bond: Some(bond), mtu: 9000, ..up("bond1") },
            Link {
                vlan: Some(Vlan { id: 100, parent: "bond1".into() }),
                addresses: address("10.0.3.15"),
                ..up("stor")
            },
            Link {
                bridge_ports: Some(vec!["enp1s0".into(), "vnet0".into()]),
                vlan_aware: true,
                addresses: address("10.0.2.11"),
                ..up("br0")
            },
        ]
    }

    fn network() -> Links {
        parse_node_config("n", NETWORK).unwrap_or_else(|errors| panic!("{errors}")).network.links
    }

    /// The first finding after `change`, with what worked before it.
    fn after(change: impl FnOnce(&mut Vec<Link>)) -> (String, bool) {
        let (network, mut links) = (network(), links());
        let before = working(&network, &links);
        assert_eq!(verify(&network, &links, &before), []);
        change(&mut links);
        let found = verify(&network, &links, &before);
        found.into_iter().next().map(|finding| (finding.what, finding.is_grave)).unwrap()
    }

    fn grave(what: &str) -> (String, bool) {
        (what.to_owned(), true)
    }

    #[test]
    fn what_was_not_done_is_found() {
        assert_eq!(after(|links| drop(links.remove(3))), grave("bond bond1 is not there"));
        assert_eq!(after(|links| links[3].mtu = 1500), grave("bond bond1: has MTU 1500 and not 9000"));
        assert_eq!(
            after(|links| links[5].vlan_aware = false),
            grave("bridge br0: VLAN filtering is off; expected on")
        );
        let empty = |links: &mut Vec<Link>| links[5].bridge_ports = Some(Vec::new());
        assert_eq!(after(empty), grave("bridge br0: enp1s0 is not in it"));
        let number = |links: &mut Vec<Link>| links[4].vlan.as_mut().unwrap().id = 7;
        assert_eq!(after(number), grave("vlan stor: is VLAN 7 and not 100"));
        let mode = |links: &mut Vec<Link>| links[3].bond.as_mut().unwrap().mode = "802.3ad".into();
        assert_eq!(after(mode), grave("bond bond1: is in mode 802.3ad and not active-backup"));
    }

    #[test]
    fn what_no_longer_works_is_grave_and_a_cable_out_of_two_is_not() {
        let no_lease = |links: &mut Vec<Link>| links[4].addresses.clear();
        assert_eq!(after(no_lease), grave("vlan stor has no address: DHCP does not answer"));
        let down = |links: &mut Vec<Link>| links[5].state = "down".into();
        assert_eq!(after(down), grave("bridge br0 is down: no cable, or its switch port is off"));
        let one = |links: &mut Vec<Link>| links[3].bond.as_mut().unwrap().ports[1].1 = false;
        assert_eq!(after(one), ("bond bond1: no cable in enp3s0".into(), false));
    }

    #[test]
    fn a_bridge_that_vms_keep_up_is_no_way_out_without_its_uplink_and_one_for_vms_alone_never_is() {
        let (mut merged, mut links) = (Merged::plain(&network()), links());
        let works = |merged: &Merged, links: &[Link]| {
            let ways_out = ways_out(merged, links);
            ways_out.into_iter().map(|(name, works)| format!("{name} {works}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(works(&merged, &links), "bond1 true, br0 true, stor true");
        links[0].state = "down".into();
        assert_eq!(works(&merged, &links), "bond1 true, br0 false, stor true");
        // The NIC has no driver any more: only the VM is in the bridge.
        links.remove(0);
        links[4].bridge_ports = Some(vec!["vnet0".into()]);
        links.remove(3);
        assert_eq!(works(&merged, &links), "bond1 true, br0 false, stor false");
        merged.links.bridges.push(Bridge { name: "br9".into(), ..merged.links.bridges[0].clone() });
        merged.links.bridges[1].ports.clear();
        merged.asked_by.insert("br9".into(), "policy lab".into());
        assert_eq!(works(&merged, &links), "bond1 true, br0 false, stor false");
    }

    #[test]
    fn a_new_link_without_a_cable_is_told_and_nobody_is_cut_off() {
        let (network, mut links) = (network(), links());
        links[5].state = "down".into();
        let found = verify(&network, &links, &BTreeSet::new());
        assert!(!found[0].is_grave && found[0].what.starts_with("bridge br0 is down"), "{found:?}");
    }

    #[test]
    fn a_bond_whose_switch_is_silent_is_grave() {
        let text = NETWORK.replace("mtu = 9000", "mtu = 9000\nmode = \"802.3ad\"");
        let network = parse_node_config("n", &text).unwrap_or_else(|errors| panic!("{errors}")).network.links;
        let mut links = links();
        links[3].bond.as_mut().unwrap().mode = "802.3ad".into();
        let found = verify(&network, &links, &BTreeSet::new());
        assert_eq!(
            (found[0].what.as_str(), found[0].is_grave),
            ("bond bond1: the switch does not speak LACP", true)
        );
        links[3].bond.as_mut().unwrap().partner = Some("02:00:00:00:00:09".into());
        assert_eq!(verify(&network, &links, &BTreeSet::new()), []);
    }
}
