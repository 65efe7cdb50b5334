//! Who answers this machine: its gateways, its name servers.
//!
//! Why here: sockets and procfs are effects. Asked without privileges: an echo goes over a ping socket, which the sysctl
//! `net.ipv4.ping_group_range` opens for root. Route in: an address. Route out: whether an answer came, by its own hand;
//! silence of the other side is no answer, however well it may be.

mod echo;
mod routes;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A default gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// Its address.
    pub address: IpAddr,
    /// The link that leads to it.
    pub link: String,
}

/// Something that is asked who answers: [`System`], or [`crate::fakes::FakeReach`] in tests.
pub trait Reach: Send + Sync {
    /// The default gateway of each family that counts now: that of the lowest metric.
    fn gateways(&self) -> io::Result<Vec<Gateway>>;
    /// Whether an echo of `packet` bytes in all, not to be cut in pieces, comes back from `gateway`.
    fn echoes(&self, gateway: &Gateway, packet: usize, timeout: Duration) -> bool;
    /// Whether `gateway` accepts or refuses a connection: either is an answer.
    fn knocks(&self, gateway: &Gateway, timeout: Duration) -> bool;
    /// The name servers in use.
    fn name_servers(&self) -> Vec<IpAddr>;
    /// Whether `server` answers a question, whatever it answers.
    fn answers(&self, server: IpAddr, timeout: Duration) -> bool;
}

/// This machine.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

/// A port that is nobody's (RFC 863, in disuse): who is there refuses.
const DISCARD: u16 = 9;
/// Port of DNS.
const DNS: u16 = 53;

impl Reach for System {
    fn gateways(&self) -> io::Result<Vec<Gateway>> {
        routes::gateways(&self.root)
    }

    fn echoes(&self, gateway: &Gateway, packet: usize, timeout: Duration) -> bool {
        // No socket, no route, too large for the link: no echo, whatever the reason.
        echo::echoes(gateway.address, &gateway.link, packet, timeout).unwrap_or(false)
    }

    fn knocks(&self, gateway: &Gateway, timeout: Duration) -> bool {
        match TcpStream::connect_timeout(&at(gateway.address, &gateway.link, DISCARD), timeout) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        }
    }

    fn name_servers(&self) -> Vec<IpAddr> {
        // What resolved really asks, not its own stub.
        let text = std::fs::read_to_string(self.root.join("run/systemd/resolve/resolv.conf"));
        servers(&text.unwrap_or_default())
    }

    fn answers(&self, server: IpAddr, timeout: Duration) -> bool {
        asks(SocketAddr::new(server, DNS), timeout).unwrap_or(false)
    }
}

/// `address`, on `link` where it is the link's own.
fn at(address: IpAddr, link: &str, port: u16) -> SocketAddr {
    match address {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            std::net::SocketAddrV6::new(ip, port, 0, index(Path::new("/"), link).unwrap_or(0)).into()
        }
        address => SocketAddr::new(address, port),
    }
}

/// The kernel's number of `link`.
fn index(root: &Path, link: &str) -> Option<u32> {
    let text = std::fs::read_to_string(root.join("sys/class/net").join(link).join("ifindex")).ok()?;
    text.trim().parse().ok()
}

/// The servers that a resolv.conf names.
fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| line.strip_prefix("nameserver ")?.trim().split('%').next()?.parse().ok();
    text.lines().filter_map(server).collect()
}

/// Asks for the name servers of the root; any answer to that very question counts.
fn asks(server: SocketAddr, timeout: Duration) -> io::Result<bool> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.connect(server)?;
    // The port of the socket is as hard to guess as a number drawn would be.
    let number = socket.local_addr()?.port().to_be_bytes();
    let mut question = number.to_vec();
    // Recursion wished; one question: ".", NS, IN.
    question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]);
    socket.send(&question)?;
    let mut answer = [0; 2048];
    let length = socket.recv(&mut answer)?;
    Ok(length >= 12 && answer[..2] == number && answer[2] & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_answer_of_a_name_server_counts_and_silence_does_not() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        assert!(!asks(address, Duration::from_millis(20)).unwrap_or(false));
        std::thread::spawn(move || {
            let mut packet = [0; 64];
            // The first question is still there.
            for _ in 0..2 {
                let (length, client) = server.recv_from(&mut packet).unwrap();
                packet[2] |= 0x80;
                packet[3] = 5; // refused
                let _ = server.send_to(&packet[..length], client);
            }
        });
        assert!(asks(address, Duration::from_secs(5)).unwrap());
    }

    #[test]
    fn a_closed_port_is_an_answer() {
        let here = Gateway { address: "127.0.0.1".parse().unwrap(), link: "lo".into() };
        assert!(System::default().knocks(&here, Duration::from_secs(2)));
    }

    #[test]
    fn servers_are_read_from_resolvds_file() {
        let text = "# made by systemd-resolved\nnameserver 10.0.2.3\nnameserver fe80::1%2\nsearch .\n";
        let expected: Vec<IpAddr> = vec!["10.0.2.3".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(servers(text), expected);
    }
}
