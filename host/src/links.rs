//! Links and addresses as the kernel has them, and news of their changes.
//!
//! Why here: netlink and sysfs are the machine's. Anyone who set an address, networkd or an operator's hand, this is
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

/// Every address that this machine has now, of all links.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let all = nix::ifaddrs::getifaddrs()?.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
    });
    Ok(all.collect())
}

/// A link of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Kernel name.
    pub name: String,
    /// The kernel's word: `up`, `down`, `lowerlayerdown`, …
    pub state: String,
    /// It is a bridge, with these links in it.
    pub bridge_ports: Option<Vec<String>>,
    /// It is a bridge that keeps VLANs apart.
    pub vlan_aware: bool,
    /// It is a bond.
    pub bond: Option<Bond>,
    /// It is a VLAN.
    pub vlan: Option<Vlan>,
    /// A device of the machine stands behind it, not the kernel alone.
    pub is_nic: bool,
    /// The permanent MAC of a NIC, in lowercase; unknown where it was changed.
    pub permanent_mac: Option<String>,
    /// The place of a NIC on its bus: udev's `ID_PATH`.
    pub place: Option<String>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
}

/// A bond as it works now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bond {
    /// `active-backup`, `802.3ad`, …
    pub mode: String,
    /// Its ports, and whether each has a cable that works.
    pub ports: Vec<(String, bool)>,
    /// The port in use, where only one is.
    pub active: Option<String>,
    /// 802.3ad: MAC of the switch; none while no switch speaks LACP.
    pub partner: Option<String>,
}

/// A VLAN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlan {
    /// Its number.
    pub id: u16,
    /// The link it is on.
    pub parent: String,
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
    root: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { root: "/".into() }
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
        for entry in fs::read_dir(self.root.join("sys/class/net"))? {
            let entry = entry?;
            // `bonding_masters` beside the links is a file.
            if !entry.path().is_dir() {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let addresses = addresses.remove(&name).unwrap_or_default();
            links.push(Link { addresses, ..describe(&self.root, name) });
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

/// What sysfs, procfs and udev say of the link `name`.
fn describe(root: &Path, name: String) -> Link {
    let dir = root.join("sys/class/net").join(&name);
    let text = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
    let ports = dir.join("bridge").exists().then(|| {
        let entries = fs::read_dir(dir.join("brif")).into_iter().flatten().flatten();
        let mut ports: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        ports.sort();
        ports
    });
    let is_nic = dir.join("device").exists();
    Link {
        state: text("operstate"),
        bridge_ports: ports,
        vlan_aware: text("bridge/vlan_filtering") == "1",
        bond: dir.join("bonding").exists().then(|| bond(&dir)),
        vlan: fs::read_to_string(root.join("proc/net/vlan").join(&name)).ok().as_deref().and_then(vlan),
        is_nic,
        permanent_mac: is_nic.then(|| crate::nic::permanent_mac(&dir)).flatten(),
        place: is_nic.then(|| crate::nic::place(root, &name)).flatten(),
        mtu: text("mtu").parse().unwrap_or(0),
        addresses: Vec::new(),
        name,
    }
}

/// What sysfs says of the bond whose directory is `dir`.
fn bond(dir: &Path) -> Bond {
    let text = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default().trim().to_owned();
    let given = |file: &str| Some(text(file)).filter(|text| !text.is_empty());
    let is_up = |port: &str| {
        let status = dir.with_file_name(port).join("bonding_slave/mii_status");
        fs::read_to_string(status).is_ok_and(|status| status.trim() == "up")
    };
    let mut ports: Vec<_> =
        text("bonding/slaves").split_whitespace().map(|port| (port.to_owned(), is_up(port))).collect();
    ports.sort();
    Bond {
        // The name, and the kernel's number of it.
        mode: text("bonding/mode").split(' ').next().unwrap_or_default().to_owned(),
        ports,
        active: given("bonding/active_slave"),
        partner: given("bonding/ad_partner_mac").filter(|mac| mac != "00:00:00:00:00:00"),
    }
}

/// Number and parent from `/proc/net/vlan/NAME`.
fn vlan(text: &str) -> Option<Vlan> {
    let mut words = text.split_whitespace();
    let id = words.by_ref().skip_while(|word| *word != "VID:").nth(1)?.parse().ok()?;
    let parent = words.skip_while(|word| *word != "Device:").nth(1)?.to_owned();
    Some(Vlan { id, parent })
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
        assert_eq!((lo.bridge_ports.as_ref(), lo.is_nic), (None, false));
    }

    #[tokio::test]
    async fn silence_is_no_news() {
        let mut news = Kernel::default().watch().unwrap();
        let moment = std::time::Duration::from_millis(20);
        // Elapsed, unless this machine's links really change just now: then an answer comes, and no error.
        assert!(!matches!(tokio::time::timeout(moment, news.changed()).await, Ok(Err(_))));
    }

    /// A tree of files.
    fn tree(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("sheaf-links-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_bridge_is_known_by_its_directory_and_its_ports() {
        let root = tree(
            "bridge",
            &[
                ("sys/class/net/br0/bridge/vlan_filtering", "1\n"),
                ("sys/class/net/br0/brif/vnet0", ""),
                ("sys/class/net/br0/brif/enp1s0", ""),
                ("sys/class/net/br0/operstate", "up\n"),
                ("sys/class/net/br0/mtu", "9000\n"),
            ],
        );
        let link = describe(&root, "br0".into());
        assert_eq!((link.state.as_str(), link.mtu, link.vlan_aware), ("up", 9000, true));
        assert_eq!(link.bridge_ports.unwrap(), ["enp1s0", "vnet0"]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_bond_tells_which_cable_works_and_whether_a_switch_answers() {
        let root = tree(
            "bond",
            &[
                ("sys/class/net/bond0/bonding/mode", "802.3ad 4\n"),
                ("sys/class/net/bond0/bonding/slaves", "enp2s0 enp1s0\n"),
                ("sys/class/net/bond0/bonding/active_slave", "\n"),
                ("sys/class/net/bond0/bonding/ad_partner_mac", "00:00:00:00:00:00\n"),
                ("sys/class/net/enp1s0/bonding_slave/mii_status", "up\n"),
                ("sys/class/net/enp2s0/bonding_slave/mii_status", "down\n"),
            ],
        );
        let bond = describe(&root, "bond0".into()).bond.unwrap();
        assert_eq!(bond.ports, [("enp1s0".to_owned(), true), ("enp2s0".to_owned(), false)]);
        assert_eq!((bond.mode.as_str(), bond.active, bond.partner), ("802.3ad", None, None));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_vlan_tells_its_number_and_its_parent() {
        // As the kernel prints it.
        let text = "mgmt  VID: 10\t REORDER_HDR: 1  dev->priv_flags: 1021\n         total frames received            0\n\
                    Device: bond0\nINGRESS priority mappings: 0:0  1:0\n";
        let root = tree("vlan", &[("proc/net/vlan/mgmt", text), ("sys/class/net/mgmt/operstate", "up\n")]);
        let link = describe(&root, "mgmt".into());
        assert_eq!(link.vlan, Some(Vlan { id: 10, parent: "bond0".into() }));
        fs::remove_dir_all(root).unwrap();
    }
}
