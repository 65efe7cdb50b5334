//! What is known of a guest's interfaces: addresses, and by whom.
//!
//! Why here: three see a guest's addresses, none all of them: the packet filter on their way, the node's ARP table, the
//! guest's agent. Pure. Route in: ports and what the three say. Route out: [`SeenInterface`]s for the Pod.

use super::filters::{Port, PortState, State, leases};
use sheaf_api::network::SeenInterface;
use sheaf_host::libvirt::Interface;
use std::net::IpAddr;

/// Sources, in the words of a VMI's status.
const DOMAIN: &str = "domain";
const DHCP: &str = "dhcp";
const NEIGHBOUR: &str = "neighbour";
const GUEST_AGENT: &str = "guest-agent";

/// Every port of a guest with its addresses.
pub fn seen(ports: &[Port], filter: &State, arp: &[Interface], agent: &[Interface]) -> Vec<SeenInterface> {
    let nothing = PortState::default();
    let of_mac = |interfaces: &[Interface], mac: &str| -> Vec<IpAddr> {
        let same = interfaces.iter().filter(|interface| interface.mac == mac);
        same.flat_map(|interface| interface.addresses.iter().copied()).collect()
    };
    let seen = |port: &Port| {
        let passed = filter.ports.get(&port.tap).unwrap_or(&nothing);
        let sources = [
            (DHCP, leases::lease(port).map(IpAddr::from).into_iter().collect()),
            (NEIGHBOUR, passed.used.clone()),
            (NEIGHBOUR, of_mac(arp, &port.mac)),
            (GUEST_AGENT, of_mac(agent, &port.mac)),
        ];
        let mut known = vec![DOMAIN];
        let mut ip_addresses: Vec<IpAddr> = Vec::new();
        for (source, addresses) in sources {
            let addresses: Vec<_> = addresses.into_iter().filter(is_reachable).collect();
            if !addresses.is_empty() && !known.contains(&source) {
                known.push(source);
            }
            for address in addresses {
                if !ip_addresses.contains(&address) {
                    ip_addresses.push(address);
                }
            }
        }
        ip_addresses.sort_by_key(IpAddr::is_ipv6); // stable: what a source says first stays first
        SeenInterface { name: port.interface.clone(), ip_addresses, info_source: known.join(", ") }
    };
    ports.iter().map(seen).collect()
}

/// One address of each family, as Pod status may name them: of the first interface that has any.
pub fn of_pod(interfaces: &[SeenInterface]) -> Vec<IpAddr> {
    let first = interfaces.iter().find(|interface| !interface.ip_addresses.is_empty());
    let addresses = first.map(|interface| interface.ip_addresses.as_slice()).unwrap_or_default();
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let v6 = addresses.iter().find(|address| address.is_ipv6());
    v4.into_iter().chain(v6).copied().collect()
}

/// Addresses of the link alone reach nobody else.
pub fn is_reachable(address: &IpAddr) -> bool {
    let own = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !own && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn port(index: usize, interface: &str) -> Port {
        let mac = format!("02:00:00:00:00:0{index}");
        Port { tap: format!("vm{index}"), interface: interface.into(), mac, ..Port::default() }
    }

    #[test]
    fn the_address_of_an_interface_behind_the_node_is_its_lease() {
        let lease = ips(&["100.127.240.7"]);
        let port = Port { masquerade: true, addresses: Some(lease.clone()), ..port(0, "out") };
        let seen = seen(&[port], &State::default(), &[], &[]);
        assert_eq!((seen[0].ip_addresses.clone(), seen[0].info_source.as_str()), (lease, "domain, dhcp"));
    }

    #[test]
    fn each_interface_has_its_own_addresses_and_those_who_know_them() {
        let passed =
            PortState { used: ips(&["192.0.2.50", "fe80::1", "2001:db8::50"]), ..PortState::default() };
        let filter = State { ports: [("vm1".to_owned(), passed)].into(), ..State::default() };
        let agent = [
            Interface {
                mac: "02:00:00:00:00:01".into(),
                addresses: ips(&["192.0.2.50", "192.0.2.51", "fe80::1"]),
            },
            Interface { mac: "00:00:00:00:00:00".into(), addresses: ips(&["127.0.0.1"]) },
        ];
        let seen = seen(&[port(0, "out"), port(1, "lan")], &filter, &[], &agent);
        assert_eq!((seen[0].name.as_str(), seen[0].info_source.as_str()), ("out", "domain"));
        assert_eq!(seen[1].ip_addresses, ips(&["192.0.2.50", "192.0.2.51", "2001:db8::50"]));
        assert_eq!(seen[1].info_source, "domain, neighbour, guest-agent");
        assert_eq!(of_pod(&seen), ips(&["192.0.2.50", "2001:db8::50"]));
    }
}
