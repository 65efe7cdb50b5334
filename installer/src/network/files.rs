//! networkd's files for the installer's own stay on the network.
//!
//! Why here: what is tried is the network that the node will have, by the same renderer ([`sheaf_links::networkd`]); only
//! the first one, before any config, is the installer's own. Route in: `[network]`, the machine's NICs. Route out: names
//! and texts.

use sheaf_config::node::Network;
use sheaf_links::FoundNic;
use sheaf_links::networkd::{Purpose, render};

/// A file's name, below the prefix of ours, and its text.
pub type File = (String, String);

/// For an installer that knows no node.toml yet: DHCP on every NIC that no kernel argument (`ip=`) speaks of.
pub fn boot() -> Vec<File> {
    let text = "[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=ipv6\n\n\
                [DHCPv4]\nClientIdentifier=mac\n";
    // After those that systemd makes of kernel arguments: networkd takes the first that matches.
    vec![("boot.network".into(), text.into())]
}

/// What node.toml asks for; without `addresses` the links alone, on which nobody is disturbed.
pub fn of(network: &Network, found_nics: &[FoundNic], addresses: bool) -> Vec<File> {
    let purpose =
        Purpose::Preflight { static_addresses: addresses, dns: &network.dns, search: &network.search };
    let units = render(&network.links, found_nics, None, purpose);
    units.into_iter().map(|unit| (unit.name, unit.text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_config::load::config_file;
    use sheaf_links::Links;
    use std::path::Path;

    fn found_nics(number: u8) -> Vec<FoundNic> {
        let found_nic = |number: u8| FoundNic {
            name: format!("enp{number}s0"),
            permanent_mac: Some(format!("52:54:00:00:00:0{number}")),
            path: Some(format!("pci-0000:0{number}:00.0")),
        };
        (1..=number).map(found_nic).collect()
    }

    /// What the node is told, without the comment in the first line.
    fn of_node(links: &Links, found_nics: &[FoundNic]) -> Vec<File> {
        let units = render(links, found_nics, None, Purpose::Node);
        units.into_iter().map(|unit| (unit.name, body(&unit.text))).collect()
    }

    fn body(text: &str) -> String {
        text.split_once('\n').map_or_else(String::new, |(_, body)| body.to_owned())
    }

    fn network(text: &str) -> Network {
        let text = format!("version = 1\nsystem.hostname = \"node-1\"\n{text}");
        sheaf_config::load::parse_node_config("node.toml", &text)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .network
    }

    #[test]
    fn for_every_example_the_trial_makes_the_links_of_the_node_save_name_servers_and_unused_nics() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/examples");
        let mut seen = 0;
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let file = config_file(&path).unwrap_or_else(|errors| panic!("{errors}"));
            for entry in file.entries() {
                let (network, found_nics) = (&entry.config.network, found_nics(4));
                let is_extra = |line: &&str| line.starts_with("DNS=") || line.starts_with("Domains=");
                let tried: Vec<File> = of(network, &found_nics, true)
                    .into_iter()
                    .filter(|(name, _)| !name.starts_with("unused-"))
                    .map(|(name, text)| {
                        let lines: Vec<_> = text.lines().filter(|line| !is_extra(line)).collect();
                        (name, body(&(lines.join("\n") + "\n")))
                    })
                    .collect();
                assert_eq!(tried, of_node(&network.links, &found_nics), "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen >= 6, "{seen} configs");
    }

    #[test]
    fn the_trial_sends_packets_as_large_as_the_node_will_through_the_nics_under_a_bridge_and_a_bond() {
        let network = network(
            "[[network.bond]]\nname = \"bond0\"\nports = [\"enp1s0\", \"enp2s0\"]\nmtu = 9000\n\
             [[network.bridge]]\nname = \"br0\"\nports = [\"bond0\"]\nmtu = 9000\n\
             [[network.bridge]]\nname = \"br1\"\nports = [\"enp3s0\"]\nmtu = 9000\ndhcp = false\n\
             [[network.nic]]\nname = \"enp4s0\"\nmtu = 9000\ndhcp = true\n",
        );
        let files = of(&network, &found_nics(4), true);
        for file in [
            "bond0.network",
            "bond0-port0.network",
            "bond0-port1.network",
            "br1-port0.network",
            "enp4s0.network",
        ] {
            let (_, text) =
                files.iter().find(|(name, _)| name == file).unwrap_or_else(|| panic!("no {file}"));
            assert!(text.contains("MTUBytes=9000\n"), "{file}:\n{text}");
        }
    }

    #[test]
    fn a_bridge_without_ports_is_tried_over_the_nic_that_the_node_takes_also_where_there_are_two() {
        let network = network("");
        let files = of(&network, &found_nics(2), true);
        let (_, port) = files.iter().find(|(name, _)| name == "br0-port0.network").unwrap();
        assert!(
            port.contains("PermanentMACAddress=52:54:00:00:00:01\n") && port.contains("Bridge=br0\n"),
            "{port}"
        );
        // The other one keeps nothing that the installer's boot gave it.
        let (_, unused) = files.iter().find(|(name, _)| name == "unused-enp2s0.network").unwrap();
        assert!(unused.contains("Name=enp2s0\n") && unused.contains("LinkLocalAddressing=no\n"), "{unused}");
    }

    #[test]
    fn addresses_come_only_once_nobody_else_was_found_to_have_them() {
        let network = network(
            "network.dns = [\"192.0.2.53\"]\n[[network.bridge]]\nname = \"br0\"\nports = [\"enp1s0\"]\n\
             addresses = [\"192.0.2.10/24\"]\ngateway = \"192.0.2.1\"\n",
        );
        let text = |addresses| {
            of(&network, &found_nics(1), addresses).into_iter().map(|(_, text)| text).collect::<String>()
        };
        let (before, after) = (text(false), text(true));
        assert!(
            !before.contains("192.0.2.10") && !before.contains("Gateway") && before.contains("Bridge=br0"),
            "{before}"
        );
        assert!(after.contains("Address=192.0.2.10/24\nGateway=192.0.2.1\nDNS=192.0.2.53\n"), "{after}");
    }
}
