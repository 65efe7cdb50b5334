//! Addresses of the private network: one for each interface behind its node, given by the agent.
//!
//! Why here: what a guest sends decides nothing. An address is chosen before the VM starts, is kept in its record, and is
//! what the filter lets pass and what the DHCP server answers. Pure. Route in: MACs and the addresses of records. Route
//! out: an address that nobody has.

use super::Port;
use super::masquerade::{GATEWAY, PREFIX};
use crate::channels::Leases;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Addresses of the network: its own, the gateway's, guests', broadcast.
const SIZE: u32 = 1 << (32 - PREFIX);
/// The first address of a guest, counted from the network's own: the one behind the gateway's.
const FIRST: u32 = 2;
/// Addresses for guests: all between the gateway's and the broadcast address.
pub const MOST: u32 = SIZE - FIRST - 1;

/// Every address is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {MOST} addresses of the private network are in use; stop VMs with masquerade interfaces on this node"
)]
pub struct Exhausted;

/// Gives each of `ports` that is behind the node an address that is not among `taken`.
///
/// The first choice follows from the MAC, so that a VM usually gets the address that it had before.
pub fn assign(ports: &mut [Port], taken: &BTreeSet<Ipv4Addr>) -> Result<(), Exhausted> {
    let mut taken = taken.clone();
    for port in ports.iter_mut().filter(|port| port.masquerade) {
        let hash = Sha256::digest(&port.mac);
        let start = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % MOST;
        let network = GATEWAY.to_bits() & !(SIZE - 1);
        let at = |step: u32| Ipv4Addr::from_bits(network + FIRST + (start + step) % MOST);
        let address = (0..MOST).map(at).find(|address| !taken.contains(address)).ok_or(Exhausted)?;
        taken.insert(address);
        port.addresses = Some(vec![address.into()]);
    }
    Ok(())
}

/// The address of a port behind the node.
pub fn lease(port: &Port) -> Option<Ipv4Addr> {
    match port.addresses.as_deref() {
        Some([IpAddr::V4(address)]) if port.masquerade => Some(*address),
        _ => None,
    }
}

/// The leases of `ports`.
pub fn leases<'p>(ports: impl Iterator<Item = &'p Port>) -> Leases {
    ports.filter_map(|port| Some((mac_bytes(&port.mac)?, lease(port)?))).collect()
}

/// The six bytes of a MAC with colons.
fn mac_bytes(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u32) -> Port {
        let [_, a, b, c] = number.to_be_bytes();
        Port { mac: format!("02:00:00:{a:02x}:{b:02x}:{c:02x}"), masquerade: true, ..Port::default() }
    }

    #[test]
    fn every_guest_has_an_address_of_its_own_until_there_are_no_more() {
        let mut ports: Vec<_> = (0..MOST).map(port).collect();
        assign(&mut ports, &BTreeSet::new()).unwrap();
        let addresses: BTreeSet<_> = ports.iter().filter_map(lease).collect();
        assert_eq!(addresses.len(), 4093);
        assert!(!addresses.contains(&GATEWAY));
        assert_eq!(addresses.first(), Some(&Ipv4Addr::new(100, 127, 240, 2)));
        assert_eq!(addresses.last(), Some(&Ipv4Addr::new(100, 127, 255, 254)));
        assert_eq!(leases(ports.iter()).len(), 4093);
        assert_eq!(assign(&mut [port(MOST)], &addresses), Err(Exhausted));
    }

    #[test]
    fn a_vm_that_starts_again_gets_its_address_again_and_others_get_none_of_it() {
        let mut first = [port(7), Port { masquerade: false, ..port(8) }];
        assign(&mut first, &BTreeSet::new()).unwrap();
        let mut again = [port(7)];
        assign(&mut again, &BTreeSet::new()).unwrap();
        assert_eq!(lease(&first[0]), lease(&again[0]));
        assert_eq!(first[1].addresses, None, "a bridge's addresses are not the node's to give");
        let taken = lease(&first[0]).into_iter().collect();
        assign(&mut again, &taken).unwrap();
        assert_ne!(lease(&first[0]), lease(&again[0]));
    }
}
