//! `[network]`: name and time servers, bridges with their NICs and addresses.
//!
//! Route in: the table. Route out: [`Network`] in which no two bridges share a name, NIC or address, and by which
//! the node gets an address.

use super::{ELSEWHERE, plain};
use crate::diagnose::Report;
use crate::node::{Bridge, Cidr, Network};
use crate::spanned::{At, Table};
use crate::syntax;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Bytes: the least that IPv6 requires (RFC 8200), and the most that common switches carry.
const MTU: RangeInclusive<i64> = 1280..=9216;

/// What was read, with the places that rules outside need.
pub(super) struct Read {
    pub config: Network,
    pub addresses: Vec<At<Cidr>>,
}

/// A bridge with the places of its values.
struct BridgeAt {
    place: At<()>,
    name: At<String>,
    ports: Vec<At<String>>,
    dhcp: Option<At<bool>>,
    addresses: Vec<At<Cidr>>,
    gateway: Option<At<IpAddr>>,
    mtu: Option<u32>,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Read> {
    let report = table.report();
    let dns = table.optional("dns", |value| value.texts(syntax::address)).unwrap_or_default();
    let ntp = table.optional("ntp", |value| value.texts(syntax::host)).unwrap_or_default();
    let bridges = table.optional("bridge", |value| {
        let bridges: Vec<_> = value.tables()?.into_iter().map(bridge).collect();
        bridges.into_iter().collect::<Option<Vec<_>>>()
    });
    let has_bridges = table.place("bridge");
    table.finish(ELSEWHERE);
    if has_bridges.is_some() && bridges.is_none() {
        return None; // some bridge could not be read and was reported
    }
    let bridges = bridges.unwrap_or_default();
    if let (Some(place), true) = (&has_bridges, bridges.is_empty()) {
        place.wrong(report, "is empty", "remove the key: without it the node makes br0 over its only NIC");
    }
    names_are_unique(report, &bridges);
    nics_are_in_one_bridge(report, &bridges);
    addresses_are_unique(report, &bridges);
    gateways_are_reachable(report, &bridges);
    the_node_gets_an_address(report, &bridges);
    let addresses = bridges.iter().flat_map(|bridge| bridge.addresses.clone()).collect();
    let config = Network {
        dns: dns.into_iter().map(|at| at.value).collect(),
        ntp: ntp.into_iter().map(|at| at.value).collect(),
        bridges: match has_bridges {
            Some(_) => bridges.into_iter().map(BridgeAt::plain).collect(),
            None => Network::default().bridges,
        },
    };
    Some(Read { config, addresses })
}

impl BridgeAt {
    fn plain(self) -> Bridge {
        Bridge {
            name: self.name.value,
            ports: self.ports.into_iter().map(|at| at.value).collect(),
            dhcp: plain(self.dhcp),
            addresses: self.addresses.into_iter().map(|at| at.value).collect(),
            gateway: plain(self.gateway),
            mtu: self.mtu,
        }
    }

