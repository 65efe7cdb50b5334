//! An address that moves between machines: put on a link for some seconds, announced, removed.
//!
//! Why here: netlink and raw frames are the machine's. Why for some seconds: the kernel takes an address away whose lifetime is over,
//! whatever became of the program that put it there; so one that is killed or stopped leaves no address behind. Route in: a
//! link, an address, how long. Route out: the kernel's addresses; frames by which neighbours learn where it is.

mod frames;
mod netlink;

use crate::net::arp;
use nix::sys::socket::{self, MsgFlags};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// What could not be done to an address.
#[derive(Debug, thiserror::Error)]
#[error("{address}: cannot be {verb} {link}")]
pub struct VirtualAddressError {
    /// `put on`, `announced on`, `removed from`.
    verb: &'static str,
    address: IpAddr,
    link: String,
    source: io::Error,
}

/// What moves an address: [`Kernel`], or [`crate::fakes::FakeVirtualAddresses`] in tests. Every call blocks.
pub trait VirtualAddresses: Send + Sync {
    /// Puts `address` on `link`, where it is until `lifetime` from now, and prolongs it if it is there. The kernel removes it within
    /// two seconds after its end.
    fn hold(&self, link: &str, address: IpAddr, lifetime: Duration) -> Result<(), VirtualAddressError>;
    /// Has the neighbours on `link` send frames for `address` to this machine.
    fn announce(&self, link: &str, address: IpAddr) -> Result<(), VirtualAddressError>;
    /// Takes `address` away from whichever link has it; whether one had it.
    fn remove(&self, address: IpAddr) -> Result<bool, VirtualAddressError>;
    /// The MAC of another machine on `link` that answers for `address` within `timeout`. IPv4 only: of an IPv6 address it
    /// is never known.
    fn owner(
        &self,
        link: &str,
        address: IpAddr,
        timeout: Duration,
    ) -> Result<Option<String>, VirtualAddressError>;
}

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl VirtualAddressError {
    /// `source` kept `address` from being `verb` (`put on`, `announced on`) `link`.
    pub fn new(verb: &'static str, address: IpAddr, link: &str, source: io::Error) -> Self {
        Self { verb, address, link: link.to_owned(), source }
    }
}

fn failed(verb: &'static str, address: IpAddr, link: &str) -> impl FnOnce(io::Error) -> VirtualAddressError {
    let link = link.to_owned();
    move |source| VirtualAddressError::new(verb, address, &link, source)
}

impl VirtualAddresses for Kernel {
    fn hold(&self, link: &str, address: IpAddr, lifetime: Duration) -> Result<(), VirtualAddressError> {
        netlink::put(link, address, lifetime).map_err(failed("put on", address, link))
    }

    fn announce(&self, link: &str, address: IpAddr) -> Result<(), VirtualAddressError> {
        let send = || {
            let (socket, ours) = arp::open(link)?;
            for frame in frames::announcements(ours, address) {
                socket::send(socket.as_raw_fd(), &frame, MsgFlags::empty())?;
            }
            Ok(())
        };
        send().map_err(failed("announced on", address, link))
    }

    fn remove(&self, address: IpAddr) -> Result<bool, VirtualAddressError> {
        let links = netlink::links_with(address).map_err(failed("looked for on", address, "the links"))?;
        let mut removed = false;
        for link in links {
            removed |= netlink::remove(&link, address).map_err(failed("removed from", address, &link))?;
        }
        Ok(removed)
    }

    fn owner(
        &self,
        link: &str,
        address: IpAddr,
        timeout: Duration,
    ) -> Result<Option<String>, VirtualAddressError> {
        match address {
            IpAddr::V4(v4) => {
                arp::owner(link, v4, timeout).map_err(failed("looked for by ARP on", address, link))
            }
            IpAddr::V6(_) => Ok(None),
        }
    }
}
