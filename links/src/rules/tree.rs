//! Rules between links: who is in what, once, and what their settings allow.
//!
//! Route in: links whose values are good. Route out: problems.

use super::{Found, called, place};
use crate::{Bond, BondMode, Bridge, Kind, Link, LinkRef, Links, USUAL_MTU, VlanRange, did_you_mean};
use std::collections::BTreeMap;

impl Links {
    /// One name for a NIC that is called by its MAC here and by its name there.
    fn canonical<'l>(&'l self, port: &'l str) -> &'l str {
        self.nics.iter().find(|nic| nic.mac.as_deref() == Some(port)).map_or(port, |nic| &nic.name)
    }

    /// The link that `name` means.
    fn meant(&self, name: &str) -> Option<LinkRef<'_>> {
        let by_mac = self.nics.iter().find(|nic| nic.mac.as_deref() == Some(name));
        let name = by_mac.map_or(name, |nic| &nic.name);
        self.all().find(|link| link.name() == name)
    }

    /// Whose port `name` is.
    fn owner(&self, name: &str) -> Option<LinkRef<'_>> {
        let name = self.canonical(name);
        self.all().find(|link| link.ports().iter().any(|port| self.canonical(port) == name))
    }
}

pub(super) fn check(links: &Links, found: &mut Found) {
    names_are_unique(links, found);
    nics_are_described_once(links, found);
    ports_are_what_they_may_be(links, found);
    ports_have_one_user(links, found);
    the_only_nic_is_said_once(links, found);
    vlans_stand_on_trunks(links, found);
    for link in links.all() {
        match link.link {
            Link::Bond(bond) => bond_settings_fit_its_mode(links, link, bond, found),
            Link::Bridge(bridge) => vlans_of_a_bridge(link, bridge, found),
            Link::Nic(_) | Link::Vlan(_) => {}
        }
        packets_fit(links, link, found);
        used_links_have_no_addresses(links, link, found);
    }
}

fn names_are_unique(links: &Links, found: &mut Found) {
    let mut seen: BTreeMap<&str, LinkRef<'_>> = BTreeMap::new();
    for link in links.all() {
        if let Some(first) = seen.insert(link.name(), link) {
            let what = format!("\"{}\" is already the name of a {}", link.name(), first.kind().word());
            found.with(link, "name", what, place(first, "name"), "rename one of them");
        }
    }
}

fn nics_are_described_once(links: &Links, found: &mut Found) {
    let (mut macs, mut paths) = (BTreeMap::new(), BTreeMap::new());
    for link in links.all() {
        let Link::Nic(nic) = link.link else { continue };
        for (key, given, seen) in [("mac", &nic.mac, &mut macs), ("path", &nic.path, &mut paths)] {
            let Some(given) = given else { continue };
            if let Some(first) = seen.insert(given.as_str(), link) {
                let what = format!("\"{given}\" is already NIC \"{}\"", first.name());
                found.with(link, key, what, place(first, key), "describe each NIC once");
            }
        }
    }
}

fn ports_are_what_they_may_be(links: &Links, found: &mut Found) {
    for link in links.all() {
        for (index, port) in link.ports().iter().enumerate() {
            let key = format!("ports[{index}]");
            let Some(inner) = links.meant(port) else {
                is_a_nic(links, link, &key, port, found);
                continue;
            };
            let what = match (link.kind(), inner.link) {
                (_, Link::Bridge(_)) => format!("\"{port}\" is a bridge itself"),
                (Kind::Bond, Link::Bond(_)) => format!("\"{port}\" is a bond itself"),
                (Kind::Bond, Link::Vlan(_)) => {
                    format!("\"{port}\" is a VLAN, which cannot be a port of a bond")
                }
                (Kind::Bridge, Link::Bond(bond)) if bond.mode() == BondMode::BalanceAlb => {
                    let what = format!(
                        "\"{port}\" is a bond in mode balance-alb, which does not work in a bridge, because it changes MACs"
                    );
                    found.at(link, &key, what, "write mode = \"active-backup\" or \"802.3ad\" in the bond");
                    continue;
                }
                _ => continue,
            };
            found.at(link, &key, what, "name a NIC: its MAC, or its kernel name");
        }
    }
}

