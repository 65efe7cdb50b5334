//! Names of network interfaces, MACs.
//!
//! Route in: a text. Route out: a name that the kernel takes, or a MAC in small letters with colons.

use super::quoted;
use crate::node::VlanRange;
use crate::spanned::{Wrong, wrong};
use std::ops::RangeInclusive;

/// Numbers that a VLAN can have (IEEE 802.1Q): 0 means none, 4095 is reserved.
pub const VLAN_IDS: RangeInclusive<u16> = 1..=4094;

/// Longest name of a network interface, in bytes: the kernel's IFNAMSIZ less its final zero.
const INTERFACE: usize = 15;

/// Name of a network interface.
pub fn interface(text: &str) -> Result<String, Wrong> {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = (1..=INTERFACE).contains(&text.len())
        && text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    if !good {
        let rule = "write 1 to 15 letters, digits, '-', '_' or '.', a letter first and no sign last";
        return wrong(format!("{} is not an interface name", quoted(text)), rule);
    }
    // The kernel keeps these for itself, in /proc/sys/net/*/conf and for the loopback.
    if ["lo", "all", "default"].contains(&text) {
        return wrong(format!("\"{text}\" is a name of the kernel's own"), "write another, \"br0\"");
    }
    // For VMs with `masquerade`; the image brings it.
    if text == "masq0" {
        return wrong(format!("\"{text}\" is the node's own bridge for VMs"), "write another, \"br0\"");
    }
    Ok(text.to_owned())
}

/// A NIC: its permanent MAC, in small letters, or its kernel name.
pub fn port(text: &str) -> Result<String, Wrong> {
    let lower = text.to_lowercase();
    let bytes: Vec<_> = lower.split([':', '-', '.']).collect();
    let is_byte = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    if bytes.len() == 6 && bytes.iter().all(is_byte) {
        let mac = bytes.join(":");
        if mac != lower {
            return wrong(format!("\"{text}\" is not how a MAC is written here"), format!("write \"{mac}\""));
        }
        let first = u8::from_str_radix(bytes[0], 16).unwrap_or_default();
        if first & 1 == 1 || mac == "00:00:00:00:00:00" {
            return wrong(
                format!("\"{text}\" is not a MAC that a NIC can have"),
                "see `ip link` on the machine",
            );
        }
        return Ok(mac);
    }
    if text.contains(':') {
        return wrong(format!("{} is not a MAC", quoted(text)), "write six bytes, \"52:54:00:12:34:56\"");
    }
    interface(text).or_else(|_| {
        let rule = "write its MAC, \"52:54:00:12:34:56\", or its name, \"enp1s0\"";
        wrong(format!("{} is not a NIC", quoted(text)), rule)
    })
}

/// The MAC that a NIC was made with.
pub fn mac(text: &str) -> Result<String, Wrong> {
    match port(text) {
        Ok(mac) if mac.contains(':') => Ok(mac),
        Ok(_) => wrong(format!("{} is not a MAC", quoted(text)), "write six bytes, \"52:54:00:12:34:56\""),
        Err(wrong) => Err(wrong),
    }
}

/// A NIC's place on its bus, udev's `ID_PATH`.
pub fn nic_path(text: &str) -> Result<String, Wrong> {
    let known = ["pci-", "platform-", "virtio-", "acpi-", "usb-", "vmbus-", "ccw-"];
    let inner = |c: char| c.is_ascii_alphanumeric() || ":.-_".contains(c);
    if known.iter().any(|bus| text.len() > bus.len() && text.starts_with(bus)) && text.chars().all(inner) {
        return Ok(text.to_owned());
    }
    let remedy = "write ID_PATH of `udevadm info /sys/class/net/NAME`, \"pci-0000:01:00.0\"";
    wrong(format!("{} is not the place of a NIC", quoted(text)), remedy)
}

/// A VLAN, or the first and last of several.
pub fn vlan_range(text: &str) -> Result<VlanRange, Wrong> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (vlan_id(first), vlan_id(last)) {
        (Some(first), Some(last)) if first <= last => Ok(VlanRange { first, last }),
        (Some(first), Some(last)) => {
            wrong(format!("{} ends before it begins", quoted(text)), format!("write \"{last}-{first}\""))
        }
        _ => wrong(format!("{} is no VLAN", quoted(text)), "write \"10\" or \"100-199\", from 1 to 4094"),
    }
}

fn vlan_id(text: &str) -> Option<u16> {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|id| is_plain && VLAN_IDS.contains(id))
}