    fn has_address(&self) -> bool {
        !self.addresses.is_empty() || self.dhcp.as_ref().is_none_or(|dhcp| dhcp.value)
    }
}

fn bridge(mut table: Table<'_, '_>) -> Option<BridgeAt> {
    let (report, place) = (table.report(), table.at());
    let name = table.required("name", "name = \"br0\"", |value| value.text(syntax::interface));
    let ports = table.optional("ports", |value| value.texts(syntax::port));
    let dhcp = table.optional("dhcp", |value| value.boolean());
    let addresses = table.optional("addresses", |value| value.texts(syntax::host_cidr));
    let gateway = table.optional("gateway", |value| value.text(syntax::address));
    let mtu = table.optional("mtu", |value| value.integer()).filter(|mtu| {
        let good = MTU.contains(&mtu.value);
        if !good {
            let what = format!("{} bytes is not possible", mtu.value);
            mtu.wrong(report, what, format!("write {} to {}", MTU.start(), MTU.end()));
        }
        good
    });
    // A list that could not be read is not an empty one: rules about it would mislead.
    let unread = (table.place("ports").is_some() && ports.is_none())
        || (table.place("addresses").is_some() && addresses.is_none())
        || (table.place("gateway").is_some() && gateway.is_none())
        || (table.place("dhcp").is_some() && dhcp.is_none());
    table.finish(ELSEWHERE);
    if unread {
        return None;
    }
    Some(BridgeAt {
        place,
        name: name?,
        ports: ports.unwrap_or_default(),
        dhcp,
        addresses: addresses.unwrap_or_default(),
        gateway,
        mtu: mtu.and_then(|mtu| u32::try_from(mtu.value).ok()),
    })
}

fn names_are_unique(report: &Report<'_>, bridges: &[BridgeAt]) {
    let mut seen = BTreeMap::new();
    for name in bridges.iter().map(|bridge| &bridge.name) {
        if let Some(first) = seen.insert(&name.value, report.line(name.span.start)) {
            name.wrong(
                report,
                format!("\"{}\" is already the bridge of line {first}", name.value),
                "rename one of them",
            );
        }
    }
    for port in bridges.iter().flat_map(|bridge| &bridge.ports) {
        if seen.contains_key(&port.value) {
            let remedy = "name a NIC: its MAC, or its kernel name";
            port.wrong(report, format!("\"{}\" is a bridge itself", port.value), remedy);
        }
    }
}

fn nics_are_in_one_bridge(report: &Report<'_>, bridges: &[BridgeAt]) {
    let mut owner: BTreeMap<&str, &str> = BTreeMap::new();
    for bridge in bridges {
        for port in &bridge.ports {
            let Some(first) = owner.insert(&port.value, &bridge.name.value) else { continue };
            let (what, remedy) = match first == bridge.name.value {
                true => (format!("\"{}\" stands here twice", port.value), "remove one".to_owned()),
                false => (
                    format!("\"{}\" already belongs to bridge \"{first}\"", port.value),
                    "remove it from one of them".to_owned(),
                ),
            };
            port.wrong(report, what, remedy);
        }
    }
    // "The only NIC there is" can be said once, and only when nobody else names a NIC.
    for bridge in bridges.iter().filter(|bridge| bridges.len() > 1 && bridge.ports.is_empty()) {
        let what =
            format!("bridge \"{}\" names no NIC, and there are {} bridges", bridge.name.value, bridges.len());
        let place = At { path: format!("{}.ports", bridge.place.path), ..bridge.place.clone() };
        place.wrong(report, what, "add ports = [\"<MAC or name>\"]");
    }
}

fn addresses_are_unique(report: &Report<'_>, bridges: &[BridgeAt]) {
    let mut seen = BTreeMap::new();
    for address in bridges.iter().flat_map(|bridge| &bridge.addresses) {
        if let Some(first) = seen.insert(address.value.ip, report.line(address.span.start)) {
            let what = format!("\"{}\" is already given in line {first}", address.value.ip);
            address.wrong(report, what, "remove one");
        }
    }
}

fn gateways_are_reachable(report: &Report<'_>, bridges: &[BridgeAt]) {
    let mut of_family: BTreeMap<bool, &str> = BTreeMap::new();
    for bridge in bridges {
        let Some(gateway) = &bridge.gateway else { continue };
        let ip = gateway.value;
        let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if bridge.addresses.is_empty() {
            let remedy = "add addresses, or remove it: DHCP gives the gateway";
            gateway.wrong(report, format!("\"{ip}\" is given without an address"), remedy);
        } else if bridge.addresses.iter().any(|address| address.value.ip == ip) {
            gateway.wrong(report, format!("\"{ip}\" is the node's own address"), "write the router's");
        } else if !is_link_local && !bridge.addresses.iter().any(|address| address.value.contains(ip)) {
            let networks: Vec<_> = bridge
                .addresses
                .iter()
                .map(|at| Cidr { ip: at.value.first(), ..at.value }.to_string())
                .collect();
            let what = format!("\"{ip}\" is in none of the bridge's networks ({})", networks.join(", "));
            gateway.wrong(report, what, "write a router in one of them");
        }
        if let Some(first) = of_family.insert(ip.is_ipv4(), &bridge.name.value) {
            let what = format!("\"{ip}\" is a second default gateway, after that of bridge \"{first}\"");
            gateway.wrong(report, what, "keep one");
        }
    }
}

fn the_node_gets_an_address(report: &Report<'_>, bridges: &[BridgeAt]) {
    if bridges.iter().any(BridgeAt::has_address) {
        return;
    }
    for dhcp in bridges.iter().filter_map(|bridge| bridge.dhcp.as_ref()) {
        let remedy = "add addresses here or on another bridge, or allow DHCP";
        dhcp.wrong(report, "is false, and no bridge gives the node an address", remedy);
    }
}
