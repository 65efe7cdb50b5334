//! Addresses with a lifetime, by rtnetlink(7).
//!
//! Why not networkd: its addresses have no lifetime that a program could prolong every few seconds. Why not ip(8): a process every two
//! seconds. Route in: a link, an address. Route out: one request, and the kernel's answer to it.

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Messages and flags of linux/rtnetlink.h and linux/netlink.h.
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const ERROR: u16 = 2;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
/// Attributes of linux/if_addr.h.
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const CACHE_INFO: u16 = 6;
const FLAGS: u16 = 8;
/// No duplicate address detection: who has the address is decided elsewhere, and it would wait for a second.
const NO_DAD: u32 = 0x02;
/// Length of a message's head.
const HEAD: usize = 16;
/// The kernel answers such a request at once.
const ANSWER: Duration = Duration::from_secs(2);

/// Puts `address` on `link` for `lifetime`. It is "deprecated" from the first moment: connections from here never use it as their source.
pub(super) fn put(link: &str, address: IpAddr, lifetime: Duration) -> io::Result<()> {
    // A part of a second would be none.
    let seconds = u32::try_from(lifetime.as_secs().max(1)).unwrap_or(u32::MAX);
    let cache = [0, seconds, 0, 0].map(u32::to_ne_bytes).concat();
    let flags = NO_DAD.to_ne_bytes();
    let attributes = [(CACHE_INFO, &cache[..]), (FLAGS, &flags[..])];
    ask(&message(NEW_ADDRESS, REPLACE | CREATE, index(link)?, address, &attributes))
}

/// Takes `address` from `link`; whether it was there.
pub(super) fn remove(link: &str, address: IpAddr) -> io::Result<bool> {
    match ask(&message(DELETE_ADDRESS, 0, index(link)?, address, &[])) {
        Err(error) if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) => Ok(false),
        answer => answer.map(|()| true),
    }
}

/// Names of the links that have `address`.
pub(super) fn links_with(address: IpAddr) -> io::Result<Vec<String>> {
    let has = nix::ifaddrs::getifaddrs()?.filter(|entry| {
        let of_entry = entry.address.as_ref();
        let v4 = of_entry.and_then(|address| Some(IpAddr::V4(address.as_sockaddr_in()?.ip())));
        let v6 = of_entry.and_then(|address| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())));
        v4.or(v6) == Some(address)
    });
    Ok(has.map(|entry| entry.interface_name).collect())
}

fn index(link: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(link)?)
}

/// A request about one address, of a whole prefix: it makes no network.
fn message(kind: u16, flags: u16, index: u32, address: IpAddr, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AddressFamily::Inet6, v6.octets().to_vec()),
    };
    let family = u8::try_from(family as i32).unwrap_or_default();
    let bits = u8::try_from(octets.len() * 8).unwrap_or_default();
    let mut body = [&[family, bits, 0, 0][..], &index.to_ne_bytes()].concat();
    let both = [(LOCAL, &octets[..]), (ADDRESS, &octets[..])];
    for (kind, value) in both.iter().chain(attributes) {
        // Every value here is a multiple of 4 bytes long, as attributes are aligned.
        let length = u16::try_from(value.len() + 4).unwrap_or_default();
        body.extend([&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat());
    }
    let length = u32::try_from(HEAD + body.len()).unwrap_or_default();
    let flags = flags | REQUEST | ACK;
    let sequence = 1_u32;
    [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        &body,
    ]
    .concat()
}

fn ask(message: &[u8]) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let wait = TimeVal::milliseconds(i64::try_from(ANSWER.as_millis()).unwrap_or(2000));
    socket::setsockopt(&socket, ReceiveTimeout, &wait)?;
    let kernel = NetlinkAddr::new(0, 0);
    socket::sendto(socket.as_raw_fd(), message, &kernel, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = socket::recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    outcome(&answer[..length])
}

/// What the kernel answered: an error, of which zero is none.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is not one of rtnetlink");
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(HEAD..HEAD + 4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(odd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_says_and_holds_the_address_twice() {
        for (address, bits) in [("192.0.2.100", 32), ("2001:db8::100", 128)] {
            let address: IpAddr = address.parse().unwrap();
            let request =
                message(NEW_ADDRESS, REPLACE | CREATE, 7, address, &[(FLAGS, &NO_DAD.to_ne_bytes())]);
            assert_eq!(u32::from_ne_bytes(request[..4].try_into().unwrap()) as usize, request.len());
            assert_eq!(u16::from_ne_bytes(request[6..8].try_into().unwrap()), 0x505);
            assert_eq!((request[17], request[20]), (bits, 7));
            let octets = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            let found = request.windows(octets.len()).filter(|window| *window == octets).count();
            assert_eq!(found, 2, "local and peer");
        }
    }

    #[test]
    fn the_kernels_answer_is_an_error_unless_it_is_zero() {
        let answer = |code: i32| {
            [&36_u32.to_ne_bytes()[..], &ERROR.to_ne_bytes(), &[0; 10], &code.to_ne_bytes()].concat()
        };
        outcome(&answer(0)).unwrap();
        assert_eq!(outcome(&answer(-19)).unwrap_err().raw_os_error(), Some(19));
        assert_eq!(outcome(&answer(i32::MIN)).unwrap_err().raw_os_error(), Some(i32::MAX));
        assert_eq!(outcome(&[0; 7]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn no_link_has_an_address_of_the_documentation() {
        assert_eq!(links_with("192.0.2.100".parse().unwrap()).unwrap(), [""; 0]);
    }
}
