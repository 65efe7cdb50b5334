//! Links and addresses as the kernel has them, and news of their changes.
//!
//! Why here: netlink and sysfs are the machine's. Whoever set an address, networkd or an operator's hand, this is
//! what counts. Route in: nothing. Route out: [`Link`]s; [`Watch::changed`] returns when they may be different.

use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tokio::net::UnixDatagram;

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of linux/rtnetlink.h: links, addresses of both families.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Bytes read at once; what the messages say does not matter, only that they came.
const MESSAGES: usize = 16 << 10;

/// A link of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Kernel name.
    pub name: String,
    /// The kernel's word: `up`, `down`, `lowerlayerdown`, …
    pub state: String,
    /// It is a bridge, with these links in it.
    pub bridge_ports: Option<Vec<String>>,
    /// A device of the machine stands behind it, not the kernel alone.
    pub is_card: bool,
    /// Addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
}

/// Something that has links: [`Kernel`], or [`crate::fakes::FakeLinks`] in tests.
pub trait Links: Send + Sync {
    /// All links, by name.
    fn list(&self) -> io::Result<Vec<Link>>;
    /// News of changes from now on.
    fn watch(&self) -> io::Result<Box<dyn Watch>>;
}

/// News of changes.
pub trait Watch: Send {
    /// Returns when links or addresses may have changed since the last call.
    fn changed<'a>(&'a mut self) -> std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;
}

/// The running kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    sysfs: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { sysfs: "/sys/class/net".into() }
    }
}

impl Links for Kernel {
    fn list(&self) -> io::Result<Vec<Link>> {
        let mut addresses: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for entry in nix::ifaddrs::getifaddrs()? {
            let Some(address) = entry.address else { continue };
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            let v6 = address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
            if let Some(address) = v4.or(v6) {
                addresses.entry(entry.interface_name).or_default().push(address);
            }
        }
        let mut links = Vec::new();
        for entry in fs::read_dir(&self.sysfs)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let addresses = addresses.remove(&name).unwrap_or_default();
            links.push(Link { name, addresses, ..describe(&entry.path()) });
        }
        links.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(links)
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let route = SockProtocol::NetlinkRoute;
        let socket = nix::sys::socket::socket(AddressFamily::Netlink, SockType::Raw, flags, route)?;
        nix::sys::socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        // Tokio has no netlink socket; one that passes datagrams is read like any other.
        Ok(Box::new(News(UnixDatagram::from_std(socket.into())?)))
    }
}

/// What sysfs says of the link whose directory is `dir`.
fn describe(dir: &Path) -> Link {
    let state = fs::read_to_string(dir.join("operstate")).unwrap_or_default().trim().to_owned();
    let ports = dir.join("bridge").exists().then(|| {
        let entries = fs::read_dir(dir.join("brif")).into_iter().flatten().flatten();
        let mut ports: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        ports.sort();
        ports
    });
    Link { state, bridge_ports: ports, is_card: dir.join("device").exists(), ..Link::default() }
}

struct News(UnixDatagram);

impl Watch for News {
    fn changed<'a>(&'a mut self) -> std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>> {
        Box::pin(async move {
            let mut buffer = [0; MESSAGES];
            let mut any = false;
            loop {
                match self.0.try_recv(&mut buffer) {
                    Ok(_) => any = true,
                    // More news than the socket holds: all the more reason to look.
                    Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => any = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && any => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.0.readable().await?,
                    Err(error) => return Err(error),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_this_machine_has_its_address() {
        let links = Kernel::default().list().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.addresses.contains(&"127.0.0.1".parse().unwrap()), "{lo:?}");
        assert_eq!((lo.bridge_ports.as_ref(), lo.is_card), (None, false));
    }

    #[tokio::test]
    async fn silence_is_no_news() {
        let mut news = Kernel::default().watch().unwrap();
        let moment = std::time::Duration::from_millis(20);
        // Elapsed, unless this machine's links really change just now: then an answer comes, and no error.
        assert!(!matches!(tokio::time::timeout(moment, news.changed()).await, Ok(Err(_))));
    }

    #[test]
    fn a_bridge_is_known_by_its_directory_and_its_ports() {
        let dir = std::env::temp_dir().join(format!("sheaf-links-{}", std::process::id()));
        for port in ["vnet0", "enp1s0"] {
            fs::create_dir_all(dir.join("brif").join(port)).unwrap();
        }
        fs::create_dir_all(dir.join("bridge")).unwrap();
        fs::write(dir.join("operstate"), "up\n").unwrap();
        let link = describe(&dir);
        assert_eq!(link.state, "up");
        assert_eq!(link.bridge_ports.unwrap(), ["enp1s0", "vnet0"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
