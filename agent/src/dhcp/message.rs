//! DHCPv4 messages (RFC 2131, 2132): what a client asks, what the server of the private network answers.
//!
//! Pure, and total: guests send what they like. Route in: bytes, leases. Route out: an Ethernet frame for the one guest
//! that asked, or nothing.

use crate::channels::Leases;
use crate::vms::filters::masquerade::{GATEWAY, PREFIX};
use std::net::Ipv4Addr;

/// Before the options: fixed fields and the magic cookie.
const HEAD: usize = 240;
/// First bytes of the options.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Shortest message that every client takes: that of BOOTP (RFC 1542, 2.1).
const SHORTEST: usize = 300;
/// Seconds that a lease lasts. The address is the guest's as long as it runs; a guest asks again after half of it.
const LEASE: u32 = 24 * 3600;
/// Flag of a client that cannot receive unicast before it has an address.
const BROADCAST_FLAG: u16 = 0x8000;

/// Kinds of messages, option 53.
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
const INFORM: u8 = 8;

/// Options.
const MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAME_SERVER: u8 = 6;
const REQUESTED: u8 = 50;
const LEASE_TIME: u8 = 51;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const CLIENT_ID: u8 = 61;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    kind: u8,
    xid: [u8; 4],
    flags: u16,
    /// Its address, if it has one.
    client: Ipv4Addr,
    mac: [u8; 6],
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    client_id: Option<&'b [u8]>,
}

impl<'b> Request<'b> {
    /// Reads a request that came directly from an Ethernet client; none for anything else.
    pub fn parse(bytes: &'b [u8]) -> Option<Self> {
        let (head, options) = bytes.split_at_checked(HEAD)?;
        let at = |start: usize| -> Option<[u8; 4]> { head.get(start..start + 4)?.try_into().ok() };
        // A request, Ethernet, six bytes of MAC; no relay.
        if head[..3] != [1, 1, 6] || at(24)? != [0; 4] || at(236)? != COOKIE {
            return None;
        }
        let address = |code| -> Option<Ipv4Addr> {
            let bytes: [u8; 4] = option(options, code)?.try_into().ok()?;
            Some(bytes.into())
        };
        let [kind] = option(options, KIND)? else { return None };
        Some(Self {
            kind: *kind,
            xid: at(4)?,
            flags: u16::from_be_bytes([head[10], head[11]]),
            client: at(12)?.into(),
            mac: head[28..34].try_into().ok()?,
            requested: address(REQUESTED),
            server: address(SERVER),
            client_id: option(options, CLIENT_ID),
        })
    }
}

/// The value of option `code`; the first one, where it is there several times.
fn option(mut options: &[u8], code: u8) -> Option<&[u8]> {
    loop {
        options = match options {
            [0, rest @ ..] => rest,
            [255, ..] | [] | [_] => return None,
            [found, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if *found == code {
                    return Some(value);
                }
                rest
            }
        }
    }
}

/// The answer to `request`, as a frame of the server whose MAC is `server`; none when it is not for this server, or when
/// the client has no lease.
pub fn answer(request: &Request<'_>, leases: &Leases, server: [u8; 6]) -> Option<Vec<u8>> {
    if request.server.is_some_and(|chosen| chosen != GATEWAY) {
        return None;
    }
    let lease = *leases.get(&request.mac)?;
    let asked = request.requested.unwrap_or(request.client);
    let kind = match request.kind {
        DISCOVER => OFFER,
        REQUEST if asked == lease => ACK,
        REQUEST => NAK,
        INFORM if request.client == lease => ACK,
        _ => return None,
    };
    // An INFORM has its address and asks for the rest.
    let given = if kind == NAK || request.kind == INFORM { Ipv4Addr::UNSPECIFIED } else { lease };
    let message = message(request, kind, given);
    let to = match kind {
        NAK => Ipv4Addr::BROADCAST,
        _ if !request.client.is_unspecified() && request.client == lease => lease,
        _ if request.flags & BROADCAST_FLAG != 0 => Ipv4Addr::BROADCAST,
        _ => lease,
    };
    Some(frame(server, request.mac, to, &message))
}

fn message(request: &Request<'_>, kind: u8, given: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![2, 1, 6, 0];
    message.extend(request.xid);
    message.extend([0, 0]);
    message.extend(request.flags.to_be_bytes());
    message.extend(if kind == ACK { request.client.octets() } else { [0; 4] });
    message.extend(given.octets());
    message.resize(28, 0);
    message.extend(request.mac);
    message.resize(HEAD - COOKIE.len(), 0);
    message.extend(COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        message.extend([code, u8::try_from(value.len()).unwrap_or(0)]);
        message.extend(value);
    };
    option(KIND, &[kind]);
    option(SERVER, &GATEWAY.octets());
    if let Some(id) = request.client_id {
        option(CLIENT_ID, id); // RFC 6842
    }
    if kind != NAK {
        if !given.is_unspecified() {
            option(LEASE_TIME, &LEASE.to_be_bytes());
        }
        option(MASK, &(u32::MAX << (32 - PREFIX)).to_be_bytes());
        option(ROUTER, &GATEWAY.octets());
        option(NAME_SERVER, &GATEWAY.octets());
    }
    message.push(255);
    message.resize(message.len().max(SHORTEST), 0);
    message
}

/// UDP over IPv4 over Ethernet, from the server's port 67 to the client's port 68.
fn frame(from: [u8; 6], to: [u8; 6], address: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut udp = [&[0, 67, 0, 68][..], &length(8 + message.len()), &[0, 0], message].concat();
    let pseudo = [&GATEWAY.octets()[..], &address.octets(), &[0, 17], &length(udp.len()), &udp].concat();
    // 0 would be "no checksum" (RFC 768).
    let sum = Some(checksum(&pseudo)).filter(|sum| *sum != 0).unwrap_or(u16::MAX);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut ip = [&[0x45, 0][..], &length(20 + udp.len()), &[0, 0, 0, 0, 64, 17, 0, 0]].concat();
    ip.extend(GATEWAY.octets());
    ip.extend(address.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&to[..], &from, &[0x08, 0x00], &ip, &udp].concat()
}

/// The checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let sum: u32 = words.map(u32::from).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
pub(super) mod tests;
