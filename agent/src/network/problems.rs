//! What is wrong with the links, each with its remedy. Pure.
//!
//! Why here: an operator at the screen gets one sentence, about what is nearest to the cable. Route in: the network
//! config and the kernel's links. Route out: the first problem.

use super::view::{addresses, kernel_link, named};
use sheaf_host::links::{Bond, Link};
use sheaf_links::{Bridge, Kind, LinkRef, Links};

/// The first thing that is wrong.
pub(super) fn first(config: &Links, links: &[Link]) -> Option<String> {
    let nics: Vec<_> = links.iter().filter(|link| link.is_nic).collect();
    if nics.is_empty() {
        return Some("this machine has no NIC that the image has a driver for".to_owned());
    }
    // From the cable upwards: what is below explains what is above.
    config.all().find_map(|wanted| of_link(wanted, links, &nics))
}

fn of_link(wanted: LinkRef<'_>, links: &[Link], nics: &[&Link]) -> Option<String> {
    let (name, kind) = (wanted.name(), wanted.kind().word());
    let Some(link) = kernel_link(wanted, links) else { return Some(missing(wanted, nics)) };
    let is = match wanted.kind() {
        Kind::Bridge => link.bridge_ports.is_some(),
        Kind::Bond => link.bond.is_some(),
        Kind::Vlan => link.vlan.is_some(),
        Kind::Nic => true,
    };
    if !is {
        return Some(format!("{name} exists and is not a {kind}; give the {kind} another name in node.toml"));
    }
    if let Some(bond) = &link.bond
        && let Some(problem) = of_bond(name, bond)
    {
        return Some(problem);
    }
    if let (sheaf_links::Link::Bridge(bridge), Some(ports)) = (wanted.link, &link.bridge_ports)
        && let Some(problem) = of_bridge(bridge, link, ports, links, nics)
    {
        return Some(problem);
    }
    if !wanted.has_address() {
        return None;
    }
    if link.state != "up" && link.state != "unknown" {
        return Some(format!("{name} is down: no cable, or its switch port is off"));
    }
    if addresses(link).is_empty() {
        return Some(match wanted.uses_dhcp() {
            true => {
                format!("{name} has no address yet; DHCP does not answer, or write addresses in node.toml")
            }
            false => format!("{name} has no address yet; read `journalctl -u systemd-networkd`"),
        });
    }
    None
}

fn missing(wanted: LinkRef<'_>, nics: &[&Link]) -> String {
    let (name, kind) = (wanted.name(), wanted.kind().word());
    let sheaf_links::Link::Nic(nic) = wanted.link else {
        return format!("{kind} {name} does not exist; read `journalctl -u systemd-networkd`");
    };
    let by = match (&nic.mac, &nic.path) {
        (Some(mac), _) => format!("with MAC {mac}"),
        (None, Some(path)) => format!("at {path}"),
        (None, None) => format!("called {name}"),
    };
    let there: Vec<_> = nics
        .iter()
        .map(|found_nic| match &found_nic.permanent_mac {
            Some(mac) => format!("{} ({mac})", found_nic.name),
            None => found_nic.name.clone(),
        })
        .collect();
    format!("there is no NIC {by}; there are {}: correct [[network.nic]] in node.toml", there.join(", "))
}

fn of_bond(name: &str, bond: &Bond) -> Option<String> {
    if bond.ports.is_empty() {
        return Some(format!("bond {name} has no NIC; correct its ports in node.toml"));
    }
    let dead: Vec<_> = bond.ports.iter().filter(|(_, up)| !up).map(|(port, _)| port.as_str()).collect();
    if dead.len() == bond.ports.len() {
        return Some(format!(
            "bond {name} is down: no cable in {}, or the switch ports are off",
            dead.join(", ")
        ));
    }
    if bond.mode == "802.3ad" && bond.partner.is_none() {
        return Some(format!(
            "bond {name}: the switch does not speak LACP; put its ports into one LACP group, or write \
             mode = \"active-backup\""
        ));
    }
    // Last: it works meanwhile.
    if !dead.is_empty() {
        return Some(format!("bond {name} is degraded: no cable in {}", dead.join(", ")));
    }
    None
}

fn of_bridge(
    bridge: &Bridge,
    link: &Link,
    ports: &[String],
    links: &[Link],
    nics: &[&Link],
) -> Option<String> {
    let name = &bridge.name;
    // Taps of VMs are ports as well; without a NIC nobody outside hears them.
    let uplinks: Vec<_> = ports.iter().filter(|port| reaches_nic(port, links)).map(String::as_str).collect();
    if uplinks.is_empty() {
        let there: Vec<_> = nics.iter().map(|found_nic| found_nic.name.as_str()).collect();
        return Some(format!(
            "bridge {name} has no NIC; name one of {} as its port in node.toml",
            there.join(", ")
        ));
    }
    if bridge.ports.is_empty() && nics.len() > 1 {
        return Some(format!(
            "of {} NICs {name} uses {}; write ports in node.toml to choose",
            nics.len(),
            uplinks.join(", ")
        ));
    }
    if link.state != "up" {
        return Some(format!(
            "bridge {name} is down: no cable in {}, or its switch port is off",
            uplinks.join(", ")
        ));
    }
    None
}

