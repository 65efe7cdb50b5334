//! Who has an IPv4 address: asked as RFC 5227 says, without claiming it.
//!
//! Route in: a link, an address. Route out: the MAC address of anyone who has it.

use nix::sys::socket::{
    self, AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Between two questions (RFC 5227 asks three times within 7 s).
const AGAIN: Duration = Duration::from_millis(700);
/// Longest silence of one read.
const WAIT: Duration = Duration::from_millis(100);
/// EtherType of ARP.
pub(crate) const ARP: [u8; 2] = [0x08, 0x06];

pub(crate) fn owner(link: &str, address: Ipv4Addr, patience: Duration) -> io::Result<Option<String>> {
    let (socket, ours) = open(link)?;
    let begin = Instant::now();
    let mut asked: Option<Instant> = None;
    let mut frame = [0; 1514];
    while begin.elapsed() < patience {
        if asked.is_none_or(|asked| asked.elapsed() >= AGAIN) {
            socket::send(socket.as_raw_fd(), &question(ours, address), MsgFlags::empty())?;
            asked = Some(Instant::now());
        }
        match socket::recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => {
                if let Some(mac) = claim(&frame[..length], ours, address) {
                    return Ok(Some(mac));
                }
            }
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// A socket for whole frames on `link`, whose reads end after a moment; and the MAC of the link.
pub(crate) fn open(link: &str) -> io::Result<(OwnedFd, [u8; 6])> {
    let of_link = |entry: &nix::ifaddrs::InterfaceAddress| entry.interface_name == link;
    let place: LinkAddr = nix::ifaddrs::getifaddrs()?
        .filter(of_link)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no link {link}")))?;
    let ours = place.addr().ok_or_else(|| io::Error::other(format!("{link} has no MAC address")))?;
    let all = SockProtocol::EthAll;
    let socket = socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all)?;
    socket::bind(socket.as_raw_fd(), &place)?;
    let wait = TimeVal::milliseconds(i64::try_from(WAIT.as_millis()).unwrap_or(100));
    socket::setsockopt(&socket, ReceiveTimeout, &wait)?;
    Ok((socket, ours))
}

/// An ARP probe: a question by nobody, so that it does not disturb anyone who has the address.
pub(super) fn question(ours: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &ours, &ARP].concat();
    // Ethernet, IPv4, lengths of their addresses, a request.
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let mut frame = [&ethernet[..], &head, &ours, &[0; 4], &[0; 6], &address.octets()].concat();
    frame.resize(60, 0); // the shortest frame
    frame
}

/// The MAC address of another machine that says by `frame` that `address` is its own.
pub(crate) fn claim(frame: &[u8], ours: [u8; 6], address: Ipv4Addr) -> Option<String> {
    let arp = frame.get(14..42).filter(|_| frame[12..14] == ARP)?;
    let sender = &arp[8..14];
    (arp[14..18] == address.octets() && sender != ours)
        .then(|| sender.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    #[test]
    fn a_question_claims_nothing() {
        let frame = question(OURS, ADDRESS);
        assert_eq!((frame.len(), &frame[12..22]), (60, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1][..]));
        assert_eq!(frame[28..32], [0; 4], "nobody asks");
        assert_eq!(frame[38..42], [192, 0, 2, 10]);
        assert_eq!(claim(&frame, OURS, ADDRESS), None);
    }

    #[test]
    fn an_answer_names_its_sender_and_other_frames_say_nothing() {
        let mut answer = question([0x52, 0x54, 0, 0, 0, 9], ADDRESS);
        answer[21] = 2;
        answer[28..32].copy_from_slice(&[192, 0, 2, 10]);
        assert_eq!(claim(&answer, OURS, ADDRESS).as_deref(), Some("52:54:00:00:00:09"));
        assert_eq!(claim(&answer, OURS, Ipv4Addr::new(192, 0, 2, 11)), None);
        assert_eq!(claim(&answer[..30], OURS, ADDRESS), None);
        answer[12] = 0x86;
        assert_eq!(claim(&answer, OURS, ADDRESS), None);
    }
}
