//! NICs, bonds, VLANs and bridges, one table each.
//!
//! Why here: all mistakes at once, each with its line; serde stops at the first. Route in: the table `[network]`. Route out:
//! the links, none when one could not be parsed.

use super::{ELSEWHERE, plain, values};
use crate::spanned::{At, Table, Value};
use crate::syntax;
use sheaf_links::value::{self, Wrong};
use sheaf_links::{Addressing, Bond, BondMode, Bridge, HashPolicy, Ipv6, LacpRate, Links, Nic, Route, Vlan};

const IPV6: &[(&str, Ipv6)] =
    &[("auto", Ipv6::Auto), ("dhcp", Ipv6::Dhcp), ("static", Ipv6::Static), ("off", Ipv6::Off)];

pub(super) fn read(table: &mut Table<'_, '_>) -> Option<Links> {
    let nics = list(table, "nic", nic);
    let bonds = list(table, "bond", bond);
    let vlans = list(table, "vlan", vlan);
    let bridges = list(table, "bridge", bridge);
    Some(Links { nics: nics?, bonds: bonds?, vlans: vlans?, bridges: bridges? })
}

/// Every table of the list `key`; none when one of them could not be parsed.
fn list<'d, 't, T>(
    table: &mut Table<'d, 't>,
    key: &'static str,
    read: impl Fn(Table<'d, 't>) -> Option<T>,
) -> Option<Vec<T>> {
    let is_there = table.place(key).is_some();
    let list = table.optional(key, |value| {
        let read: Vec<_> = value.tables()?.into_iter().map(read).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    if is_there { list } else { Some(Vec::new()) }
}

/// A whole number that `check` accepts.
fn number<T>(value: Value<'_, '_>, check: impl Fn(i64) -> Result<T, Wrong>) -> Option<At<T>> {
    let report = value.report();
    value.integer()?.check(report, |number| check(*number))
}

/// Ends a table: none unless everything in it could be read.
fn end(table: Table<'_, '_>) -> Option<()> {
    let is_whole = table.is_whole();
    table.finish(ELSEWHERE);
    is_whole.then_some(())
}

fn nic(mut table: Table<'_, '_>) -> Option<Nic> {
    let name = table.required("name", "name = \"uplink0\"", |value| value.text(syntax::interface));
    let mac = table.optional("mac", |value| value.text(syntax::mac));
    let path = table.optional("path", |value| value.text(syntax::nic_path));
    let mtu = table.optional("mtu", |value| number(value, value::mtu));
    let addressing = addressing(&mut table);
    end(table)?;
    Some(Nic { name: name?.value, mac: plain(mac), path: plain(path), mtu: plain(mtu), addressing })
}

fn bond(mut table: Table<'_, '_>) -> Option<Bond> {
    let report = table.report();
    let name = table.required("name", "name = \"bond0\"", |value| value.text(syntax::interface));
    let ports = table.required("ports", "ports = [\"<MAC or name>\", …]", |value| {
        let at = value.at();
        let ports = value.texts(syntax::port)?;
        if ports.is_empty() {
            at.wrong(report, "names no NIC", "write ports = [\"<MAC or name>\", …]");
        }
        Some(ports)
    });
    let mode = table.optional("mode", |value| value.one_of(BondMode::WORDS));
    let lacp_rate = table.optional("lacp-rate", |value| value.one_of(LacpRate::WORDS));
    let transmit_hash_policy =
        table.optional("transmit-hash-policy", |value| value.one_of(HashPolicy::WORDS));
    let primary = table.optional("primary", |value| value.text(syntax::port));
    let miimon = table.optional("miimon", |value| number(value, value::miimon));
    let mtu = table.optional("mtu", |value| number(value, value::mtu));
    let addressing = addressing(&mut table);
    end(table)?;
    Some(Bond {
        name: name?.value,
        ports: values(ports?),
        mode: plain(mode),
        lacp_rate: plain(lacp_rate),
        transmit_hash_policy: plain(transmit_hash_policy),
        primary: plain(primary),
        miimon: plain(miimon),
        mtu: plain(mtu),
        addressing,
    })
}

fn vlan(mut table: Table<'_, '_>) -> Option<Vlan> {
    let name = table.required("name", "name = \"mgmt\"", |value| value.text(syntax::interface));
    let id = table.required("id", "id = 100", |value| number(value, value::vlan_id));
    let parent = table.required("parent", "parent = \"bond0\"", |value| value.text(syntax::port));
    let mtu = table.optional("mtu", |value| number(value, value::mtu));
    let addressing = addressing(&mut table);
    end(table)?;
    Some(Vlan { name: name?.value, id: id?.value, parent: parent?.value, mtu: plain(mtu), addressing })
}

fn bridge(mut table: Table<'_, '_>) -> Option<Bridge> {
    let name = table.required("name", "name = \"br0\"", |value| value.text(syntax::interface));
    let ports = table.optional("ports", |value| value.texts(syntax::port));
    let vlan_aware = table.optional("vlan-aware", |value| value.boolean());
    let vlans = table.optional("vlans", |value| value.texts(syntax::vlan_range));
    let mtu = table.optional("mtu", |value| number(value, value::mtu));
    let addressing = addressing(&mut table);
    end(table)?;
    Some(Bridge {
        name: name?.value,
        ports: values(ports.unwrap_or_default()),
        vlan_aware: plain(vlan_aware),
        vlans: values(vlans.unwrap_or_default()),
        mtu: plain(mtu),
        addressing,
    })
}

/// The keys of addressing, which every kind of link has.
fn addressing(table: &mut Table<'_, '_>) -> Addressing {
    let dhcp = table.optional("dhcp", |value| value.boolean());
    let ipv6 = table.optional("ipv6", |value| value.one_of(IPV6));
    let addresses = table.optional("addresses", |value| value.texts(syntax::host_cidr));
    let gateway = table.optional("gateway", |value| value.text(syntax::ipv4));
    let gateway6 = table.optional("gateway6", |value| value.text(syntax::ipv6));
    let routes = list(table, "routes", route);
    Addressing {
        dhcp: plain(dhcp),
        ipv6: plain(ipv6),
        addresses: values(addresses.unwrap_or_default()),
        gateway: plain(gateway),
        gateway6: plain(gateway6),
        routes: routes.unwrap_or_default(),
    }
}

fn route(mut table: Table<'_, '_>) -> Option<Route> {
    let to = table.required("to", "to = \"198.51.100.0/24\"", |value| value.text(syntax::destination));
    let via = table.optional("via", |value| value.text(syntax::address));
    let metric = table.optional("metric", |value| number(value, value::metric));
    end(table)?;
    Some(Route { to: to?.value, via: plain(via), metric: plain(metric) })
}
