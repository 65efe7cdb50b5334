//! Addresses, gateways and routes: the same keys on every kind of link.
//!
//! Route in: a link's table. Route out: [`Addressing`] and its places, which [`super::reach`] checks.

use crate::node::{Addressing, Cidr, Ipv6, Route};
use crate::spanned::{At, Table};
use crate::syntax;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV6: &[(&str, Ipv6)] =
    &[("auto", Ipv6::Auto), ("dhcp", Ipv6::Dhcp), ("static", Ipv6::Static), ("off", Ipv6::Off)];
/// Keys that a link may hold to have addresses.
pub(super) const KEYS: [&str; 6] = ["dhcp", "ipv6", "addresses", "gateway", "gateway6", "routes"];

/// Addressing with its places.
#[derive(Clone, Default)]
pub(super) struct AddressingAt {
    pub dhcp: Option<At<bool>>,
    pub ipv6: Option<At<Ipv6>>,
    pub addresses: Vec<At<Cidr>>,
    pub gateway: Option<At<Ipv4Addr>>,
    pub gateway6: Option<At<Ipv6Addr>>,
    pub routes: Vec<RouteAt>,
    /// The first of its keys that is given.
    pub given: Option<At<()>>,
}

/// A route with its places.
#[derive(Clone)]
pub(super) struct RouteAt {
    pub to: At<Cidr>,
    pub via: Option<At<IpAddr>>,
    pub metric: Option<At<u32>>,
}

impl AddressingAt {
    pub fn plain(&self) -> Addressing {
        let value = |route: &RouteAt| Route {
            to: route.to.value,
            via: route.via.as_ref().map(|at| at.value),
            metric: route.metric.as_ref().map(|at| at.value),
        };
        Addressing {
            dhcp: self.dhcp.as_ref().map(|at| at.value),
            ipv6: self.ipv6.as_ref().map(|at| at.value),
            addresses: self.addresses.iter().map(|at| at.value).collect(),
            gateway: self.gateway.as_ref().map(|at| at.value),
            gateway6: self.gateway6.as_ref().map(|at| at.value),
            routes: self.routes.iter().map(value).collect(),
        }
    }
}

/// Reads the keys of addressing; none where one of them could not be read: rules about the rest would mislead.
pub(super) fn read(table: &mut Table<'_, '_>) -> Option<AddressingAt> {
    let dhcp = table.optional("dhcp", |value| value.boolean());
    let ipv6 = table.optional("ipv6", |value| value.one_of(IPV6));
    let addresses = table.optional("addresses", |value| value.texts(syntax::host_cidr));
    let gateway = table.optional("gateway", |value| value.text(syntax::ipv4));
    let gateway6 = table.optional("gateway6", |value| value.text(syntax::ipv6));
    let routes = table.optional("routes", |value| {
        let routes: Vec<_> = value.tables()?.into_iter().map(route).collect();
        routes.into_iter().collect::<Option<Vec<_>>>()
    });
    let read = [
        dhcp.is_some(),
        ipv6.is_some(),
        addresses.is_some(),
        gateway.is_some(),
        gateway6.is_some(),
        routes.is_some(),
    ];
    let places = KEYS.map(|key| table.place(key));
    if places.iter().zip(read).any(|(place, read)| place.is_some() && !read) {
        return None;
    }
    let given = places.into_iter().flatten().min_by_key(|place| place.span.start);
    let (addresses, routes) = (addresses.unwrap_or_default(), routes.unwrap_or_default());
    Some(AddressingAt { dhcp, ipv6, addresses, gateway, gateway6, routes, given })
}

fn route(mut table: Table<'_, '_>) -> Option<RouteAt> {
    let report = table.report();
    let to = table.required("to", "to = \"198.51.100.0/24\"", |value| value.text(syntax::destination));
    let via = table.optional("via", |value| value.text(syntax::address));
    let metric = table.optional("metric", |value| {
        let metric = value.integer()?;
        match u32::try_from(metric.value) {
            Ok(number) if number > 0 => Some(metric.map(|_| number)),
            _ => {
                metric.wrong(report, format!("{} is no metric", metric.value), "write 1 to 4294967295");
                None
            }
        }
    });
    let unread = [("via", via.is_some()), ("metric", metric.is_some())];
    let is_unread = unread.iter().any(|(key, read)| table.place(key).is_some() && !read);
    table.finish(super::ELSEWHERE);
    if is_unread { None } else { Some(RouteAt { to: to?, via, metric }) }
}
