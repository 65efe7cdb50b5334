//! Addresses and networks.
//!
//! Route in: a text. Route out: an address, or a [`Cidr`] of which the caller says whether it is a host or a network.

use super::quoted;
use crate::node::Cidr;
use crate::spanned::{Wrong, wrong};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address without prefix length.
pub fn address(text: &str) -> Result<IpAddr, Wrong> {
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) if text.contains('/') => {
            wrong(format!("{} has a prefix length", quoted(text)), "write the address alone")
        }
        Err(_) => {
            wrong(format!("{} is not an address", quoted(text)), "write \"192.0.2.1\" or \"2001:db8::1\"")
        }
    }
}

/// An address with prefix length, any bits.
pub fn cidr(text: &str) -> Result<Cidr, Wrong> {
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
    match prefix.parse::<u8>() {
        Ok(prefix) if (1..=longest).contains(&prefix) => Ok(Cidr { ip, prefix }),
        _ => wrong(
            format!("{} has no valid prefix length", quoted(text)),
            format!("write one of 1 to {longest}"),
        ),
    }
}

/// An address, with its prefix length, that a host can have.
pub fn host_cidr(text: &str) -> Result<Cidr, Wrong> {
    let cidr = cidr(text)?;
    let refuse = |what: &str| wrong(format!("\"{text}\" {what}"), "write the address of this node");
    if cidr.ip.is_unspecified() || cidr.ip.is_loopback() || cidr.ip.is_multicast() {
        return refuse("is not an address that a host can have");
    }
    // /31, /32, /127 and /128 have no network and broadcast address.
    if cidr.ip.is_ipv4() && cidr.prefix < 31 {
        if cidr.ip == cidr.first() {
            return refuse("is the network itself");
        }
        if cidr.ip == cidr.last() {
            return refuse("is the network's broadcast address");
        }
    }
    Ok(cidr)
}

/// A network: no bit behind the prefix is set.
pub fn network(text: &str) -> Result<Cidr, Wrong> {
    let cidr = cidr(text)?;
    if cidr.ip != cidr.first() {
        let network = Cidr { ip: cidr.first(), prefix: cidr.prefix };
        return wrong(format!("\"{text}\" is a host's address"), format!("write the network, \"{network}\""));
    }
    Ok(cidr)
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
pub fn destination(text: &str) -> Result<Cidr, Wrong> {
    if text.ends_with("/0") || text == "default" {
        let what = format!("{} is the default route", quoted(text));
        return wrong(what, "write its router as gateway or gateway6 of the link");
    }
    network(text)
}