/// A name that no link has must be one that the kernel gives.
fn is_a_nic(links: &Links, link: LinkRef<'_>, key: &str, port: &str, found: &mut Found) {
    /// How the kernel and udev name wired NICs; `net` and `lan` are names of switch chips' ports.
    const KERNEL: [&str; 8] = ["en", "eth", "ib", "net", "lan", "usb", "wl", "rename"];
    if port.contains(':') || KERNEL.iter().any(|start| port.starts_with(start)) {
        return;
    }
    let remedy = match did_you_mean(port, links.all().map(LinkRef::name)) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => match ["bond", "vlan", "br"].iter().find(|kind| port.starts_with(**kind)) {
            Some(&"br") => "add a [[network.bridge]] of that name".into(),
            Some(kind) => format!("add a [[network.{kind}]] of that name"),
            None => "write the NIC's MAC, or describe it in [[network.nic]]".into(),
        },
    };
    let what = format!("\"{port}\" is not a link of this config, and no NIC has this kernel name");
    found.at(link, key, what, remedy);
}

fn ports_have_one_user(links: &Links, found: &mut Found) {
    let mut owner: BTreeMap<&str, LinkRef<'_>> = BTreeMap::new();
    for link in links.all() {
        for (index, port) in link.ports().iter().enumerate() {
            let Some(first) = owner.insert(links.canonical(port), link) else { continue };
            let (what, remedy) = match first == link {
                true => (format!("\"{port}\" is listed twice"), "remove one"),
                false => {
                    (format!("\"{port}\" already belongs to {}", called(first)), "remove it from one of them")
                }
            };
            found.at(link, &format!("ports[{index}]"), what, remedy);
        }
    }
}

/// "The only NIC there is" can be said once, and only when nobody else names a NIC.
fn the_only_nic_is_said_once(links: &Links, found: &mut Found) {
    let (all, bridges) = (links.all().count(), links.bridges.len());
    let without = |link: &LinkRef<'_>| link.kind() == Kind::Bridge && link.ports().is_empty();
    for link in links.all().filter(without).filter(|_| all > 1) {
        let what = match bridges {
            1 => format!("bridge \"{}\" names no NIC, and there are other links", link.name()),
            _ => format!("bridge \"{}\" names no NIC, and there are {bridges} bridges", link.name()),
        };
        found.at(link, "ports", what, "add ports = [\"<MAC or name>\"]");
    }
}

fn vlans_stand_on_trunks(links: &Links, found: &mut Found) {
    let mut seen: BTreeMap<(&str, u16), LinkRef<'_>> = BTreeMap::new();
    for link in links.all() {
        let Link::Vlan(vlan) = link.link else { continue };
        let (id, parent) = (vlan.id, &vlan.parent);
        if let Some(first) = seen.insert((links.canonical(parent), id), link) {
            let what = format!("VLAN {id} of \"{parent}\" is already \"{}\"", first.name());
            found.with(link, "id", what, place(first, "id"), "remove one of them");
        }
        match links.meant(parent).map(|trunk| trunk.link) {
            None => is_a_nic(links, link, "parent", parent, found),
            Some(_) if *parent == vlan.name => {
                found.at(link, "parent", "is this VLAN itself", "name the link that carries it");
                continue;
            }
            Some(Link::Vlan(_)) => {
                let what = format!("\"{parent}\" is a VLAN itself");
                found.at(link, "parent", what, "name the link that carries both");
            }
            Some(Link::Bridge(bridge)) if !bridge.vlan_aware() => {
                let what = format!("\"{parent}\" is a bridge without vlan-aware");
                found.at(link, "parent", what, "add vlan-aware = true to the bridge, or name its port");
            }
            Some(Link::Bridge(bridge)) => {
                let carries = |range: &VlanRange| (range.first..=range.last).contains(&id);
                if !bridge.vlans.is_empty() && !bridge.vlans.iter().any(carries) {
                    let what = format!("VLAN {id} is not carried by bridge \"{parent}\"");
                    found.at(link, "id", what, format!("add \"{id}\" to its vlans"));
                }
            }
            Some(Link::Nic(_) | Link::Bond(_)) => {}
        }
        if let Some(owner) = links.owner(parent) {
            let name = owner.name();
            let what = format!("\"{parent}\" is in {}, which receives its packets", called(owner));
            let remedy = match owner.kind() {
                Kind::Bridge => format!("write parent = \"{name}\", and vlan-aware = true in that bridge"),
                _ => format!("write parent = \"{name}\""),
            };
            found.at(link, "parent", what, remedy);
        }
    }
}

