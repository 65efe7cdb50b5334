//! `[network]`: servers, proxy, authorities, and the links with their addresses.
//!
//! Route in: the table. Route out: [`Network`] whose links form a tree ([`rules`]), whose addresses can be used
//! ([`reach`]), and by which the node gets an address.

mod addressing;
mod links;
mod reach;
mod rules;

use super::{ELSEWHERE, each_once, plain, values};
use crate::node::{Cidr, Network, Proxy};
use crate::spanned::{At, Table};
use crate::syntax;

/// What was read, with the places that rules outside need.
pub(super) struct Read {
    pub config: Network,
    pub addresses: Vec<At<Cidr>>,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Read> {
    let (report, place) = (table.report(), table.at());
    let dns = table.optional("dns", |value| value.texts(syntax::server_address)).unwrap_or_default();
    let search = table.optional("search", |value| value.texts(syntax::domain)).unwrap_or_default();
    let ntp = table.optional("ntp", |value| value.texts(syntax::host)).unwrap_or_default();
    let proxy = table.optional("proxy", |value| proxy(value.table()?));
    let authorities =
        table.optional("ca-certificates", |value| value.texts(syntax::certificates)).unwrap_or_default();
    let mut links = Vec::new();
    let nics = table.optional("nic", |value| links::all(value, links::nic, &mut links));
    let bonds = table.optional("bond", |value| links::all(value, links::bond, &mut links));
    let vlans = table.optional("vlan", |value| links::all(value, links::vlan, &mut links));
    let bridges = table.optional("bridge", |value| links::all(value, links::bridge, &mut links));
    let places = ["nic", "bond", "vlan", "bridge"].map(|key| table.place(key));
    table.finish(ELSEWHERE);
    each_once(report, &dns, Clone::clone);
    each_once(report, &search, Clone::clone);
    each_once(report, &ntp, |host| host.to_lowercase());
    each_once(report, &authorities, Clone::clone);
    let read = [nics.is_some(), bonds.is_some(), vlans.is_some(), bridges.is_some()];
    if places.iter().zip(read).any(|(place, read)| place.is_some() && !read) {
        return None; // some link could not be read and was reported: rules about the others would mislead
    }
    for place in places.iter().flatten().filter(|place| !links.iter().any(|link| link.is_in(place))) {
        place.wrong(report, "is empty", "remove the key: without links the node makes br0 over its only NIC");
    }
    rules::check(report, &links);
    reach::check(report, &place, &links);
    let mut config = Network {
        dns: values(dns),
        search: values(search),
        ntp: values(ntp),
        proxy,
        ca_certificates: values(authorities),
        ..if links.is_empty() { Network::default() } else { Network::without_links() }
    };
    if !links.is_empty() {
        config.nics = nics.unwrap_or_default();
        config.bonds = bonds.unwrap_or_default();
        config.vlans = vlans.unwrap_or_default();
        config.bridges = bridges.unwrap_or_default();
    }
    let addresses = links.iter().flat_map(|link| link.addressing.addresses.clone()).collect();
    Some(Read { config, addresses })
}

fn proxy(mut table: Table<'_, '_>) -> Option<Proxy> {
    let (report, place) = (table.report(), table.at());
    let http = table.optional("http", |value| value.text(syntax::proxy));
    let https = table.optional("https", |value| value.text(syntax::proxy));
    let no_proxy = table.optional("no-proxy", |value| value.texts(syntax::no_proxy)).unwrap_or_default();
    let is_empty = table.place("http").is_none() && table.place("https").is_none();
    table.finish(ELSEWHERE);
    if is_empty {
        place.wrong(report, "names no proxy", "add http or https, or remove the table");
    }
    each_once(report, &no_proxy, |host| host.to_lowercase());
    Some(Proxy { http: plain(http), https: plain(https), no_proxy: values(no_proxy) })
}
