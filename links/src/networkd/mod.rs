//! Links to the files by which systemd-networkd and udev make them.
//!
//! Why here: the installer tries the very network that the node will have; one renderer writes both, and the differences
//! are the arms of [`Purpose`]. Pure. [`device`] makes the tree of devices, [`mod@render`] gives each its settings with the
//! reason, [`mod@unit`] is the text format. Route in: [`Links`] and the NICs found. Route out: [`Unit`]s.

mod device;
mod render;
mod unit;

#[cfg(test)]
mod tests;

pub use device::{Address, Device, Role, What, devices};

use crate::{FoundNic, Links};
use std::net::IpAddr;

/// What the files are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// The node itself, from boot to shutdown.
    Node,
    /// The installer's trial. The same but for: name servers and search domains stand here, since the initrd has no
    /// resolved with a file of its own; addresses of the node come only once nobody else was found to have them; NICs that
    /// the config does not use lose what the installer's boot gave them.
    Preflight {
        /// Set the addresses, gateways and routes of the config.
        static_addresses: bool,
        /// `network.dns`.
        dns: &'a [IpAddr],
        /// `network.search`.
        search: &'a [String],
    },
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name without the prefix of its writer: `br0.netdev`, `br0-port0.network`.
    pub name: String,
    /// Whether it is about a NIC, and not about a device that networkd makes.
    pub is_nic: bool,
    /// What it holds.
    pub text: String,
}

/// All files for `links` on a machine with `found_nics`. `usual` is the MAC of the NIC taken at an earlier boot.
pub fn render(
    links: &Links,
    found_nics: &[FoundNic],
    usual: Option<&str>,
    purpose: Purpose<'_>,
) -> Vec<Unit> {
    let devices = devices(links, found_nics, usual);
    let mut units: Vec<Unit> = devices.iter().flat_map(|device| render::device(device, purpose)).collect();
    if let Purpose::Preflight { .. } = purpose {
        let is_used = |found_nic: &&FoundNic| {
            devices.iter().any(|device| device.kernel_name(found_nics) == Some(&found_nic.name))
        };
        units.extend(found_nics.iter().filter(|found_nic| !is_used(found_nic)).map(render::unused));
    }
    units
}
