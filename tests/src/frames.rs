//! Ethernet frames as guests send them, good and bad, byte by byte.
//!
//! Why here: only frames that a well-behaved stack would never send show that a filter works. Pure. Route in: who sends
//! and what it claims. Route out: bytes for a packet socket.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub type Mac = [u8; 6];

/// Everybody.
pub const BROADCAST: Mac = [0xff; 6];

/// A frame.
pub fn ethernet(to: Mac, from: Mac, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &protocol.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0); // the shortest there is
    frame
}

/// `frame` with a VLAN tag of `protocol` (0x8100, 0x88a8) for VLAN `id`.
pub fn tagged(frame: &[u8], protocol: u16, id: u16) -> Vec<u8> {
    [&frame[..12], &protocol.to_be_bytes(), &id.to_be_bytes(), &frame[12..]].concat()
}

/// An ARP question by `mac`, which claims to be `sender` at `ip`.
pub fn arp(mac: Mac, sender: Mac, ip: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp_with([0, 1, 8, 0, 6, 4, 0, 1], mac, sender, ip, target)
}

/// The answer to an ARP question, unasked: `mac` claims to be at `ip`.
pub fn arp_reply(mac: Mac, ip: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp_with([0, 1, 8, 0, 6, 4, 0, 2], mac, mac, ip, target)
}

/// ARP whose first eight bytes are `head`.
pub fn arp_with(head: [u8; 8], mac: Mac, sender: Mac, ip: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let payload = [&head[..], &sender, &ip.octets(), &[0; 6], &target.octets()].concat();
    ethernet(BROADCAST, mac, 0x0806, &payload)
}

/// UDP over IPv4.
pub fn udp4(from: (Mac, Ipv4Addr, u16), to: (Mac, Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let udp = [&from.2.to_be_bytes()[..], &to.2.to_be_bytes(), &length(8 + payload.len()), &[0, 0], payload]
        .concat();
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0].to_vec();
    ip[2..4].copy_from_slice(&length(20 + udp.len()));
    ip.extend([from.1.octets(), to.1.octets()].concat());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(to.0, from.0, 0x0800, &[ip, udp].concat())
}

/// A client with the MAC `chaddr` looks for DHCP servers.
pub fn discover(chaddr: Mac) -> Vec<u8> {
    let mut message = dhcp(1, Ipv4Addr::UNSPECIFIED, chaddr);
    message[0] = 1;
    message
}

/// What a DHCP server says: `kind` 2 offers, 5 acknowledges the address `given`.
pub fn dhcp(kind: u8, given: Ipv4Addr, to: Mac) -> Vec<u8> {
    let mut message = vec![2, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend(given.octets());
    message.resize(28, 0);
    message.extend(to);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, kind, 255]);
    message.resize(300, 0);
    message
}

/// ICMPv6 with a right checksum.
pub fn icmp6(mac: Mac, from: Ipv6Addr, to: (Mac, Ipv6Addr), message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let pseudo =
        [&from.octets()[..], &to.1.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 58], message]
            .concat();
    let mut message = message.to_vec();
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let head =
        [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[58, 255], &from.octets(), &to.1.octets()].concat();
    ethernet(to.0, mac, 0x86dd, &[head, message].concat())
}

/// A neighbour's advertisement that `target` is at `mac`.
pub fn advertisement(target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &mac].concat()
}

/// A neighbour's question who is `target`, by `mac`; without it as for the detection of duplicate addresses.
pub fn solicitation(target: Ipv6Addr, mac: Option<Mac>) -> Vec<u8> {
    let option = mac.map(|mac| [&[1, 1][..], &mac].concat()).unwrap_or_default();
    [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &option].concat()
}

/// A router's advertisement.
pub fn router() -> Vec<u8> {
    vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The internet's checksum.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
