//! News of block devices: what udev says once it knows a disk that came, changed or left.
//!
//! Why here: a netlink socket is an effect. Route in: nothing. Route out: [`Watch`]; what the devices are is looked up
//! afterwards ([`crate::block`]), so that lost or doubled news do no harm. Devices that the device mapper makes are no
//! news: anyone who makes volumes would wake himself.

use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram as StdDatagram;
use tokio::net::UnixDatagram;

pub use crate::links::Watch;

/// What udev has finished with; group 1 is the kernel's, before any rule ran.
const UDEV_GROUP: u32 = 2;
/// Longest message: udev's own limit.
const MESSAGE: usize = 8192;
/// What every message of udev begins with; its properties follow a header.
const PREFIX: &[u8] = b"libudev\0";

/// Something that knows of block devices: [`Udev`], or [`crate::fakes::FakeBlockNews`] in tests.
pub trait BlockNews: Send + Sync {
    /// News from now on.
    fn watch(&self) -> io::Result<Box<dyn Watch>>;
}

/// The node's udev.
#[derive(Clone, Copy, Debug, Default)]
pub struct Udev;

impl BlockNews for Udev {
    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let uevents = SockProtocol::NetlinkKObjectUEvent;
        let socket = nix::sys::socket::socket(AddressFamily::Netlink, SockType::Raw, flags, uevents)?;
        nix::sys::socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, UDEV_GROUP))?;
        // Tokio has no netlink socket; one that passes datagrams is read like any other.
        Ok(Box::new(News(UnixDatagram::from_std(StdDatagram::from(socket))?)))
    }
}

struct News(UnixDatagram);

impl Watch for News {
    fn changed<'a>(&'a mut self) -> std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>> {
        Box::pin(async move {
            let mut buffer = [0; MESSAGE];
            let mut any = false;
            loop {
                match self.0.try_recv(&mut buffer) {
                    Ok(length) => any |= concerns_a_disk(&buffer[..length]),
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

/// Whether udev's message is about a disk or a partition of one.
fn concerns_a_disk(message: &[u8]) -> bool {
    // Header: prefix, magic, its own length, where the properties begin, how long they are; host byte order.
    let field = |at: usize| message.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let Some(start) = field(PREFIX.len() + 8) else { return false };
    let Some(properties) = message.get(start as usize..).filter(|_| message.starts_with(PREFIX)) else {
        return false;
    };
    let mut is_block = false;
    for property in properties.split(|byte| *byte == 0) {
        match property {
            b"SUBSYSTEM=block" => is_block = true,
            _ if property.starts_with(b"DEVNAME=/dev/dm-") || property.starts_with(b"DEVNAME=/dev/loop") => {
                return false;
            }
            _ => {}
        }
    }
    is_block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as udev sends it.
    fn message(properties: &str) -> Vec<u8> {
        let mut message = PREFIX.to_vec();
        message.extend(0xfeed_cafe_u32.to_be_bytes());
        for number in [40u32, 40, properties.len() as u32, 0, 0, 0, 0] {
            message.extend(number.to_ne_bytes());
        }
        message.extend(properties.replace(' ', "\0").bytes());
        message
    }

    #[test]
    fn disks_and_partitions_are_news_and_mapped_volumes_network_nics_and_noise_are_not() {
        assert!(concerns_a_disk(&message("ACTION=add SUBSYSTEM=block DEVNAME=/dev/sdb DEVTYPE=disk ")));
        assert!(concerns_a_disk(&message("ACTION=remove DEVNAME=/dev/nvme0n1p2 SUBSYSTEM=block ")));
        assert!(!concerns_a_disk(&message("ACTION=change SUBSYSTEM=block DEVNAME=/dev/dm-3 ")));
        assert!(!concerns_a_disk(&message("ACTION=add SUBSYSTEM=net INTERFACE=tap0 ")));
        assert!(!concerns_a_disk(b"add@/devices/x\0SUBSYSTEM=block\0"));
        assert!(!concerns_a_disk(b"libudev\0"));
    }

    #[tokio::test]
    async fn silence_is_no_news() {
        let Ok(mut news) = Udev.watch() else { return }; // a machine without such sockets
        let moment = std::time::Duration::from_millis(20);
        assert!(!matches!(tokio::time::timeout(moment, news.changed()).await, Ok(Err(_))));
    }
}
