//! What guests must not claim to be, and must not reach from the private network: the node and those it depends on.
//!
//! Pure. Route in: a [`Segment`] of this machine and the addresses of API servers. Route out: a [`Guard`] for the rules.

use crate::names::is_tap;
use sheaf_host::segment::Segment;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Protected identities and networks of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Addresses of the node, its gateways and its API servers, link-local ones included.
    pub addresses: BTreeSet<IpAddr>,
    /// MACs of the node's links and of its gateways and API servers, as far as the node has talked to them.
    pub macs: BTreeSet<String>,
    /// IPv4 networks of the node's links: network address and length of the prefix in bits.
    pub networks: BTreeSet<(Ipv4Addr, u8)>,
}

impl Guard {
    /// What is to be protected on a machine with this `segment` whose API servers are at `api_servers`.
    pub fn of(segment: &Segment, api_servers: &BTreeSet<IpAddr>) -> Self {
        let own = segment.interfaces.iter().filter(|interface| !is_tap(&interface.link));
        let addresses = own.clone().filter_map(|interface| interface.address);
        let addresses = addresses.filter(|(ip, _)| !ip.is_loopback() && !ip.is_unspecified());
        let peers: BTreeSet<IpAddr> = segment.gateways.union(api_servers).copied().collect();
        let neighbours = segment.neighbours.iter();
        let neighbours = neighbours.filter(|neighbour| peers.contains(&neighbour.address.into()));
        let networks = addresses.clone().filter_map(|(ip, length)| match ip {
            IpAddr::V4(ip) => Some((network(ip, length), length)),
            IpAddr::V6(_) => None,
        });
        let macs = own.filter_map(|interface| interface.mac.clone());
        Self {
            macs: macs.chain(neighbours.map(|neighbour| neighbour.mac.clone())).collect(),
            networks: networks.collect(),
            addresses: addresses.map(|(ip, _)| ip).chain(peers).collect(),
        }
    }
}

/// Address of the network that `ip` is in.
fn network(ip: Ipv4Addr, length: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
    Ipv4Addr::from_bits(ip.to_bits() & mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::segment::{Interface, Neighbour};

    #[test]
    fn the_node_its_gateways_and_its_api_servers_are_guarded_and_guests_are_not() {
        let at = |link: &str, address: &str, length| Interface {
            link: link.into(),
            mac: None,
            address: Some((address.parse().unwrap(), length)),
        };
        let mac =
            |link: &str, mac: &str| Interface { link: link.into(), mac: Some(mac.into()), address: None };
        let neighbour =
            |address: &str, mac: &str| Neighbour { address: address.parse().unwrap(), mac: mac.into() };
        let segment = Segment {
            interfaces: vec![
                at("lo", "127.0.0.1", 8),
                at("br0", "192.0.2.10", 24),
                at("br0", "fe80::10", 64),
                mac("br0", "02:00:00:00:00:10"),
                mac("vm0b0e6d2c6an0", "fe:00:00:00:00:01"),
                at("p2p0", "198.51.100.1", 32),
            ],
            gateways: ["192.0.2.1".parse().unwrap(), "fe80::1".parse().unwrap()].into(),
            neighbours: vec![
                neighbour("192.0.2.1", "52:55:0a:00:02:02"),
                neighbour("192.0.2.77", "02:00:00:00:00:77"),
            ],
        };
        let guard = Guard::of(&segment, &["192.0.2.100".parse().unwrap()].into());
        let addresses: Vec<_> = guard.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            addresses,
            ["192.0.2.1", "192.0.2.10", "192.0.2.100", "198.51.100.1", "fe80::1", "fe80::10"]
        );
        assert_eq!(guard.macs.into_iter().collect::<Vec<_>>(), ["02:00:00:00:00:10", "52:55:0a:00:02:02"]);
        let networks: Vec<_> = guard.networks.iter().map(|(ip, length)| format!("{ip}/{length}")).collect();
        assert_eq!(networks, ["192.0.2.0/24", "198.51.100.1/32"]);
    }

    #[test]
    fn a_prefix_of_any_length_has_a_network() {
        let ip = Ipv4Addr::new(192, 0, 2, 200);
        assert_eq!(network(ip, 0), Ipv4Addr::UNSPECIFIED);
        assert_eq!(network(ip, 25), Ipv4Addr::new(192, 0, 2, 128));
        assert_eq!(network(ip, 32), ip);
        assert_eq!(network(ip, 255), ip);
    }
}
