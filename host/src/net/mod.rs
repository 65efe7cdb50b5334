//! The network of a machine that is being installed: brought up by systemd-networkd, and asked who answers.
//!
//! Why here: links, leases, ARP and clocks of others are the machine's. Route in: networkd's files, an address, a name.
//! Route out: [`Net`]; [`crate::fakes::FakeNet`] in tests.

pub(crate) mod arp;
#[cfg(test)]
mod fuzz;
mod networkd;
mod ntp;

use crate::run::RunError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// A link that networkd looks after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetLink {
    /// Kernel name.
    pub name: String,
    /// Something is at the other end of its cable; unknown while it is down.
    pub carrier: Option<bool>,
    /// Its addresses, also those of the link's own scope.
    pub addresses: Vec<IpAddr>,
    /// What DHCP gave it.
    pub lease: Option<Lease>,
}

/// What DHCP gave a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its address.
    pub address: String,
    /// Who gave it.
    pub server: Option<IpAddr>,
    /// Default gateway.
    pub router: Option<IpAddr>,
    /// Time servers.
    pub ntp: Vec<String>,
}

/// A network that could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// networkd's files cannot be written or read.
    #[error("{}: cannot be used", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// networkd does not start.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What an installer needs of the network: [`System`], or [`crate::fakes::FakeNet`] in tests.
pub trait Net: Send + Sync {
    /// Makes networkd follow these files, name and text, and no earlier ones of ours.
    fn configure(&self, files: &[(String, String)]) -> Result<(), NetError>;
    /// Links as they are now.
    fn links(&self) -> Result<Vec<NetLink>, NetError>;
    /// Who on `link` says that it has `address`: a MAC address.
    fn owner(&self, link: &str, address: Ipv4Addr, patience: Duration) -> io::Result<Option<String>>;
    /// Whether a neighbour at `address` answers in any way.
    fn is_there(&self, address: IpAddr, patience: Duration) -> bool;
    /// Addresses of `name`.
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
    /// How many seconds the clock of `server` is ahead of ours.
    fn clock_ahead(&self, server: &str, patience: Duration) -> io::Result<f64>;
}

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Net for System {
    fn configure(&self, files: &[(String, String)]) -> Result<(), NetError> {
        networkd::configure(&crate::run::System, files)
    }

    fn links(&self) -> Result<Vec<NetLink>, NetError> {
        networkd::links()
    }

    fn owner(&self, link: &str, address: Ipv4Addr, patience: Duration) -> io::Result<Option<String>> {
        arp::owner(link, address, patience)
    }

    fn is_there(&self, address: IpAddr, patience: Duration) -> bool {
        // Port 9 is nobody's: a neighbour refuses it or says nothing, and without a neighbour the kernel says so.
        match TcpStream::connect_timeout(&SocketAddr::new(address, 9), patience) {
            Ok(_) => true,
            Err(error) => {
                !matches!(error.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)
            }
        }
    }

    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }

    fn clock_ahead(&self, server: &str, patience: Duration) -> io::Result<f64> {
        ntp::clock_ahead(server, patience)
    }
}
