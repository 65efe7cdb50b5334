//! The node's files for networkd and udev, as [`sheaf_links::networkd`] renders them.
//!
//! Route in: links and the NICs found. Route out: names and texts for [`FOLDER`]; the MTUs and MACs that stand in them.

use sheaf_links::networkd::{Purpose, devices, render};
use sheaf_links::{FoundNic, Links};
use std::collections::BTreeMap;

/// Where networkd and udev read what lives until the next boot.
pub const FOLDER: &str = "/run/systemd/network";

/// Part of the name of every file that is ours.
pub const MARK: &str = "-sheaf-";

/// The name of a file: devices before the NICs that are in them, and before systemd's 99-default.link, since udev takes
/// the first that matches.
fn name(is_nic: bool, name: &str) -> String {
    format!("{}{MARK}{name}", if is_nic { 30 } else { 20 })
}

/// The name of the file by which networkd makes `device`.
pub fn netdev(device: &str) -> String {
    name(false, &format!("{device}.netdev"))
}

/// Names and texts. `usual` is the MAC of the NIC taken at an earlier boot.
pub fn files(links: &Links, found_nics: &[FoundNic], usual: Option<&str>) -> Vec<(String, String)> {
    let units = render(links, found_nics, usual, Purpose::Node);
    units.into_iter().map(|unit| (name(unit.is_nic, &unit.name), unit.text)).collect()
}

/// What each link is given, by the kernel's name of it: its MTU, none leaves what is usual; its MAC, none leaves the
/// kernel's.
pub fn given(
    links: &Links,
    found_nics: &[FoundNic],
    usual: Option<&str>,
) -> BTreeMap<String, (Option<u32>, Option<String>)> {
    let devices = devices(links, found_nics, usual);
    let named = |name: &str| name.to_owned();
    let given = devices.iter().filter_map(|device| {
        Some((device.kernel_name(found_nics).map(named)?, (device.mtu, device.mac.clone())))
    });
    given.collect()
}
