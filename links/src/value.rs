//! What a single value may look like: names of interfaces, MACs, addresses, networks, numbers.
//!
//! Why here: node.toml and policies refuse the same value in the same words. Each check is pure. Route in: a text or a
//! number. Route out: the value, or [`Wrong`]: what is wrong and what to write instead.

use crate::VlanRange;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Why a value is refused, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub String, pub String);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.0, self.1)
    }
}

/// Builds a [`Wrong`].
pub fn wrong<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong(what.into(), remedy.into()))
}

/// `text` in quotes, shortened and with its control characters shown: what an error may print.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 60; // characters: the rest of a line that names file, key and remedy
    let short: String = text.chars().take(SHOWN).collect();
    let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    format!("\"{}{more}\"", short.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

/// Numbers that a VLAN can have (IEEE 802.1Q): 0 means none, 4095 is reserved.
pub const VLAN_IDS: RangeInclusive<u16> = 1..=4094;
/// Bytes of a packet: the least that IPv6 requires (RFC 8200), and the most that common switches carry.
const MTU: RangeInclusive<i64> = 1280..=9216;
/// Milliseconds between checks of a bond's cables: below, the kernel does nothing else; above, VMs notice.
const MIIMON: RangeInclusive<i64> = 10..=10_000;

fn number(number: i64, range: &RangeInclusive<i64>, what: &str) -> Result<u32, Wrong> {
    match u32::try_from(number) {
        Ok(good) if range.contains(&number) => Ok(good),
        _ => wrong(format!("{number} {what}"), format!("write {} to {}", range.start(), range.end())),
    }
}

/// Largest packet in bytes.
pub fn mtu(bytes: i64) -> Result<u32, Wrong> {
    number(bytes, &MTU, "bytes is not possible")
}

/// Milliseconds between checks of a bond's cables.
pub fn miimon(milliseconds: i64) -> Result<u32, Wrong> {
    number(milliseconds, &MIIMON, "milliseconds between checks are not possible")
}

/// Number of a VLAN.
pub fn vlan_id(id: i64) -> Result<u16, Wrong> {
    match u16::try_from(id) {
        Ok(good) if VLAN_IDS.contains(&good) => Ok(good),
        _ => {
            wrong(format!("{id} is not a VLAN"), format!("write {} to {}", VLAN_IDS.start(), VLAN_IDS.end()))
        }
    }
}

/// Metric of a route.
pub fn metric(metric: i64) -> Result<u32, Wrong> {
    match u32::try_from(metric) {
        Ok(good) if good > 0 => Ok(good),
        _ => wrong(format!("{metric} is not a metric"), "write 1 to 4294967295"),
    }
}

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
        let rule = "write 1 to 15 letters, digits, '-', '_' or '.', beginning with a letter and ending with a letter or digit";
        return wrong(format!("{} is not an interface name", quoted(text)), rule);
    }
    // The kernel keeps these for itself, in /proc/sys/net/*/conf and for the loopback.
    if ["lo", "all", "default"].contains(&text) {
        return wrong(format!("\"{text}\" is reserved by the kernel"), "write another, \"br0\"");
    }
    // For VMs with `masquerade`; the image brings it.
    if text == "masq0" {
        return wrong(format!("\"{text}\" is reserved for the node's own bridge"), "write another, \"br0\"");
    }
    Ok(text.to_owned())
}

/// A NIC: its permanent MAC, in lowercase letters, or its kernel name.
pub fn port(text: &str) -> Result<String, Wrong> {
    let lower = text.to_lowercase();
    let bytes: Vec<_> = lower.split([':', '-', '.']).collect();
    let is_byte = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    if bytes.len() == 6 && bytes.iter().all(is_byte) {
        let mac = bytes.join(":");
        if mac != lower {
            return wrong(format!("\"{text}\" is not a MAC in this notation"), format!("write \"{mac}\""));
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
    match (id_text(first), id_text(last)) {
        (Some(first), Some(last)) if first <= last => Ok(VlanRange { first, last }),
        (Some(first), Some(last)) => {
            wrong(format!("{} ends before it begins", quoted(text)), format!("write \"{last}-{first}\""))
        }
        _ => wrong(format!("{} is not a VLAN", quoted(text)), "write \"10\" or \"100-199\", from 1 to 4094"),
    }
}

fn id_text(text: &str) -> Option<u16> {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|id| is_plain && VLAN_IDS.contains(id))
}

/// An address without prefix length.
pub fn address(text: &str) -> Result<IpAddr, Wrong> {
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) if text.contains('/') => {
            wrong(format!("{} has a prefix length", quoted(text)), "write only the address")
        }
        Err(_) => {
            wrong(format!("{} is not an address", quoted(text)), "write \"192.0.2.1\" or \"2001:db8::1\"")
        }
    }
}

