//! What is known of a guest's interfaces: addresses, and by whom.
//!
//! Why here: several know a guest's addresses, and not all may be believed. What was configured for a port, and what the node's DHCP
//! server leased to it, become the Pod's own: Services and `pods/proxy` of the API server connect there. What a guest merely
//! claims, through its agent or by answering ARP, is shown and nothing more, or it could turn cluster traffic on anybody.
//! Pure. Route in: ports, the NICs of the domain, and what each source reports. Route out: [`SeenInterface`]s for the VMI, addresses for the Pod.
#![deny(clippy::arithmetic_side_effects)]

use super::filters::{Port, PortState, State, leases};
use sheaf_api::network::SeenInterface;
use sheaf_host::libvirt::{DomainNic, Interface};
use std::net::IpAddr;

/// Sources, in the words of a VMI's status.
const DOMAIN: &str = "domain";
const DHCP: &str = "dhcp";
const NEIGHBOUR: &str = "neighbour";
const GUEST_AGENT: &str = "guest-agent";

/// Most addresses of one interface: more is a scan, not a server, and all stand in an annotation of the Pod.
const MOST_ADDRESSES: usize = 16;

/// Every port of a guest with its addresses; `nics` are those that its domain has.
pub fn observed(
    ports: &[Port],
    nics: &[DomainNic],
    filter: &State,
    arp: &[Interface],
    agent: &[Interface],
) -> Vec<SeenInterface> {
    let nothing = PortState::default();
    let of_mac = |interfaces: &[Interface], mac: &str| -> Vec<IpAddr> {
        let same = interfaces.iter().filter(|interface| interface.mac == mac);
        same.flat_map(|interface| interface.addresses.iter().copied()).collect()
    };
    let observed = |port: &Port| {
        let nic = nics.iter().find(|nic| nic.tap == port.tap)?;
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
                if ip_addresses.len() < MOST_ADDRESSES && !ip_addresses.contains(&address) {
                    ip_addresses.push(address);
                }
            }
        }
        ip_addresses.sort_by_key(IpAddr::is_ipv6); // stable: what the first source reports stays first
        let (name, info_source) = (port.interface.clone(), known.join(", "));
        Some(SeenInterface { name, ip_addresses, info_source, down: nic.down })
    };
    // One that is being added, or was removed, is not the guest's.
    ports.iter().filter_map(observed).collect()
}

/// One address of each family, as Pod status may name them: of the first port that has any, which was configured for it or
/// which the node leased to it. Never one that is `reserved`: the node's own, a Service's.
pub fn of_pod(ports: &[Port], reserved: impl Fn(&IpAddr) -> bool) -> Vec<IpAddr> {
    let may_be = |address: &IpAddr| is_reachable(address) && !reserved(address);
    let of_port =
        |port: &Port| -> Vec<IpAddr> { port.addresses.iter().flatten().copied().filter(may_be).collect() };
    let first = ports.iter().map(of_port).find(|addresses| !addresses.is_empty()).unwrap_or_default();
    let v4 = first.iter().find(|address| address.is_ipv4());
    let v6 = first.iter().find(|address| address.is_ipv6());
    v4.into_iter().chain(v6).copied().collect()
}

/// Addresses of the link alone reach nobody else.
pub fn is_reachable(address: &IpAddr) -> bool {
    let own = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
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

    /// NICs of a domain that has all of `ports`.
    fn nics(ports: &[Port]) -> Vec<DomainNic> {
        let nic = |port: &Port| DomainNic { tap: port.tap.clone(), ..DomainNic::default() };
        ports.iter().map(nic).collect()
    }

    #[test]
    fn an_interface_is_seen_while_the_domain_has_it_and_with_its_link() {
        let ports = [port(0, "out"), port(1, "lan")];
        let mut nics = nics(&ports[1..]);
        nics[0].down = true;
        let observed = observed(&ports, &nics, &State::default(), &[], &[]);
        assert_eq!(observed.len(), 1);
        assert_eq!((observed[0].name.as_str(), observed[0].down), ("lan", true));
    }

    #[test]
    fn the_address_of_an_interface_behind_the_node_is_its_lease() {
        let lease = ips(&["100.127.240.7"]);
        let port = [Port { masquerade: true, addresses: Some(lease.clone()), ..port(0, "out") }];
        let observed = observed(&port, &nics(&port), &State::default(), &[], &[]);
        assert_eq!(
            (observed[0].ip_addresses.clone(), observed[0].info_source.as_str()),
            (lease, "domain, dhcp")
        );
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
        let ports = [port(0, "out"), port(1, "lan")];
        let observed = observed(&ports, &nics(&ports), &filter, &[], &agent);
        assert_eq!((observed[0].name.as_str(), observed[0].info_source.as_str()), ("out", "domain"));
        assert_eq!(observed[1].ip_addresses, ips(&["192.0.2.50", "192.0.2.51", "2001:db8::50"]));
        assert_eq!(observed[1].info_source, "domain, neighbour, guest-agent");
        // All of it is what the guest says of itself: none of it is the Pod's.
        assert_eq!(of_pod(&ports, |_| false), ips(&[]));
    }

    #[test]
    fn addresses_of_a_pod_are_those_that_were_configured_or_leased_one_of_each_family() {
        let addresses = Some(ips(&["2001:db8::7", "192.0.2.7", "192.0.2.8"]));
        let configured = [port(0, "out"), Port { addresses, ..port(1, "lan") }];
        assert_eq!(of_pod(&configured, |_| false), ips(&["192.0.2.7", "2001:db8::7"]));
    }

    #[test]
    fn the_nodes_own_address_a_services_or_one_of_the_link_is_no_address_of_a_pod() {
        let reserved = ips(&["192.0.2.1", "10.96.0.1"]);
        for bad in [
            "192.0.2.1",
            "10.96.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "::ffff:127.0.0.1",
        ] {
            let port = Port { addresses: Some(ips(&[bad])), ..port(0, "lan") };
            assert_eq!(of_pod(&[port], |ip| reserved.contains(ip)), ips(&[]), "{bad}");
        }
    }

    #[test]
    fn a_guest_that_claims_ten_thousand_addresses_gets_sixteen_shown() {
        let many = (0..10_000_u32).map(|n| IpAddr::from((n + 0x0a00_0000).to_be_bytes())).collect();
        let agent = [Interface { mac: "02:00:00:00:00:00".into(), addresses: many }];
        let ports = [port(0, "lan")];
        let observed = observed(&ports, &nics(&ports), &State::default(), &[], &agent);
        assert_eq!(observed[0].ip_addresses.len(), MOST_ADDRESSES);
    }
}