/// Whether `name` is a NIC, or a bond or VLAN that leads to one.
fn reaches_nic(name: &str, links: &[Link]) -> bool {
    let Some(link) = named(links, name) else { return false };
    let by_bond = || link.bond.iter().any(|bond| bond.ports.iter().any(|(port, _)| reaches_nic(port, links)));
    let by_vlan = || link.vlan.iter().any(|vlan| vlan.parent != name && reaches_nic(&vlan.parent, links));
    let by_bridge = || {
        let mut ports = link.bridge_ports.iter().flatten();
        ports.any(|port| named(links, port).is_some_and(|port| port.is_nic || port.bond.is_some()))
    };
    link.is_nic || by_bond() || by_vlan() || by_bridge()
}

#[cfg(test)]
mod tests {
    use super::super::merge::Merged;
    use super::super::view::view;
    use super::*;
    use sheaf_config::load::parse_node_config;

    fn found_nic(name: &str) -> Link {
        let mac = Some("52:54:00:00:00:01".to_owned());
        Link { name: name.into(), state: "up".into(), is_nic: true, permanent_mac: mac, ..Link::default() }
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

    fn bond(mode: &str, ports: &[(&str, bool)]) -> Link {
        let ports = ports.iter().map(|(name, up)| ((*name).to_owned(), *up)).collect();
        let bond = Bond { mode: mode.into(), ports, ..Bond::default() };
        Link { name: "bond0".into(), state: "up".into(), bond: Some(bond), ..Link::default() }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let problem = |links: &[Link]| {
            view(&Merged::plain(&sheaf_links::Links::only_nic()), links, false, None)
                .1
                .problem
                .unwrap_or_default()
        };
        assert!(problem(&[]).contains("no NIC that the image"));
        assert!(problem(&[found_nic("enp1s0")]).contains("br0 does not exist"));
        assert!(problem(&[found_nic("br0")]).contains("is not a bridge"));
        assert!(problem(&[bridge("br0", "down", &["vnet0"], &[])]).contains("no NIC that the image"));
        let unused = problem(&[found_nic("enp1s0"), bridge("br0", "down", &[], &[])]);
        assert!(unused.contains("name one of enp1s0"), "{unused}");
        let two = problem(&[
            found_nic("enp1s0"),
            found_nic("enp2s0"),
            bridge("br0", "up", &["enp1s0"], &["192.0.2.1"]),
        ]);
        assert!(two.contains("of 2 NICs br0 uses enp1s0"), "{two}");
        let no_cable = problem(&[found_nic("enp1s0"), bridge("br0", "lowerlayerdown", &["enp1s0"], &[])]);
        assert!(no_cable.contains("no cable in enp1s0"), "{no_cable}");
        let silent = problem(&[found_nic("enp1s0"), bridge("br0", "up", &["enp1s0"], &["fe80::1"])]);
        assert!(silent.contains("DHCP does not answer"), "{silent}");
    }

    #[test]
    fn a_bond_says_which_cable_is_missing_and_that_a_switch_is_silent() {
        let text = "version = 1\nsystem.hostname = \"a\"\n\
                    [[network.bond]]\nname = \"bond0\"\nports = [\"enp1s0\", \"enp2s0\"]\nmode = \"802.3ad\"\n\
                    [[network.bridge]]\nname = \"br0\"\nports = [\"bond0\"]\n";
        let network =
            parse_node_config("node.toml", text).unwrap_or_else(|errors| panic!("{errors}")).network.links;
        let problem = |bond: Link| {
            let br0 = bridge("br0", "up", &["bond0", "vnet0"], &["192.0.2.1"]);
            view(&Merged::plain(&network), &[found_nic("enp1s0"), found_nic("enp2s0"), bond, br0], true, None)
                .1
                .problem
                .unwrap_or_default()
        };
        let both = [("enp1s0", true), ("enp2s0", true)];
        assert_eq!(problem(bond("active-backup", &both)), "");
        assert!(problem(bond("802.3ad", &both)).contains("the switch does not speak LACP"));
        let one = problem(bond("active-backup", &[("enp1s0", true), ("enp2s0", false)]));
        assert_eq!(one, "bond bond0 is degraded: no cable in enp2s0");
        let none = problem(bond("active-backup", &[("enp1s0", false), ("enp2s0", false)]));
        assert!(none.contains("is down: no cable in enp1s0, enp2s0"), "{none}");
        assert!(problem(bond("active-backup", &[])).contains("has no NIC"));
    }

    #[test]
    fn a_nic_that_is_not_there_is_named_with_those_that_are() {
        let text = "version = 1\nsystem.hostname = \"a\"\n\
                    [[network.nic]]\nname = \"up0\"\nmac = \"52:54:00:00:00:99\"\ndhcp = true\n";
        let network =
            parse_node_config("node.toml", text).unwrap_or_else(|errors| panic!("{errors}")).network.links;
        assert_eq!(
            view(&Merged::plain(&network), &[found_nic("enp1s0")], true, None).1.problem.unwrap(),
            "there is no NIC with MAC 52:54:00:00:00:99; there are enp1s0 (52:54:00:00:00:01): \
             correct [[network.nic]] in node.toml"
        );
    }
}
