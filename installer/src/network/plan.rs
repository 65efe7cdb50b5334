//! Which probes a node config asks for, in the order of trying. Pure.
//!
//! Route in: the config, the machine's NICs. Route out: [`Probe`]s; what a later one needs comes before it.

use super::{Probe, What};
use crate::inventory::Inventory;
use sheaf_config::node::{ClusterMode, NodeConfig};
use sheaf_config::select::found_nics;
use sheaf_links::{Link, LinkRef, Links};
use std::net::IpAddr;

/// What is tried for `config` on this machine.
pub fn plan(config: &NodeConfig, inventory: &Inventory) -> Vec<Probe> {
    let joins = config.cluster.as_ref().filter(|cluster| cluster.mode == ClusterMode::Join);
    // A node that joins nobody comes up without a network, and can be given one later.
    let required = joins.is_some();
    let (network, links) = (&config.network, &config.network.links);
    let found_nics = found_nics(&inventory.nics);
    let mut probes: Vec<Probe> = Vec::new();
    let mut add = |required: bool, what: What| {
        if !probes.iter().any(|probe| probe.what == what) {
            probes.push(Probe { what, required });
        }
    };
    let addressed: Vec<LinkRef<'_>> =
        links.top_down().into_iter().filter(|link| link.has_address()).collect();
    let primary = links.primary();
    for link in &addressed {
        let under = links.under(link.name(), &found_nics, None);
        for found_nic in &under {
            let alone = under.len() == 1 && primary == Some(link.name());
            add(required && alone, What::Link { nic: found_nic.name.clone() });
        }
    }
    for link in addressed {
        let (name, addressing) = (link.name(), link.addressing());
        for net in addressing.addresses.iter().filter(|net| net.addr().is_ipv4()) {
            // Two machines with one address disturb each other, whatever the node is for.
            add(true, What::Free { link: name.to_owned(), address: net.addr() });
        }
        let vital = required && primary == Some(name);
        if link.uses_dhcp() {
            add(vital, What::Dhcp { link: name.to_owned(), vlan: vlan(links, link) });
        }
        for gateway in addressing.gateways() {
            add(vital, What::Gateway { address: Some(gateway) });
        }
        if link.uses_dhcp() && addressing.gateway.is_none() {
            add(false, What::Gateway { address: None });
        }
    }
    let server = joins.and_then(|cluster| cluster.server.clone());
    if let Some(name) = server.as_deref().and_then(host_name) {
        add(true, What::Dns { name: name.to_owned() });
    }
    match network.ntp.is_empty() {
        true => add(false, What::Time { server: None }),
        false => {
            network.ntp.iter().for_each(|server| add(false, What::Time { server: Some(server.clone()) }))
        }
    }
    if let Some(server) = server {
        add(true, What::ApiServer { server });
    }
    if let Some(token) = joins.and_then(|cluster| cluster.token.as_ref()) {
        add(true, What::Token { id: token.reveal().split('.').next().unwrap_or_default().to_owned() });
    }
    probes
}

/// The VLAN that the link is in: its own, or that of a port of a bridge.
fn vlan(links: &Links, link: LinkRef<'_>) -> Option<u16> {
    let of = |name: &str| match links.made(name) {
        Some(Link::Vlan(vlan)) => Some(vlan.id),
        _ => None,
    };
    of(link.name()).or_else(|| link.ports().iter().find_map(|port| of(port)))
}

/// The name in `https://NAME:PORT`, when it is a name and no address.
pub(super) fn host_name(server: &str) -> Option<&str> {
    let rest = server.strip_prefix("https://")?;
    if rest.starts_with('[') {
        return None;
    }
    let name = rest.split([':', '/']).next()?;
    name.parse::<IpAddr>().is_err().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Firmware, Nic};

    fn says(text: &str, nics: &[&str]) -> Vec<String> {
        let text = format!("version = 1\nsystem.hostname = \"node-1\"\n{text}");
        let config = sheaf_config::load::parse_node_config("node.toml", &text).unwrap();
        let nics = nics.iter().map(|name| Nic {
            name: (*name).into(),
            permanent_mac: None,
            path: None,
            driver: None,
            carrier: None,
        });
        let inventory = Inventory {
            firmware: Firmware::Uefi,
            secure_boot: false,
            memory: 0,
            machine: Default::default(),
            disks: Vec::new(),
            nics: nics.collect(),
        };
        let probes = plan(&config, &inventory);
        probes.iter().map(|p| format!("{}{}", p.what, if p.required { " (required)" } else { "" })).collect()
    }

    #[test]
    fn a_node_on_its_own_is_told_what_it_lacks_and_installed_all_the_same() {
        assert_eq!(
            says("", &["enp1s0"]),
            ["cable in enp1s0", "DHCP on br0", "gateway of DHCP", "time server of DHCP"]
        );
    }

    const JOIN: &str = "[cluster]\nmode = \"join\"\nserver = \"https://api.example.org:6443\"\n\
                        token = \"abcdef.0123456789abcdef\"\n\
                        ca-hash = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\n";

    #[test]
    fn a_node_that_joins_tries_everything_on_its_way_to_the_api_server() {
        let text = format!(
            "network.ntp = [\"ntp.example.org\"]\n[[network.bridge]]\nname = \"br0\"\n\
             addresses = [\"192.0.2.10/24\"]\ngateway = \"192.0.2.1\"\n{JOIN}"
        );
        assert_eq!(
            says(&text, &["enp1s0"]),
            [
                "cable in enp1s0 (required)",
                "192.0.2.10 is free on br0 (required)",
                "gateway 192.0.2.1 (required)",
                "DNS for api.example.org (required)",
                "time of ntp.example.org",
                "API server https://api.example.org:6443 (required)",
                "token abcdef.*** (required)"
            ]
        );
    }

    #[test]
    fn a_bridge_over_a_vlan_over_a_bond_asks_dhcp_with_the_vlan_s_tag() {
        let text = format!(
            "[[network.bond]]\nname = \"bond0\"\nports = [\"enp1s0\", \"enp2s0\"]\n\
             [[network.vlan]]\nname = \"mgmt\"\nid = 20\nparent = \"bond0\"\n\
             [[network.bridge]]\nname = \"br0\"\nports = [\"mgmt\"]\n{JOIN}"
        );
        assert_eq!(
            says(&text, &["enp1s0", "enp2s0"])[..4],
            ["cable in enp1s0", "cable in enp2s0", "DHCP on br0 (VLAN 20) (required)", "gateway of DHCP"]
        );
    }

    #[test]
    fn a_server_by_address_needs_no_name_server() {
        assert_eq!(host_name("https://192.0.2.5:6443"), None);
        assert_eq!(host_name("https://[2001:db8::5]:6443"), None);
        assert_eq!(host_name("https://api.example.org:6443"), Some("api.example.org"));
    }
}
