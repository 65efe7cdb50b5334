//! Rules about addresses: each is given once, gateways and routers can be reached, and the node gets one.
//!
//! Route in: every link with its places. Route out: problems.

use super::addressing::RouteAt;
use super::links::{Kind, LinkAt};
use crate::diagnose::Report;
use crate::node::{Cidr, Ipv6};
use crate::spanned::At;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) fn check(report: &Report<'_>, network: &At<()>, links: &[LinkAt]) {
    addresses_are_unique(report, links);
    networks_are_on_one_link(report, links);
    gateways_are_reachable(report, links);
    for link in links {
        ipv6_is_said_once(report, link);
        for (index, route) in link.addressing.routes.iter().enumerate() {
            let earlier = &link.addressing.routes[..index];
            a_route_leads_somewhere(report, link, route, earlier);
        }
        a_link_is_of_use(report, links, link);
    }
    the_node_gets_an_address(report, network, links);
}

fn addresses_are_unique(report: &Report<'_>, links: &[LinkAt]) {
    let mut seen = BTreeMap::new();
    for address in links.iter().flat_map(|link| &link.addressing.addresses) {
        if let Some(first) = seen.insert(address.value.ip, report.line(address.span.start)) {
            let what = format!("\"{}\" is already given in line {first}", address.value.ip);
            address.wrong(report, what, "remove one");
        }
    }
}

/// Two links in one network answer for each other, and half of the packets take the wrong one.
fn networks_are_on_one_link(report: &Report<'_>, links: &[LinkAt]) {
    for (index, link) in links.iter().enumerate() {
        for address in &link.addressing.addresses {
            let mut others = links[..index]
                .iter()
                .flat_map(|other| other.addressing.addresses.iter().map(move |at| (other, at)));
            let other =
                others.find(|(_, at)| at.value.overlaps(address.value) && at.value.ip != address.value.ip);
            if let Some((other, at)) = other {
                let line = report.line(at.span.start);
                let what = format!(
                    "\"{}\" is in the network of {} \"{}\" in line {line}",
                    address.value,
                    other.kind.word(),
                    other.name.value
                );
                address.wrong(report, what, "give each link a network of its own");
            }
        }
    }
}

fn gateways_are_reachable(report: &Report<'_>, links: &[LinkAt]) {
    let mut of_family: BTreeMap<bool, &LinkAt> = BTreeMap::new();
    for link in links {
        let ipv4 = link.addressing.gateway.clone().map(|at| at.map(IpAddr::V4));
        let ipv6 = link.addressing.gateway6.clone().map(|at| at.map(IpAddr::V6));
        for gateway in [ipv4, ipv6].into_iter().flatten() {
            reachable(report, link, &gateway, "DHCP gives the gateway");
            if let Some(first) = of_family.insert(gateway.value.is_ipv4(), link) {
                let (kind, name) = (first.kind.word(), &first.name.value);
                let what = format!(
                    "\"{}\" is a second default gateway, after that of {kind} \"{name}\"",
                    gateway.value
                );
                gateway.wrong(report, what, "keep one");
            }
        }
    }
}

/// Whether the router at `at` is in a network of `link`.
fn reachable(report: &Report<'_>, link: &LinkAt, at: &At<IpAddr>, without: &str) {
    let ip = at.value;
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let addresses = &link.addressing.addresses;
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        at.wrong(report, format!("\"{ip}\" is not an address that a router can have"), "write the router's");
    } else if addresses.is_empty() {
        let remedy = format!("add addresses, or remove it: {without}");
        at.wrong(report, format!("\"{ip}\" is given without an address"), remedy);
    } else if addresses.iter().any(|address| address.value.ip == ip) {
        at.wrong(report, format!("\"{ip}\" is the node's own address"), "write the router's");
    } else if !is_link_local && !addresses.iter().any(|address| address.value.contains(ip)) {
        let network = |at: &At<Cidr>| Cidr { ip: at.value.first(), ..at.value }.to_string();
        let networks: Vec<_> = addresses.iter().map(network).collect();
        let (kind, networks) = (link.kind.word(), networks.join(", "));
        let what = format!("\"{ip}\" is in none of the {kind}'s networks ({networks})");
        at.wrong(report, what, "write a router in one of them");
    }
}

fn ipv6_is_said_once(report: &Report<'_>, link: &LinkAt) {
    let Some(mode) = &link.addressing.ipv6 else { return };
    let addressed = link.addressing.addresses.iter().any(|at| at.value.ip.is_ipv6());
    if mode.value == Ipv6::Off && (addressed || link.addressing.gateway6.is_some()) {
        let remedy = "write \"static\", or remove the addresses";
        mode.wrong(report, "is \"off\", and there are IPv6 addresses", remedy);
    }
}

fn a_route_leads_somewhere(report: &Report<'_>, link: &LinkAt, route: &RouteAt, earlier: &[RouteAt]) {
    let to = &route.to;
    let metric = |route: &RouteAt| route.metric.as_ref().map(|at| at.value);
    let same = |other: &&RouteAt| other.to.value == to.value && metric(other) == metric(route);
    if let Some(first) = earlier.iter().find(same) {
        let line = report.line(first.to.span.start);
        to.wrong(
            report,
            format!("\"{}\" has a route in line {line} already", to.value),
            "keep one, or give them metrics",
        );
    }
    if link
        .addressing
        .addresses
        .iter()
        .any(|at| at.value.first() == to.value.ip && at.value.prefix == to.value.prefix)
    {
        to.wrong(report, format!("\"{}\" is the network of the link itself", to.value), "remove the route");
    }
    let Some(via) = &route.via else { return };
    if via.value.is_ipv4() != to.value.ip.is_ipv4() {
        let what = format!("\"{}\" is a router of another family than \"{}\"", via.value, to.value);
        via.wrong(report, what, "write a router of the same");
    } else if !link.uses_dhcp() {
        reachable(report, link, via, "the network is then on this link");
    }
}

/// A NIC, a bond or a VLAN that nothing stands on and that has no address does nothing: its user was forgotten.
fn a_link_is_of_use(report: &Report<'_>, links: &[LinkAt], link: &LinkAt) {
    let is_meant = |name: &str| {
        let by_mac = matches!(&link.kind, Kind::Nic { mac: Some(mac), .. } if mac.value == name);
        name == link.name.value || by_mac
    };
    let is_used = links.iter().any(|user| {
        let stands_on = matches!(&user.kind, Kind::Vlan { parent, .. } if is_meant(&parent.value));
        stands_on || user.ports.iter().any(|port| is_meant(&port.value))
    });
    if link.is_bridge() || is_used || link.has_address() {
        return;
    }
    let what = format!("nothing uses {} \"{}\", and it has no address", link.kind.word(), link.name.value);
    link.place.wrong(
        report,
        what,
        "name it in ports or parent of another link, or add addresses or dhcp = true",
    );
}

fn the_node_gets_an_address(report: &Report<'_>, network: &At<()>, links: &[LinkAt]) {
    if links.is_empty() || links.iter().any(LinkAt::has_address) {
        return;
    }
    let refused: Vec<_> = links.iter().filter_map(|link| link.addressing.dhcp.as_ref()).collect();
    for dhcp in &refused {
        let remedy = "add addresses here or on another bridge, or allow DHCP";
        dhcp.wrong(report, "is false, and no bridge gives the node an address", remedy);
    }
    if refused.is_empty() {
        network.wrong(report, "gives the node no address", "add addresses or dhcp = true to a link");
    }
}
