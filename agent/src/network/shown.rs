//! The node's links as its NodeNetworkState shows them. Pure.
//!
//! Why here: anyone who writes a policy looks here for NICs by MAC and place, and for what stands on them; also at those
//! that nobody asked for. Route in: the links asked for and the kernel's. Route out: the object's status.

use super::merge::Merged;
use super::view::{addresses, kernel_link};
use crate::names::is_tap;
use sheaf_api::node_network::NodeNetworkStateStatus;
use sheaf_api::node_network::state::LinkState;
use sheaf_host::links::Link;
use sheaf_host::reach::Gateway;
use std::net::IpAddr;

/// What there is to show. `problem` is that of the status page.
pub(super) fn shown(
    merged: &Merged,
    links: &[Link],
    gateways: &[Gateway],
    name_servers: &[IpAddr],
    problem: Option<String>,
) -> NodeNetworkStateStatus {
    let of_vm = |link: &&Link| is_tap(&link.name) || link.name == "lo";
    NodeNetworkStateStatus {
        management: merged.links.primary().map(str::to_owned),
        links: links.iter().filter(|link| !of_vm(link)).map(|link| state(merged, link, links)).collect(),
        gateways: gateways.iter().map(|gateway| gateway.address.to_string()).collect(),
        name_servers: name_servers.iter().map(ToString::to_string).collect(),
        problem,
    }
}

fn state(merged: &Merged, link: &Link, links: &[Link]) -> LinkState {
    let kind = match link {
        Link { bridge_ports: Some(_), .. } => "bridge",
        Link { bond: Some(_), .. } => "bond",
        Link { vlan: Some(_), .. } => "vlan",
        Link { is_nic: true, .. } => "nic",
        _ => "other",
    };
    // A NIC may have another name in node.toml, or none, and be meant all the same.
    let described = merged.links.top_down().into_iter().find_map(|wanted| {
        let is = kernel_link(wanted, links).is_some_and(|found| found.name == link.name);
        is.then(|| merged.asked_by(wanted.name()).to_owned())
    });
    let used = || {
        let is = |port: &String| *port == link.name || link.permanent_mac.as_ref() == Some(port);
        let user = merged.links.top_down().into_iter().find(|user| user.ports().iter().any(is))?;
        merged.asked_by.get(user.name()).cloned()
    };
    let of_bond = || link.bond.iter().flat_map(|bond| bond.ports.iter().map(|(name, _)| name.clone()));
    let of_bridge = || link.bridge_ports.iter().flatten().filter(|port| !is_tap(port)).cloned();
    let of_vlan = || link.vlan.iter().map(|vlan| vlan.parent.clone());
    let vms = link.bridge_ports.as_ref().map(|ports| ports.iter().filter(|port| is_tap(port)).count());
    LinkState {
        name: link.name.clone(),
        kind: kind.to_owned(),
        state: link.state.clone(),
        asked_by: described.or_else(used),
        mac: link.permanent_mac.clone(),
        path: link.place.clone(),
        mtu: Some(link.mtu).filter(|mtu| *mtu > 0),
        addresses: addresses(link).iter().map(ToString::to_string).collect(),
        ports: of_bridge().chain(of_bond()).chain(of_vlan()).collect(),
        vlan: link.vlan.as_ref().map(|vlan| vlan.id),
        vlan_aware: link.bridge_ports.as_ref().map(|_| link.vlan_aware),
        mode: link.bond.as_ref().map(|bond| bond.mode.clone()),
        vms: vms.map(|vms| u32::try_from(vms).unwrap_or(u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_config::load::parse_node_config;

    #[test]
    fn nics_that_nobody_asked_for_are_shown_and_interfaces_of_vms_are_counted() {
        let text = "version = 1\nsystem.hostname = \"a\"\n\
                    [[network.bridge]]\nname = \"br0\"\nports = [\"52:54:00:00:00:01\"]\n";
        let network = parse_node_config("n", text).unwrap_or_else(|errors| panic!("{errors}")).network.links;
        let found_nic = |name: &str, mac: &str| Link {
            name: name.into(),
            is_nic: true,
            permanent_mac: Some(mac.into()),
            ..Link::default()
        };
        let links = [
            Link { name: "lo".into(), ..Link::default() },
            found_nic("enp1s0", "52:54:00:00:00:01"),
            found_nic("enp2s0", "52:54:00:00:00:02"),
            Link {
                name: "br0".into(),
                bridge_ports: Some(vec!["enp1s0".into(), "vnet0".into()]),
                ..Link::default()
            },
            Link { name: "vnet0".into(), ..Link::default() },
        ];
        let shown = shown(&Merged::plain(&network), &links, &[], &[], None);
        let rows: Vec<_> =
            shown.links.iter().map(|link| (link.name.as_str(), link.asked_by.as_deref(), link.vms)).collect();
        let expected = [
            ("enp1s0", Some("node.toml"), None),
            ("enp2s0", None, None),
            ("br0", Some("node.toml"), Some(1)),
        ];
        assert_eq!(rows, expected);
        assert_eq!(
            (shown.management.as_deref(), &shown.links[2].ports[..]),
            (Some("br0"), &["enp1s0".into()][..])
        );
    }
}
