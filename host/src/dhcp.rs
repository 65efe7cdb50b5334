//! Sockets of a DHCP server on one link.
//!
//! Why here: sockets are the kernel's. Requests come over UDP; answers go out as whole frames, as a client that has no
//! address yet cannot be asked for its MAC by ARP. Route in: the name of a link. Route out: payloads of UDP; frames.

use nix::sys::socket::sockopt::{BindToDevice, Broadcast, ReuseAddr};
use nix::sys::socket::{
    self, AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn,
};
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use tokio::net::UdpSocket;

/// Port of DHCP servers (RFC 2131).
const SERVER_PORT: u16 = 67;

/// Something that opens sockets: [`Kernel`], or [`crate::fakes::FakeDhcp`] in tests.
pub trait DhcpSockets: Send + Sync {
    /// Opens the sockets on `link`.
    fn open(&self, link: &str) -> io::Result<Box<dyn DhcpSocket>>;
}

/// The sockets of one link.
pub trait DhcpSocket: Send {
    /// MAC of the link.
    fn mac(&self) -> [u8; 6];
    /// Waits for a request and puts it into `buffer`; its length, or as much of it as there was room for.
    fn recv<'a>(
        &'a mut self,
        buffer: &'a mut [u8],
    ) -> Pin<Box<dyn Future<Output = io::Result<usize>> + Send + 'a>>;
    /// Sends an Ethernet frame; it is lost when the link's queue is full, and the client asks again.
    fn send(&mut self, frame: &[u8]) -> io::Result<()>;
}

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

struct Sockets {
    mac: [u8; 6],
    udp: UdpSocket,
    packets: OwnedFd,
}

impl DhcpSockets for Kernel {
    fn open(&self, link: &str) -> io::Result<Box<dyn DhcpSocket>> {
        let of_link = |entry: &nix::ifaddrs::InterfaceAddress| entry.interface_name == link;
        let place = nix::ifaddrs::getifaddrs()?
            .filter(of_link)
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no link {link}")))?;
        let mac = place.addr().ok_or_else(|| io::Error::other(format!("{link} has no MAC")))?;
        Ok(Box::new(Sockets { mac, udp: udp(link)?, packets: packets(&place)? }))
    }
}

fn udp(link: &str) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Inet, SockType::Datagram, flags, SockProtocol::Udp)?;
    socket::setsockopt(&socket, ReuseAddr, &true)?;
    socket::setsockopt(&socket, Broadcast, &true)?;
    socket::setsockopt(&socket, BindToDevice, &OsString::from(link))?;
    socket::bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, SERVER_PORT))?;
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}

/// Sends alone: a socket without a protocol receives nothing.
fn packets(place: &LinkAddr) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    socket::bind(socket.as_raw_fd(), place)?;
    Ok(socket)
}

impl DhcpSocket for Sockets {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn recv<'a>(
        &'a mut self,
        buffer: &'a mut [u8],
    ) -> Pin<Box<dyn Future<Output = io::Result<usize>> + Send + 'a>> {
        Box::pin(self.udp.recv(buffer))
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        match socket::send(self.packets.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) | Err(nix::Error::EAGAIN | nix::Error::ENOBUFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
