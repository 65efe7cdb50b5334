//! networkd's files for the installer's own stay on the network. Pure.
//!
//! Why not the node's: the agent renders those, with everything a node keeps for years; these bring the same links up,
//! with the same tags, for some minutes. Route in: `[network]`, the machine's cards. Route out: names and texts.

use super::plan::asks_dhcp;
use crate::inventory::Nic;
use crate::plan::Cards;
use sheaf_config::node::{Addressing, Ipv6, Network};
use std::fmt::Write;

/// A file's name, below the prefix of ours, and its text.
pub type File = (String, String);

/// For an installer that knows no node.toml yet: DHCP on every card that no kernel argument (`ip=`) speaks of.
pub fn boot() -> Vec<File> {
    let text = "[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=ipv6\n\n\
                [DHCPv4]\nClientIdentifier=mac\n";
    // After those that systemd makes of kernel arguments: networkd takes the first that matches.
    vec![("boot.network".into(), text.into())]
}

/// What node.toml asks for; without `addresses` the links alone, on which nobody is disturbed.
pub fn of(network: &Network, nics: &[Nic], addresses: bool) -> Vec<File> {
    let cards = Cards { network, nics };
    let link = |name: &str| Link { network, cards, name: name.to_owned(), addresses };
    let mut files = Vec::new();
    for bond in &network.bonds {
        let mut text = netdev(&bond.name, "bond", bond.mtu);
        let _ = write!(text, "\n[Bond]\nMode={}\nMIIMonitorSec={}ms\n", bond.mode.name(), bond.miimon);
        if let Some(rate) = bond.lacp_rate {
            let rate = if rate == sheaf_config::node::LacpRate::Fast { "fast" } else { "slow" };
            let _ = writeln!(text, "LACPTransmitRate={rate}");
        }
        if let Some(policy) = bond.transmit_hash_policy {
            let _ = writeln!(text, "TransmitHashPolicy={}", policy.name());
        }
        files.push((format!("{}.netdev", bond.name), text));
        files.push(link(&bond.name).file(&bond.name, Some(&bond.addressing)));
    }
    for vlan in &network.vlans {
        let text = netdev(&vlan.name, "vlan", vlan.mtu) + &format!("\n[VLAN]\nId={}\n", vlan.id);
        files.push((format!("{}.netdev", vlan.name), text));
        files.push(link(&vlan.name).file(&vlan.name, Some(&vlan.addressing)));
    }
    for bridge in &network.bridges {
        let filter = if bridge.vlan_aware { "yes" } else { "no" };
        let text = netdev(&bridge.name, "bridge", bridge.mtu)
            + &format!("\n[Bridge]\nSTP=no\nVLANFiltering={filter}\n");
        files.push((format!("{}.netdev", bridge.name), text));
        files.push(link(&bridge.name).file(&bridge.name, Some(&bridge.addressing)));
    }
    for card in nics {
        // A card goes by its kernel name here; what the file calls it leads to the same card.
        let named =
            network.nics.iter().find(|nic| cards.find(&nic.name).is_some_and(|c| c.name == card.name));
        files.push(link(&card.name).file(&card.name, named.map(|nic| &nic.addressing)));
    }
    files
}

fn netdev(name: &str, kind: &str, mtu: Option<u32>) -> String {
    let mtu = mtu.map(|mtu| format!("MTUBytes={mtu}\n")).unwrap_or_default();
    format!("[NetDev]\nName={name}\nKind={kind}\n{mtu}")
}

/// One line `KEY=value` for each value.
fn lines(text: &mut String, key: &str, values: impl IntoIterator<Item = impl std::fmt::Display>) {
    for value in values {
        let _ = writeln!(text, "{key}={value}");
    }
}

/// One link, as its .network file describes it.
struct Link<'a> {
    network: &'a Network,
    cards: Cards<'a>,
    name: String,
    addresses: bool,
}

