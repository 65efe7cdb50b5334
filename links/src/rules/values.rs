//! Rules of single values.
//!
//! Why here: the loader of node.toml checks them while it reads; links that come as JSON are checked here by the same
//! functions. Route in: links. Route out: problems.

use super::Found;
use crate::value::{self, Wrong};
use crate::{Link, LinkRef, Links};

pub(super) fn check(links: &Links, found: &mut Found) {
    for link in links.all() {
        let mut check = |key: &str, result: Result<(), Wrong>| {
            if let Err(Wrong(what, remedy)) = result {
                found.at(link, key, what, remedy);
            }
        };
        check("name", value::interface(link.name()).map(drop));
        for (index, port) in link.ports().iter().enumerate() {
            check(&format!("ports[{index}]"), value::port(port).map(drop));
        }
        if let Some(mtu) = link.mtu() {
            check("mtu", value::mtu(mtu.into()).map(drop));
        }
        match link.link {
            Link::Nic(nic) => {
                check("mac", nic.mac.as_deref().map_or(Ok(()), |mac| value::mac(mac).map(drop)));
                check("path", nic.path.as_deref().map_or(Ok(()), |path| value::nic_path(path).map(drop)));
            }
            Link::Bond(bond) => {
                let primary = bond.primary.as_deref();
                check("primary", primary.map_or(Ok(()), |port| value::port(port).map(drop)));
                check("miimon", bond.miimon.map_or(Ok(()), |miimon| value::miimon(miimon.into()).map(drop)));
            }
            Link::Vlan(vlan) => {
                check("id", value::vlan_id(vlan.id.into()).map(drop));
                check("parent", value::port(&vlan.parent).map(drop));
            }
            Link::Bridge(_) => {}
        }
        addresses(link, &mut check);
    }
}

fn addresses(link: LinkRef<'_>, check: &mut impl FnMut(&str, Result<(), Wrong>)) {
    for (index, address) in link.addressing().addresses.iter().enumerate() {
        check(&format!("addresses[{index}]"), value::host(*address).map(drop));
    }
    for (index, route) in link.addressing().routes.iter().enumerate() {
        check(&format!("routes[{index}].to"), value::leads_to(route.to).map(drop));
        let metric = route.metric.map_or(Ok(()), |metric| value::metric(metric.into()).map(drop));
        check(&format!("routes[{index}].metric"), metric);
    }
}
