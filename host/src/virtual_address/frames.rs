//! Frames by which neighbours learn at which MAC an address is now. Pure.
//!
//! IPv4: an ARP announcement (RFC 5227, section 2.3) as a request and as a reply, since some switches and hosts take only one of them.
//! IPv6: an unsolicited neighbour advertisement with the override flag (RFC 4861, section 7.2.6).

use crate::net::arp::ARP;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The shortest Ethernet frame, without its checksum.
const SHORTEST: usize = 60;
/// EtherType of IPv6.
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Next header of ICMPv6 (RFC 4443).
const ICMPV6: u8 = 58;
/// Type of a neighbour advertisement.
const ADVERTISEMENT: u8 = 136;
/// Its flag "override": neighbours replace what they have.
const OVERRIDE: u8 = 0x20;
/// Option "target link-layer address", of one unit of 8 bytes.
const TARGET_MAC: [u8; 2] = [2, 1];
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Their MAC (RFC 2464).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// The frames that say: `address` is at `ours`.
pub(super) fn announcements(ours: [u8; 6], address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(v4) => vec![arp(ours, v4, 1), arp(ours, v4, 2)],
        IpAddr::V6(v6) => vec![advertisement(ours, v6)],
    }
}

/// Sender and target are the same address; `operation` is 1 for a request, 2 for a reply.
fn arp(ours: [u8; 6], address: Ipv4Addr, operation: u8) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &ours, &ARP].concat();
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let target = if operation == 1 { [0; 6] } else { [0xff; 6] };
    let mut frame = [&ethernet[..], &head, &ours, &address.octets(), &target, &address.octets()].concat();
    frame.resize(SHORTEST, 0);
    frame
}

fn advertisement(ours: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut message =
        [&[ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0][..], &address.octets(), &TARGET_MAC, &ours].concat();
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    let pseudo =
        [&address.octets()[..], &ALL_NODES.octets(), &[0, 0, 0, length, 0, 0, 0, ICMPV6], &message].concat();
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let head = [0x60, 0, 0, 0, 0, length, ICMPV6, 255];
    [&ALL_NODES_MAC[..], &ours, &IPV6, &head, &address.octets(), &ALL_NODES.octets(), &message].concat()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

    #[test]
    fn an_ipv4_address_is_announced_as_a_request_and_as_a_reply_from_itself_to_itself() {
        let frames = announcements(OURS, "192.0.2.100".parse().unwrap());
        for (frame, operation) in frames.iter().zip([1, 2]) {
            assert_eq!(frame.len(), SHORTEST);
            assert_eq!(frame[..6], [0xff; 6], "to everybody");
            assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
            assert_eq!((&frame[22..28], &frame[28..32]), (&OURS[..], &[192, 0, 2, 100][..]));
            assert_eq!(frame[38..42], [192, 0, 2, 100]);
        }
        assert_eq!(frames.len(), 2);
        // What this machine says of itself is no claim of another.
        assert_eq!(crate::net::arp::claim(&frames[1], OURS, Ipv4Addr::new(192, 0, 2, 100)), None);
        let others = arp([2; 6], Ipv4Addr::new(192, 0, 2, 100), 2);
        let claim = crate::net::arp::claim(&others, OURS, Ipv4Addr::new(192, 0, 2, 100));
        assert_eq!(claim.as_deref(), Some("02:02:02:02:02:02"));
    }

    #[test]
    fn an_ipv6_address_is_advertised_to_all_nodes_and_overrides_what_they_know() {
        let address: Ipv6Addr = "2001:db8::100".parse().unwrap();
        let frames = announcements(OURS, address.into());
        let [frame] = &frames[..] else { panic!("one frame") };
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!((&frame[..6], &frame[6..12]), (&ALL_NODES_MAC[..], &OURS[..]));
        assert_eq!(
            (frame[20], frame[21]),
            (ICMPV6, 255),
            "a router between would have changed the hop limit"
        );
        let message = &frame[54..];
        assert_eq!((message[0], message[4]), (ADVERTISEMENT, OVERRIDE));
        assert_eq!((&message[8..24], &message[26..32]), (&address.octets()[..], &OURS[..]));
        let pseudo = [&frame[22..38], &frame[38..54], &[0, 0, 0, 32, 0, 0, 0, ICMPV6], message].concat();
        assert_eq!(checksum(&pseudo), 0, "with its checksum the sum is all ones");
    }
}
