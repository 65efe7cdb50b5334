//! Which probes a node config asks for, in the order of trying. Pure.
//!
//! Route in: the config, the machine's cards. Route out: [`Probe`]s; what a later one needs comes before it.

use super::{Probe, What};
use crate::inventory::Inventory;
use crate::plan::Cards;
use sheaf_config::node::{ClusterMode, Network, NodeConfig};
use std::net::IpAddr;

/// What is tried for `config` on this machine.
pub fn plan(config: &NodeConfig, inventory: &Inventory) -> Vec<Probe> {
    let joins = config.cluster.as_ref().filter(|cluster| cluster.mode == ClusterMode::Join);
    // A node that joins nobody comes up without a network, and can be given one later.
    let required = joins.is_some();
    let network = &config.network;
    let cards = Cards { network, nics: &inventory.nics };
    let mut probes: Vec<Probe> = Vec::new();
    let mut add = |required: bool, what: What| {
        if !probes.iter().any(|probe| probe.what == what) {
            probes.push(Probe { what, required });
        }
    };
    let links = || network.links().filter(|(link, _)| has_address(network, link));
    // A bridge that says nothing asks DHCP, too.
    let primary = network.primary().or_else(|| links().next().map(|(link, _)| link));
    for (link, _) in links() {
        let under = cards.under(link);
        for nic in &under {
            let alone = under.len() == 1 && primary == Some(link);
            add(required && alone, What::Link { nic: nic.name.clone() });
        }
    }
    for (link, addressing) in links() {
        for cidr in addressing.addresses.iter().filter(|cidr| cidr.ip.is_ipv4()) {
            // Two machines with one address disturb each other, whatever the node is for.
            add(true, What::Free { link: link.to_owned(), address: cidr.ip });
        }
        let asks = asks_dhcp(network, link);
        let vital = required && primary == Some(link);
        if asks {
            add(vital, What::Dhcp { link: link.to_owned(), vlan: vlan(network, link) });
        }
        for gateway in addressing.gateways() {
            add(vital, What::Gateway { address: Some(gateway) });
        }
        if asks && addressing.gateway.is_none() {
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

/// Whether the link asks DHCP; on a bridge that is what silence env.
pub(super) fn asks_dhcp(network: &Network, link: &str) -> bool {
    match network.bridges.iter().find(|bridge| bridge.name == link) {
        Some(bridge) => bridge.uses_dhcp(),
        None => network.links().any(|(name, addressing)| name == link && addressing.asks_dhcp()),
    }
}

fn has_address(network: &Network, link: &str) -> bool {
    asks_dhcp(network, link)
        || network.links().any(|(name, addressing)| name == link && addressing.is_given())
}

/// The VLAN that the link is in: its own, or that of a port of a bridge.
fn vlan(network: &Network, link: &str) -> Option<u16> {
    let of = |name: &str| network.vlans.iter().find(|vlan| vlan.name == name).map(|vlan| vlan.id);
    let bridge = network.bridges.iter().find(|bridge| bridge.name == link);
    of(link).or_else(|| bridge?.ports.iter().find_map(|port| of(port)))
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