/// An address with prefix length, any bits.
pub fn cidr(text: &str) -> Result<IpNet, Wrong> {
    let Some((ip, prefix)) = text.split_once('/') else {
        return match text.parse::<IpAddr>() {
            Ok(ip) => {
                let usual = if ip.is_ipv4() { 24 } else { 64 };
                wrong(
                    format!("\"{text}\" has no prefix length"),
                    format!("write it with one, \"{text}/{usual}\""),
                )
            }
            Err(_) => wrong(format!("{} is not an address", quoted(text)), "write \"192.0.2.10/24\""),
        };
    };
    let Ok(ip) = ip.parse::<IpAddr>() else {
        return wrong(format!("{} is not an address", quoted(text)), "write \"192.0.2.10/24\"");
    };
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    match prefix
        .parse::<u8>()
        .ok()
        .filter(|prefix| *prefix > 0)
        .and_then(|prefix| IpNet::new(ip, prefix).ok())
    {
        Some(net) => Ok(net),
        None => wrong(
            format!("{} has no valid prefix length", quoted(text)),
            format!("write one of 1 to {longest}"),
        ),
    }
}

/// An address, with its prefix length, that a host can have.
pub fn host_cidr(text: &str) -> Result<IpNet, Wrong> {
    host(cidr(text)?)
}

/// Whether a host can have the address.
pub fn host(net: IpNet) -> Result<IpNet, Wrong> {
    let (ip, refuse) =
        (net.addr(), |what: &str| wrong(format!("\"{net}\" {what}"), "write the address of this node"));
    if net.prefix_len() == 0 || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        return refuse("is not an address that a host can have");
    }
    // /31, /32, /127 and /128 have no network and broadcast address.
    if ip.is_ipv4() && net.prefix_len() < 31 {
        if ip == net.network() {
            return refuse("is the network itself");
        }
        if ip == net.broadcast() {
            return refuse("is the network's broadcast address");
        }
    }
    Ok(net)
}

/// A network: no bit behind the prefix is set.
pub fn network(text: &str) -> Result<IpNet, Wrong> {
    is_network(cidr(text)?)
}

fn is_network(net: IpNet) -> Result<IpNet, Wrong> {
    match net == net.trunc() {
        true => Ok(net),
        false => {
            wrong(format!("\"{net}\" is a host's address"), format!("write the network, \"{}\"", net.trunc()))
        }
    }
}

/// Whether the two networks share an address.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// An IPv4 address.
pub fn ipv4(text: &str) -> Result<Ipv4Addr, Wrong> {
    match address(text)? {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => {
            wrong(format!("\"{text}\" is an IPv6 address"), format!("write gateway6 = \"{text}\""))
        }
    }
}

/// An IPv6 address.
pub fn ipv6(text: &str) -> Result<Ipv6Addr, Wrong> {
    match address(text)? {
        IpAddr::V6(ip) => Ok(ip),
        IpAddr::V4(_) => {
            wrong(format!("\"{text}\" is an IPv4 address"), format!("write gateway = \"{text}\""))
        }
    }
}

/// The address of a server that is asked over the network.
pub fn server_address(text: &str) -> Result<IpAddr, Wrong> {
    let ip = address(text)?;
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return wrong(format!("\"{text}\" is not the address of a server"), "write the server's own");
    }
    Ok(ip)
}

/// The network a route leads to.
pub fn destination(text: &str) -> Result<IpNet, Wrong> {
    match text == "default" || text.ends_with("/0") {
        true => default_route(text),
        false => network(text),
    }
}

/// Whether a route can lead to the network.
pub fn leads_to(net: IpNet) -> Result<IpNet, Wrong> {
    if net.prefix_len() == 0 { default_route(&net.to_string()) } else { is_network(net) }
}

fn default_route<T>(text: &str) -> Result<T, Wrong> {
    let what = format!("{} is the default route", quoted(text));
    wrong(what, "write its router as gateway or gateway6 of the link")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_and_control_characters_are_shown() {
        assert_eq!(quoted("a\u{1b}[2J"), "\"a\\u{1b}[2J\"");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 63);
    }

    #[test]
    fn network_and_broadcast_addresses_are_no_hosts_but_short_networks_have_none() {
        assert!(host_cidr("192.0.2.0/24").is_err());
        assert!(host_cidr("192.0.2.255/24").is_err());
        assert!(host_cidr("192.0.2.0/31").is_ok());
        assert!(host_cidr("2001:db8::1/64").is_ok());
    }

    #[test]
    fn networks_that_share_an_address_overlap() {
        let net = |text: &str| cidr(text).unwrap();
        assert!(
            overlap(&net("10.0.0.0/8"), &net("10.96.0.0/16"))
                && overlap(&net("10.96.0.1/16"), &net("10.0.0.0/8"))
        );
        assert!(!overlap(&net("192.0.2.0/25"), &net("192.0.2.128/25")));
        assert!(!overlap(&net("192.0.2.0/25"), &net("2001:db8::/32")));
    }
}
