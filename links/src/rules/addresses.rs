//! Rules about addresses: each is given once, gateways and routers can be reached, and the node gets one.
//!
//! Route in: links whose values are good. Route out: problems.

use super::{Found, called, place};
use crate::{Ipv6, Kind, Link, LinkRef, Links, Route, value};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) fn check(links: &Links, found: &mut Found) {
    addresses_are_unique(links, found);
    networks_are_on_one_link(links, found);
    gateways_are_reachable(links, found);
    for link in links.all() {
        ipv6_is_said_once(link, found);
        for (index, route) in link.addressing().routes.iter().enumerate() {
            a_route_leads_somewhere(link, index, route, found);
        }
        a_link_is_of_use(links, link, found);
    }
    the_node_gets_an_address(links, found);
}

/// Every address with its link and its key.
fn addresses(links: &Links) -> Vec<(LinkRef<'_>, String, ipnet::IpNet)> {
    let of = |link: LinkRef<'_>| {
        let addresses = link.addressing().addresses.clone();
        addresses
            .into_iter()
            .enumerate()
            .map(|(index, net)| (format!("addresses[{index}]"), net))
            .collect::<Vec<_>>()
    };
    links.all().flat_map(|link| of(link).into_iter().map(move |(key, net)| (link, key, net))).collect()
}

fn addresses_are_unique(links: &Links, found: &mut Found) {
    let mut seen = BTreeMap::new();
    for (link, key, net) in addresses(links) {
        if let Some(first) = seen.insert(net.addr(), place(link, &key)) {
            found.with(link, &key, format!("\"{}\" is already given", net.addr()), first, "remove one");
        }
    }
}

/// Two links in one network answer for each other, and half of the packets take the wrong one.
fn networks_are_on_one_link(links: &Links, found: &mut Found) {
    let all = addresses(links);
    for (link, key, net) in &all {
        let before = all.iter().take_while(|(other, ..)| other != link);
        let shares = |(_, _, other): &&(LinkRef<'_>, String, ipnet::IpNet)| {
            value::overlap(other, net) && other.addr() != net.addr()
        };
        let mut shared = before.filter(shares);
        if let Some((other, at, _)) = shared.next() {
            let what = format!("\"{net}\" is in the network of {}", called(*other));
            found.with(*link, key, what, place(*other, at), "give each link a network of its own");
        }
    }
}

fn gateways_are_reachable(links: &Links, found: &mut Found) {
    let mut of_family: BTreeMap<bool, LinkRef<'_>> = BTreeMap::new();
    for link in links.all() {
        for gateway in link.addressing().gateways() {
            let key = if gateway.is_ipv4() { "gateway" } else { "gateway6" };
            reachable(link, key, gateway, "DHCP gives the gateway", found);
            if let Some(first) = of_family.insert(gateway.is_ipv4(), link) {
                let what =
                    format!("\"{gateway}\" is a second default gateway, after that of {}", called(first));
                found.at(link, key, what, "keep one");
            }
        }
    }
}

/// Whether the router `ip` is in a network of `link`.
fn reachable(link: LinkRef<'_>, key: &str, ip: IpAddr, without: &str, found: &mut Found) {
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let addresses = &link.addressing().addresses;
    let (what, remedy) = if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        (format!("\"{ip}\" is not an address that a router can have"), "write the router's".to_owned())
    } else if addresses.is_empty() {
        (format!("\"{ip}\" is given without an address"), format!("add addresses, or remove it: {without}"))
    } else if addresses.iter().any(|net| net.addr() == ip) {
        (format!("\"{ip}\" is the node's own address"), "write the router's".to_owned())
    } else if !is_link_local && !addresses.iter().any(|net| net.contains(&ip)) {
        let networks: Vec<_> = addresses.iter().map(|net| net.trunc().to_string()).collect();
        let (kind, networks) = (link.kind().word(), networks.join(", "));
        (
            format!("\"{ip}\" is in none of the {kind}'s networks ({networks})"),
            "write a router in one of them".to_owned(),
        )
    } else {
        return;
    };
    found.at(link, key, what, remedy);
}

fn ipv6_is_said_once(link: LinkRef<'_>, found: &mut Found) {
    let addressing = link.addressing();
    let addressed = addressing.addresses.iter().any(|net| net.addr().is_ipv6());
    if addressing.ipv6 == Some(Ipv6::Off) && (addressed || addressing.gateway6.is_some()) {
        let remedy = "write \"static\", or remove the addresses";
        found.at(link, "ipv6", "is \"off\", and there are IPv6 addresses", remedy);
    }
}

fn a_route_leads_somewhere(link: LinkRef<'_>, index: usize, route: &Route, found: &mut Found) {
    let (addressing, to) = (link.addressing(), format!("routes[{index}].to"));
    let same = |other: &Route| other.to == route.to && other.metric == route.metric;
    if let Some(first) = addressing.routes[..index].iter().position(same) {
        let first = place(link, &format!("routes[{first}].to"));
        let what = format!("\"{}\" has a route already", route.to);
        found.with(link, &to, what, first, "keep one, or give them metrics");
    }
    if addressing.addresses.iter().any(|net| net.trunc() == route.to) {
        let what = format!("\"{}\" is the network of the link itself", route.to);
        found.at(link, &to, what, "remove the route");
    }
    let (Some(via), key) = (route.via, format!("routes[{index}].via")) else { return };
    if via.is_ipv4() != route.to.addr().is_ipv4() {
        let what = format!("\"{via}\" is not of the address family of \"{}\"", route.to);
        found.at(link, &key, what, "write a router of the same family");
    } else if !link.uses_dhcp() {
        reachable(link, &key, via, "the network is then on this link", found);
    }
}

/// A NIC, a bond or a VLAN that nothing stands on and that has no address does nothing: its user was forgotten.
fn a_link_is_of_use(links: &Links, link: LinkRef<'_>, found: &mut Found) {
    let is_meant = |name: &String| {
        let by_mac = matches!(link.link, Link::Nic(nic) if nic.mac.as_ref() == Some(name));
        name == link.name() || by_mac
    };
    let is_used = links.all().any(|user| {
        let stands_on = matches!(user.link, Link::Vlan(vlan) if is_meant(&vlan.parent));
        stands_on || user.ports().iter().any(is_meant)
    });
    if link.kind() == Kind::Bridge || is_used || link.has_address() {
        return;
    }
    let what = format!("nothing uses {}, and it has no address", called(link));
    found.at(link, "", what, "name it in ports or parent of another link, or add addresses or dhcp = true");
}

fn the_node_gets_an_address(links: &Links, found: &mut Found) {
    if links.is_empty() || links.all().any(LinkRef::has_address) {
        return;
    }
    let refused: Vec<_> = links.all().filter(|link| link.addressing().dhcp.is_some()).collect();
    for link in &refused {
        let remedy = "add addresses here or on another bridge, or allow DHCP";
        found.at(*link, "dhcp", "is false, and no bridge gives the node an address", remedy);
    }
    if refused.is_empty() {
        found.add(None, "gives the node no address", "add addresses or dhcp = true to a link");
    }
}
