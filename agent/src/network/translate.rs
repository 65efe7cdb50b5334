//! A policy's links as node.toml's types. Pure.
//!
//! Why here: the CRD crate knows nobody, and the renderer knows node.toml alone. Route in: types of `sheaf_api`, as the
//! API server took them. Route out: types of `sheaf_config`, or what of a text is wrong in the words of node.toml.

use sheaf_api::node_network::links as api;
use sheaf_config::node::{self, Cidr};
use sheaf_config::spanned::Wrong;
use sheaf_config::syntax;

/// Milliseconds between looks at the cables, where nobody says otherwise: node.toml's.
const MIIMON: u32 = 100;

/// Why a text is refused.
pub(super) type Result<T> = std::result::Result<T, String>;

fn said<T>(key: &str, checked: std::result::Result<T, Wrong>) -> Result<T> {
    checked.map_err(|Wrong(what, remedy)| format!("{key}: {what}; {remedy}"))
}

fn all<T>(key: &str, texts: &[String], check: fn(&str) -> std::result::Result<T, Wrong>) -> Result<Vec<T>> {
    texts.iter().map(|text| said(key, check(text))).collect()
}

/// Names of what stands in a link.
pub(super) fn ports(texts: &[String]) -> Result<Vec<String>> {
    all("ports", texts, syntax::port)
}

/// VLANs of a bridge.
pub(super) fn ranges(texts: &[String]) -> Result<Vec<node::VlanRange>> {
    all("vlans", texts, syntax::vlan_range)
}

pub(super) fn nic(nic: &api::Nic) -> Result<node::Nic> {
    Ok(node::Nic {
        name: said("name", syntax::interface(&nic.name))?,
        mac: nic.mac.as_deref().map(|mac| said("mac", syntax::mac(mac))).transpose()?,
        path: nic.path.as_deref().map(|path| said("path", syntax::nic_path(path))).transpose()?,
        mtu: nic.mtu,
        addressing: addressing(&nic.addressing)?,
    })
}

pub(super) fn bond(bond: &api::Bond) -> Result<node::Bond> {
    Ok(node::Bond {
        name: said("name", syntax::interface(&bond.name))?,
        ports: ports(&bond.ports)?,
        mode: bond.mode.map(mode).unwrap_or_default(),
        lacp_rate: bond.lacp_rate.map(lacp_rate),
        transmit_hash_policy: bond.transmit_hash_policy.map(hash_policy),
        primary: bond.primary.as_deref().map(|port| said("primary", syntax::port(port))).transpose()?,
        miimon: bond.miimon.unwrap_or(MIIMON),
        mtu: bond.mtu,
        addressing: addressing(&bond.addressing)?,
    })
}

pub(super) fn vlan(vlan: &api::Vlan) -> Result<node::Vlan> {
    Ok(node::Vlan {
        name: said("name", syntax::interface(&vlan.name))?,
        id: vlan.id,
        parent: said("parent", syntax::port(&vlan.parent))?,
        mtu: vlan.mtu,
        addressing: addressing(&vlan.addressing)?,
    })
}

pub(super) fn bridge(bridge: &api::Bridge) -> Result<node::Bridge> {
    let mut addressing = addressing(&bridge.addressing)?;
    // node.toml's bridges ask DHCP when they are given nothing; those of a policy are for VMs then.
    addressing.dhcp = Some(addressing.asks_dhcp());
    Ok(node::Bridge {
        name: said("name", syntax::interface(&bridge.name))?,
        ports: ports(&bridge.ports)?,
        vlan_aware: bridge.vlan_aware.unwrap_or(false),
        vlans: ranges(&bridge.vlans)?,
        mtu: bridge.mtu,
        addressing,
    })
}

fn addressing(given: &api::Addressing) -> Result<node::Addressing> {
    let route = |route: &api::Route| {
        let via = route.via.as_deref().map(|via| said("routes: via", syntax::address(via))).transpose()?;
        let to: Cidr = said("routes: to", syntax::destination(&route.to))?;
        Ok(node::Route { to, via, metric: route.metric })
    };
    Ok(node::Addressing {
        dhcp: given.dhcp,
        ipv6: given.ipv6.map(|ipv6| match ipv6 {
            api::Ipv6::Auto => node::Ipv6::Auto,
            api::Ipv6::Dhcp => node::Ipv6::Dhcp,
            api::Ipv6::Static => node::Ipv6::Static,
            api::Ipv6::Off => node::Ipv6::Off,
        }),
        addresses: all("addresses", &given.addresses, syntax::host_cidr)?,
        gateway: given.gateway.as_deref().map(|ip| said("gateway", syntax::ipv4(ip))).transpose()?,
        gateway6: given.gateway6.as_deref().map(|ip| said("gateway6", syntax::ipv6(ip))).transpose()?,
        routes: given.routes.iter().map(route).collect::<Result<_>>()?,
    })
}

pub(super) fn mode(mode: api::BondMode) -> node::BondMode {
    match mode {
        api::BondMode::ActiveBackup => node::BondMode::ActiveBackup,
        api::BondMode::Lacp => node::BondMode::Lacp,
        api::BondMode::BalanceXor => node::BondMode::BalanceXor,
        api::BondMode::BalanceRr => node::BondMode::BalanceRr,
        api::BondMode::BalanceTlb => node::BondMode::BalanceTlb,
        api::BondMode::BalanceAlb => node::BondMode::BalanceAlb,
        api::BondMode::Broadcast => node::BondMode::Broadcast,
    }
}

pub(super) fn lacp_rate(rate: api::LacpRate) -> node::LacpRate {
    match rate {
        api::LacpRate::Slow => node::LacpRate::Slow,
        api::LacpRate::Fast => node::LacpRate::Fast,
    }
}

pub(super) fn hash_policy(policy: api::HashPolicy) -> node::HashPolicy {
    match policy {
        api::HashPolicy::Layer2 => node::HashPolicy::Layer2,
        api::HashPolicy::Layer23 => node::HashPolicy::Layer23,
        api::HashPolicy::Layer34 => node::HashPolicy::Layer34,
        api::HashPolicy::Encap23 => node::HashPolicy::Encap23,
        api::HashPolicy::Encap34 => node::HashPolicy::Encap34,
        api::HashPolicy::VlanSrcmac => node::HashPolicy::VlanSrcmac,
    }
}
