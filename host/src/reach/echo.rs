//! An echo request of a given size, over a ping socket (icmp(7)): no privileges, the kernel keeps others' answers away.
//!
//! Route in: an address and the size of the whole packet. Route out: whether its echo came back.

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, Timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Type, code, checksum, identifier, sequence number: the kernel writes the checksum and the identifier.
const HEADER: usize = 8;
const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_IPV6: u8 = 128;
const ECHO_REPLY_IPV6: u8 = 129;
/// Echo requests within the timeout: one may get lost, and a gateway may answer few a second.
const TRIES: u32 = 3;

pub(super) fn echoes(address: IpAddr, link: &str, packet: usize, timeout: Duration) -> io::Result<bool> {
    let target = super::at(address, link, 0);
    let (family, protocol, of_ip) = match target {
        SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 20),
        SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 40),
    };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(protocol))?;
    // Never cut in pieces, and as large as the link takes whatever was learnt of the path before.
    match target {
        SocketAddr::V4(_) => sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
        SocketAddr::V6(_) => sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?,
    }
    rustix::net::connect(&socket, &target)?;
    let mut request = vec![0x5a; packet.saturating_sub(of_ip).max(HEADER)];
    request[..HEADER].fill(0);
    request[0] = if target.is_ipv4() { ECHO } else { ECHO_IPV6 };
    let reply = if target.is_ipv4() { ECHO_REPLY } else { ECHO_REPLY_IPV6 };
    let mut answer = vec![0; request.len()];
    for number in 1..=TRIES {
        request[6..HEADER].copy_from_slice(&u16::try_from(number).unwrap_or(1).to_be_bytes());
        rustix::net::send(&socket, &request, SendFlags::empty())?;
        let end = Instant::now() + timeout / TRIES;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(left))?;
            match rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()) {
                Ok((length, _)) if length >= request.len() && answer[0] == reply => return Ok(true),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_echoes_what_fits_it_and_nothing_larger() {
        let (here, timeout) = ("127.0.0.1".parse().unwrap(), Duration::from_millis(300));
        match echoes(here, "lo", 1500, timeout) {
            // This machine's sysctl allows no ping sockets.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            echoed => {
                assert!(echoed.unwrap());
                assert!(echoes(here, "lo", 100_000, timeout).is_err(), "larger than the link");
            }
        }
    }
}
