//! What this machine is on its networks: addresses, MACs and prefixes of its own, gateways, MACs of neighbours.
//!
//! Why here: getifaddrs(3) and procfs are the machine's. The packet filters of VMs protect what is found. Route in:
//! nothing. Route out: a [`Segment`], observed again at each call.

use crate::reach::{self, Reach};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// One observation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Links with an address or a MAC, those of VMs included.
    pub interfaces: Vec<Interface>,
    /// Default gateways.
    pub gateways: BTreeSet<IpAddr>,
    /// The kernel's table of IPv4 neighbours.
    pub neighbours: Vec<Neighbour>,
}

/// One address of a link; a link without IP addresses has an entry with its MAC alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Kernel name of the link.
    pub link: String,
    /// MAC, lower case with colons.
    pub mac: Option<String>,
    /// Address and length of its prefix in bits.
    pub address: Option<(IpAddr, u8)>,
}

/// A host on one of the machine's links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its MAC, lower case with colons.
    pub mac: String,
}

/// Something that has networks: [`Kernel`], or [`crate::fakes::FakeSegments`] in tests.
pub trait Segments: Send + Sync {
    /// Observes.
    fn observe(&self) -> io::Result<Segment>;
}

/// The running kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    root: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Segments for Kernel {
    fn observe(&self) -> io::Result<Segment> {
        let interfaces = nix::ifaddrs::getifaddrs()?.filter_map(|entry| interface(&entry)).collect();
        let gateways = reach::System::default().gateways()?.into_iter().map(|gateway| gateway.address);
        Ok(Segment { interfaces, gateways: gateways.collect(), neighbours: neighbours(&self.root)? })
    }
}

fn interface(entry: &nix::ifaddrs::InterfaceAddress) -> Option<Interface> {
    let address = entry.address?;
    let link = entry.interface_name.clone();
    if let Some(place) = address.as_link_addr() {
        let mac = place.addr().filter(|mac| *mac != [0; 6]).map(hex);
        return Some(Interface { link, mac, address: None });
    }
    let v4 = |storage: &nix::sys::socket::SockaddrStorage| {
        storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()))
    };
    let v6 = |storage: &nix::sys::socket::SockaddrStorage| {
        storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()))
    };
    let ip = v4(&address).or_else(|| v6(&address))?;
    let mask = entry.netmask.as_ref().and_then(|mask| v4(mask).or_else(|| v6(mask)));
    let length = match mask {
        Some(IpAddr::V4(mask)) => mask.to_bits().leading_ones(),
        Some(IpAddr::V6(mask)) => mask.to_bits().leading_ones(),
        None if ip.is_ipv4() => 32,
        None => 128,
    };
    Some(Interface { link, mac: None, address: Some((ip, u8::try_from(length).unwrap_or(u8::MAX))) })
}

/// `IP address, HW type, Flags, HW address, Mask, Device` of proc_net_arp; incomplete entries have no flags.
fn neighbours(root: &Path) -> io::Result<Vec<Neighbour>> {
    let table = std::fs::read_to_string(root.join("proc/net/arp"))?;
    let entry = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_complete = words.get(2).is_some_and(|flags| *flags != "0x0");
        let neighbour =
            Neighbour { address: words.first()?.parse().ok()?, mac: words.get(3)?.to_ascii_lowercase() };
        is_complete.then_some(neighbour)
    };
    Ok(table.lines().skip(1).filter_map(entry).collect())
}

fn hex(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_answered_are_read_and_others_are_not() {
        let root = std::env::temp_dir().join(format!("sheaf-segment-{}", std::process::id()));
        std::fs::create_dir_all(root.join("proc/net")).unwrap();
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     192.0.2.1        0x1         0x2         52:55:0A:00:02:02     *        br0\n\
                     192.0.2.9        0x1         0x0         00:00:00:00:00:00     *        br0\n";
        std::fs::write(root.join("proc/net/arp"), table).unwrap();
        let gateway = Neighbour { address: Ipv4Addr::new(192, 0, 2, 1), mac: "52:55:0a:00:02:02".into() };
        assert_eq!(neighbours(&root).unwrap(), [gateway]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn this_machine_has_the_loopback_network() {
        let segment = Kernel::default().observe().unwrap();
        let loopback = Some(("127.0.0.1".parse().unwrap(), 8));
        assert!(segment.interfaces.iter().any(|found| found.address == loopback), "{segment:?}");
    }
}
