//! Which probes a node config asks for, in the order of trying. Pure.
//!
//! Route in: the config, the machine's cards. Route out: [`Probe`]s; what a later one needs comes before it.

use super::{Probe, What};
use crate::inventory::{Inventory, Nic};
use sheaf_config::node::{Bridge, ClusterMode, NodeConfig};

/// What is tried for `config` on this machine.
pub fn plan(config: &NodeConfig, inventory: &Inventory) -> Vec<Probe> {
    let joins = config.cluster.as_ref().filter(|cluster| cluster.mode == ClusterMode::Join);
    // A node that joins nobody comes up without a network, and can be given one later.
    let required = joins.is_some();
    let mut probes = Vec::new();
    let mut add = |required: bool, what: What| probes.push(Probe { what, required });
    for bridge in &config.network.bridges {
        let nics = cards(bridge, &inventory.nics);
        for nic in &nics {
            add(required && nics.len() == 1 && bridge.has_address(), What::Link { nic: nic.name.clone() });
        }
        let Some(link) = nics.first().map(|nic| nic.name.clone()) else { continue };
        for cidr in &bridge.addressing.addresses {
            // Two machines with one address disturb each other, whatever the node is for.
            add(true, What::Free { link: link.clone(), address: cidr.ip });
        }
        if bridge.uses_dhcp() {
            add(required, What::Dhcp { link: link.clone(), vlan: None });
        }
        if bridge.addressing.gateways().next().is_some() || bridge.uses_dhcp() {
            add(required, What::Gateway { address: bridge.addressing.gateways().next() });
        }
    }
    let server = joins.and_then(|cluster| cluster.server.clone());
    if let Some(name) = server.as_deref().and_then(host_name) {
        add(true, What::Dns { name: name.to_owned() });
    }
    match config.network.ntp.is_empty() {
        true => add(false, What::Time { server: None }),
        false => config
            .network
            .ntp
            .iter()
            .for_each(|server| add(false, What::Time { server: Some(server.clone()) })),
    }
    if let Some(server) = server {
        add(true, What::ApiServer { server });
    }
    if let Some(token) = joins.and_then(|cluster| cluster.token.as_ref()) {
        add(true, What::Token { id: token.0.split('.').next().unwrap_or_default().to_owned() });
    }
    probes
}

/// Cards of this machine in `bridge`; without ports the only one there is.
fn cards<'n>(bridge: &Bridge, nics: &'n [Nic]) -> Vec<&'n Nic> {
    match (bridge.ports.is_empty(), nics) {
        (true, [nic]) => vec![nic],
        (true, _) => Vec::new(),
        (false, _) => {
            let is = |nic: &&Nic, port: &String| {
                nic.name == *port
                    || nic.permanent_mac.as_ref().is_some_and(|mac| mac.eq_ignore_ascii_case(port))
            };
            bridge.ports.iter().filter_map(|port| nics.iter().find(|nic| is(nic, port))).collect()
        }
    }
}

trait HasAddress {
    fn has_address(&self) -> bool;
}

impl HasAddress for Bridge {
    fn has_address(&self) -> bool {
        self.uses_dhcp() || !self.addressing.addresses.is_empty()
    }
}

/// The name in `https://NAME:PORT`, when it is a name and no address.
fn host_name(server: &str) -> Option<&str> {
    let rest = server.strip_prefix("https://")?;
    if rest.starts_with('[') {
        return None;
    }
    let name = rest.split([':', '/']).next()?;
    name.parse::<std::net::IpAddr>().is_err().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Firmware;

    fn says(text: &str, nics: &[&str]) -> Vec<String> {
        let text = format!("version = 1\nsystem.hostname = \"node-1\"\n{text}");
        let config = sheaf_config::load::parse_node_config("node.toml", &text).unwrap();
        let nics = nics.iter().map(|name| Nic { name: (*name).into(), ..Nic::default() });
        let inventory = Inventory {
            machine: Default::default(),
            firmware: Firmware::Uefi,
            memory: 0,
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
            ["cable in enp1s0", "DHCP on enp1s0", "gateway of DHCP", "time server of DHCP"]
        );
    }

    #[test]
    fn a_node_that_joins_tries_everything_on_its_way_to_the_api_server() {
        let text = "network.ntp = [\"ntp.example.org\"]\n[[network.bridge]]\nname = \"br0\"\n\
                    addresses = [\"192.0.2.10/24\"]\ngateway = \"192.0.2.1\"\n[cluster]\nmode = \"join\"\n\
                    server = \"https://api.example.org:6443\"\ntoken = \"abcdef.0123456789abcdef\"\n\
                    ca-hash = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\n";
        assert_eq!(
            says(text, &["enp1s0"]),
            [
                "cable in enp1s0 (required)",
                "192.0.2.10 is free on enp1s0 (required)",
                "gateway 192.0.2.1 (required)",
                "DNS for api.example.org (required)",
                "time of ntp.example.org",
                "API server https://api.example.org:6443 (required)",
                "token abcdef.*** (required)"
            ]
        );
    }

    #[test]
    fn a_server_by_address_needs_no_name_server() {
        assert_eq!(host_name("https://192.0.2.5:6443"), None);
        assert_eq!(host_name("https://[2001:db8::5]:6443"), None);
        assert_eq!(host_name("https://api.example.org:6443"), Some("api.example.org"));
    }
}