fn bond_settings_fit_its_mode(links: &Links, link: LinkRef<'_>, bond: &Bond, found: &mut Found) {
    use BondMode::{ActiveBackup, BalanceAlb, BalanceTlb, BalanceXor, Lacp};
    let mode = bond.mode();
    let mut fits = |key: &str, is_given: bool, modes: &[BondMode], remedy: &str| {
        if is_given && !modes.contains(&mode) {
            let what = format!("has no meaning in mode \"{}\"", mode.name());
            found.at(link, key, what, format!("remove it, or write {remedy}"));
        }
    };
    fits("lacp-rate", bond.lacp_rate.is_some(), &[Lacp], "mode = \"802.3ad\"");
    fits(
        "transmit-hash-policy",
        bond.transmit_hash_policy.is_some(),
        &[Lacp, BalanceXor, BalanceTlb],
        "mode = \"802.3ad\" or \"balance-xor\"",
    );
    let Some(primary) = &bond.primary else { return };
    fits("primary", true, &[ActiveBackup, BalanceTlb, BalanceAlb], "mode = \"active-backup\"");
    let wanted = links.canonical(primary);
    if !bond.ports.iter().any(|port| links.canonical(port) == wanted) {
        found.at(link, "primary", format!("\"{primary}\" is not a port of the bond"), "name one of them");
    }
}

fn vlans_of_a_bridge(link: LinkRef<'_>, bridge: &Bridge, found: &mut Found) {
    if !bridge.vlans.is_empty() && !bridge.vlan_aware() {
        let remedy = "add vlan-aware = true, or remove it";
        found.at(link, "vlans[0]", "has no meaning without vlan-aware", remedy);
    }
    for (index, range) in bridge.vlans.iter().enumerate() {
        let shares = |other: &&VlanRange| range.first <= other.last && other.first <= range.last;
        if let Some(first) = bridge.vlans[..index].iter().find(shares) {
            let what = format!("\"{range}\" overlaps \"{first}\"");
            found.at(link, &format!("vlans[{index}]"), what, "name each VLAN once");
        }
    }
}

/// A link carries no larger packets than what it stands on, and what it sets for its ports they do not set otherwise.
fn packets_fit(links: &Links, link: LinkRef<'_>, found: &mut Found) {
    if let (Link::Vlan(vlan), Some(mtu)) = (link.link, link.mtu())
        // A NIC that the config does not describe takes what the VLAN asks: the renderer raises it.
        && let Some(trunk) = links.meant(&vlan.parent)
    {
        let most = trunk.mtu().unwrap_or(USUAL_MTU);
        if mtu > most {
            let what = format!("{mtu} is more than its parent \"{}\" carries, {most}", vlan.parent);
            found.at(link, "mtu", what, "lower it, or raise mtu of the parent");
        }
    }
    for inner in link.ports().iter().filter_map(|port| links.meant(port)) {
        let (Some(own), most) = (inner.mtu(), link.mtu().unwrap_or(USUAL_MTU)) else { continue };
        let is_vlan = inner.kind() == Kind::Vlan;
        if own != most && !(is_vlan && own > most) {
            let user = called(link);
            let what = format!("{own} is not the mtu of {user} that it is in, {most}");
            found.at(inner, "mtu", what, format!("write the same in both, or only in {user}"));
        }
    }
}

fn used_links_have_no_addresses(links: &Links, link: LinkRef<'_>, found: &mut Found) {
    let given = link.addressing().given();
    let Some(owner) = links.owner(link.name()).filter(|owner| *owner != link) else { return };
    if let Some(key) = given.first() {
        let what = format!("\"{}\" is in {}, which has the addresses", link.name(), called(owner));
        found.at(link, key, what, "move it there");
    }
}