impl Link<'_> {
    /// Whether `port` of a link means this one.
    fn is(&self, port: &str) -> bool {
        port == self.name || self.cards.find(port).is_some_and(|card| card.name == self.name)
    }

    fn file(&self, matched: &str, addressing: Option<&Addressing>) -> File {
        let mut text = format!("[Match]\nName={matched}\n\n[Network]\n");
        let network = self.network;
        let bond = network.bonds.iter().find(|bond| bond.ports.iter().any(|port| self.is(port)));
        // Only a card can be the port that a bridge does not name.
        let is_card = self.cards.nics.iter().any(|card| card.name == self.name);
        let bridge = network.bridges.iter().find(|bridge| match bridge.ports.is_empty() {
            true => is_card && self.cards.nics.len() == 1,
            false => bridge.ports.iter().any(|port| self.is(port)),
        });
        if let Some(bond) = bond {
            let _ = writeln!(text, "Bond={}", bond.name);
            if bond.primary.as_ref().is_some_and(|port| self.is(port)) {
                text.push_str("PrimarySlave=yes\n");
            }
        }
        if let Some(bridge) = bridge {
            let _ = writeln!(text, "Bridge={}", bridge.name);
        }
        for vlan in network.vlans.iter().filter(|vlan| self.is(&vlan.parent)) {
            let _ = writeln!(text, "VLAN={}", vlan.name);
        }
        let asks = asks_dhcp(network, &self.name)
            || addressing.is_some_and(|addressing| is_card && addressing.asks_dhcp());
        let given = addressing.filter(|addressing| addressing.is_given() || asks);
        match given.filter(|_| bond.is_none() && bridge.is_none()) {
            Some(addressing) => self.address(&mut text, addressing, asks),
            None => text.push_str("LinkLocalAddressing=no\n"),
        }
        self.tags(&mut text, bridge);
        (format!("{}.network", self.name), text)
    }

    fn address(&self, text: &mut String, addressing: &Addressing, asks: bool) {
        let ipv6 = addressing.ipv6_with(asks);
        let dhcp = match (asks, ipv6) {
            (true, Ipv6::Dhcp) => "yes",
            (true, _) => "ipv4",
            (false, Ipv6::Dhcp) => "ipv6",
            (false, _) => "no",
        };
        let _ = writeln!(text, "DHCP={dhcp}");
        let local = if ipv6 == Ipv6::Off { "no" } else { "ipv6" };
        let _ = writeln!(text, "LinkLocalAddressing={local}");
        let accept = matches!(ipv6, Ipv6::Auto | Ipv6::Dhcp);
        let _ = writeln!(text, "IPv6AcceptRA={}", if accept { "yes" } else { "no" });
        lines(text, "DNS", &self.network.dns);
        if !self.network.search.is_empty() {
            let _ = writeln!(text, "Domains={}", self.network.search.join(" "));
        }
        if self.addresses {
            lines(text, "Address", &addressing.addresses);
            lines(text, "Gateway", addressing.gateways());
            for route in &addressing.routes {
                let _ = write!(text, "\n[Route]\nDestination={}\n", route.to);
                lines(text, "Gateway", route.via);
                lines(text, "Metric", route.metric);
            }
        }
        // What a node asks DHCP by later is its machine-id's; the same card then gets another address.
        text.push_str("\n[DHCPv4]\nClientIdentifier=mac\n");
    }

    /// VLANs that a bridge which keeps them apart lets through.
    fn tags(&self, text: &mut String, port_of: Option<&sheaf_config::node::Bridge>) {
        let all = "2-4094".to_owned();
        if let Some(bridge) = port_of.filter(|bridge| bridge.vlan_aware) {
            let some = bridge.vlans.iter().map(ToString::to_string).collect::<Vec<_>>();
            for range in if some.is_empty() { vec![all.clone()] } else { some } {
                let _ = write!(text, "\n[BridgeVLAN]\nVLAN={range}\n");
            }
        }
        let itself = self.network.bridges.iter().find(|bridge| bridge.name == self.name && bridge.vlan_aware);
        if itself.is_some() {
            for vlan in self.network.vlans.iter().filter(|vlan| vlan.parent == self.name) {
                let _ = write!(text, "\n[BridgeVLAN]\nVLAN={}\n", vlan.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, nics: &[&str], addresses: bool) -> String {
        let text = format!("version = 1\nsystem.hostname = \"node-1\"\n{text}");
        let config = sheaf_config::load::parse_node_config("node.toml", &text).unwrap();
        let nics: Vec<_> = nics.iter().map(|name| Nic { name: (*name).into(), ..Nic::default() }).collect();
        let files = of(&config.network, &nics, addresses);
        files.iter().map(|(name, text)| format!("# {name}\n{text}\n")).collect()
    }

    #[test]
    fn a_config_without_links_is_a_bridge_over_the_only_card_that_asks_dhcp() {
        assert_eq!(
            rendered("", &["enp1s0"], true),
            "# br0.netdev\n[NetDev]\nName=br0\nKind=bridge\n\n[Bridge]\nSTP=no\nVLANFiltering=no\n\n\
             # br0.network\n[Match]\nName=br0\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=yes\n\
             \n[DHCPv4]\nClientIdentifier=mac\n\n\
             # enp1s0.network\n[Match]\nName=enp1s0\n\n[Network]\nBridge=br0\nLinkLocalAddressing=no\n\n"
        );
    }

    #[test]
    fn a_bond_a_vlan_and_a_static_address_are_as_asked() {
        let text = "network.dns = [\"192.0.2.53\"]\n\
             [[network.bond]]\nname = \"bond0\"\nports = [\"enp1s0\", \"enp2s0\"]\nmode = \"802.3ad\"\nlacp-rate = \"fast\"\n\
             [[network.vlan]]\nname = \"mgmt\"\nid = 20\nparent = \"bond0\"\n\
             [[network.bridge]]\nname = \"br0\"\nports = [\"mgmt\"]\naddresses = [\"192.0.2.10/24\"]\ngateway = \"192.0.2.1\"\n";
        let files = rendered(text, &["enp1s0", "enp2s0"], true);
        for part in [
            "Kind=bond\n\n[Bond]\nMode=802.3ad\nMIIMonitorSec=100ms\nLACPTransmitRate=fast\n",
            "Name=bond0\n\n[Network]\nVLAN=mgmt\nLinkLocalAddressing=no\n",
            "Kind=vlan\n\n[VLAN]\nId=20\n",
            "Name=mgmt\n\n[Network]\nBridge=br0\nLinkLocalAddressing=no\n",
            "Name=br0\n\n[Network]\nDHCP=no\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\nDNS=192.0.2.53\n\
             Address=192.0.2.10/24\nGateway=192.0.2.1\n",
            "Name=enp2s0\n\n[Network]\nBond=bond0\nLinkLocalAddressing=no\n",
        ] {
            assert!(files.contains(part), "{part}\n--- is not in\n{files}");
        }
        let before = rendered(text, &["enp1s0", "enp2s0"], false);
        assert!(!before.contains("192.0.2.10") && before.contains("Bridge=br0"), "{before}");
    }
}
