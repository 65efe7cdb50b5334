//! Rules between links: who is in what, once, and what their settings allow.
//!
//! Route in: every link with its places. Route out: problems.

use super::links::{Kind, LinkAt};
use crate::diagnose::Report;
use crate::node::BondMode;
use crate::spanned::At;
use std::collections::BTreeMap;

/// Bytes of a packet where nobody says otherwise.
const USUAL_MTU: u32 = 1500;

/// All links, found by any of their names.
struct Links<'l> {
    links: &'l [LinkAt],
}

impl<'l> Links<'l> {
    /// One name for a NIC that is called by its MAC here and by its name there.
    fn canonical(&self, port: &'l str) -> &'l str {
        let by_mac = self.links.iter().find(|link| match &link.kind {
            Kind::Nic { mac, .. } => mac.as_ref().is_some_and(|mac| mac.value == port),
            _ => false,
        });
        by_mac.map_or(port, |link| &link.name.value)
    }

    fn get(&self, name: &'l str) -> Option<&'l LinkAt> {
        let name = self.canonical(name);
        self.links.iter().find(|link| link.name.value == name)
    }

    /// Whose port `name` is.
    fn owner(&self, name: &'l str) -> Option<&'l LinkAt> {
        let name = self.canonical(name);
        self.links.iter().find(|link| link.ports.iter().any(|port| self.canonical(&port.value) == name))
    }
}

pub(super) fn check(report: &Report<'_>, links: &[LinkAt]) {
    names_are_unique(report, links);
    let links = &Links { links };
    nics_are_described_once(report, links);
    ports_are_what_they_may_be(report, links);
    ports_have_one_user(report, links);
    the_only_nic_is_said_once(report, links);
    vlans_stand_on_trunks(report, links);
    for link in links.links {
        bond_settings_fit_its_mode(report, links, link);
        vlans_of_a_bridge(report, link);
        packets_fit(report, links, link);
        used_links_have_no_addresses(report, links, link);
    }
}

fn names_are_unique(report: &Report<'_>, links: &[LinkAt]) {
    let mut seen: BTreeMap<&str, &LinkAt> = BTreeMap::new();
    for link in links {
        let name = &link.name;
        if let Some(first) = seen.insert(&name.value, link) {
            let line = report.line(first.name.span.start);
            let what = format!("\"{}\" is already the {} of line {line}", name.value, first.kind.word());
            name.wrong(report, what, "rename one of them");
        }
    }
}

fn nics_are_described_once(report: &Report<'_>, links: &Links<'_>) {
    let (mut macs, mut paths) = (BTreeMap::new(), BTreeMap::new());
    for link in links.links {
        let Kind::Nic { mac, path } = &link.kind else { continue };
        for (given, seen) in [(mac, &mut macs), (path, &mut paths)] {
            let Some(at) = given else { continue };
            if let Some(first) = seen.insert(at.value.as_str(), report.line(at.span.start)) {
                let what = format!("\"{}\" is already the NIC of line {first}", at.value);
                at.wrong(report, what, "describe each NIC once");
            }
        }
    }
}

fn ports_are_what_they_may_be(report: &Report<'_>, links: &Links<'_>) {
    for link in links.links {
        for port in &link.ports {
            let Some(inner) = links.get(&port.value) else {
                is_a_nic(report, links, port);
                continue;
            };
            let what = match (&link.kind, &inner.kind) {
                (_, Kind::Bridge { .. }) => format!("\"{}\" is a bridge itself", port.value),
                (Kind::Bond { .. }, Kind::Bond { .. }) => format!("\"{}\" is a bond itself", port.value),
                (Kind::Bond { .. }, Kind::Vlan { .. }) => {
                    format!("\"{}\" is a VLAN, which stands on a bond", port.value)
                }
                (Kind::Bridge { .. }, Kind::Bond { mode: BondMode::BalanceAlb, .. }) => {
                    let what = format!(
                        "\"{}\" is a bond in mode balance-alb, which changes MACs under a bridge",
                        port.value
                    );
                    port.wrong(report, what, "write mode = \"active-backup\" or \"802.3ad\" in the bond");
                    continue;
                }
                _ => continue,
            };
            port.wrong(report, what, "name a NIC: its MAC, or its kernel name");
        }
    }
}

/// A name that no link of the file has must be one that the kernel gives.
fn is_a_nic(report: &Report<'_>, links: &Links<'_>, port: &At<String>) {
    /// How the kernel and udev name wired NICs; `net` and `lan` are names of switch chips' ports.
    const KERNEL: [&str; 8] = ["en", "eth", "ib", "net", "lan", "usb", "wl", "rename"];
    if port.value.contains(':') || KERNEL.iter().any(|start| port.value.starts_with(start)) {
        return;
    }
    let names = links.links.iter().map(|link| link.name.value.as_str());
    let remedy = match crate::diagnose::did_you_mean(&port.value, names) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => match ["bond", "vlan", "br"].iter().find(|kind| port.value.starts_with(**kind)) {
            Some(&"br") => "add a [[network.bridge]] of that name".into(),
            Some(kind) => format!("add a [[network.{kind}]] of that name"),
            None => "write the NIC's MAC, or describe it in [[network.nic]]".into(),
        },
    };
    let what = format!("\"{}\" is no link of this file, and no NIC is called that by the kernel", port.value);
    port.wrong(report, what, remedy);
}

fn ports_have_one_user(report: &Report<'_>, links: &Links<'_>) {
    let mut owner: BTreeMap<&str, &LinkAt> = BTreeMap::new();
    for link in links.links {
        for port in &link.ports {
            let Some(first) = owner.insert(links.canonical(&port.value), link) else { continue };
            let (what, remedy) = match std::ptr::eq(first, link) {
                true => (format!("\"{}\" stands here twice", port.value), "remove one".to_owned()),
                false => {
                    let (kind, name) = (first.kind.word(), &first.name.value);
                    (
                        format!("\"{}\" already belongs to {kind} \"{name}\"", port.value),
                        "remove it from one of them".to_owned(),
                    )
                }
            };
            port.wrong(report, what, remedy);
        }
    }
}

/// "The only NIC there is" can be said once, and only when nobody else names a NIC.
fn the_only_nic_is_said_once(report: &Report<'_>, links: &Links<'_>) {
    let bridges = links.links.iter().filter(|link| link.is_bridge());
    for bridge in bridges.filter(|bridge| links.links.len() > 1 && bridge.ports.is_empty()) {
        let others = links.links.iter().filter(|link| link.is_bridge()).count();
        let what = match others {
            1 => format!("bridge \"{}\" names no NIC, and there are other links", bridge.name.value),
            _ => format!("bridge \"{}\" names no NIC, and there are {others} bridges", bridge.name.value),
        };
        bridge.missing("ports").wrong(report, what, "add ports = [\"<MAC or name>\"]");
    }
}

fn vlans_stand_on_trunks(report: &Report<'_>, links: &Links<'_>) {
    let mut seen = BTreeMap::new();
    for link in links.links {
        let Kind::Vlan { id, parent } = &link.kind else { continue };
        let key = (links.canonical(&parent.value), id.value);
        if let Some(first) = seen.insert(key, report.line(id.span.start)) {
            let what = format!("VLAN {} of \"{}\" is already that of line {first}", id.value, parent.value);
            id.wrong(report, what, "remove one of them");
        }
        let trunk = links.get(&parent.value);
        match trunk.map(|trunk| &trunk.kind) {
            None => is_a_nic(report, links, parent),
            Some(_) if parent.value == link.name.value => {
                parent.wrong(report, "is this VLAN itself", "name the link that carries it");
                continue;
            }
            Some(Kind::Vlan { .. }) => {
                let what = format!("\"{}\" is a VLAN itself", parent.value);
                parent.wrong(report, what, "name the link that carries both");
            }
            Some(Kind::Bridge { vlan_aware: false, .. }) => {
                let what = format!("\"{}\" is a bridge that does not keep VLANs apart", parent.value);
                parent.wrong(report, what, "add vlan-aware = true to the bridge, or name its port");
            }
            Some(Kind::Bridge { vlans, .. }) => {
                let carried = |range: &At<crate::node::VlanRange>| {
                    (range.value.first..=range.value.last).contains(&id.value)
                };
                if !vlans.is_empty() && !vlans.iter().any(carried) {
                    let what = format!("VLAN {} is none that bridge \"{}\" carries", id.value, parent.value);
                    id.wrong(report, what, format!("add \"{}\" to its vlans", id.value));
                }
            }
            Some(Kind::Nic { .. } | Kind::Bond { .. }) => {}
        }
        if let Some(owner) = links.owner(&parent.value) {
            let (kind, name) = (owner.kind.word(), &owner.name.value);
            let what = format!("\"{}\" is in {kind} \"{name}\", which gets its packets first", parent.value);
            let remedy = match owner.is_bridge() {
                true => format!("write parent = \"{name}\", and vlan-aware = true in that bridge"),
                false => format!("write parent = \"{name}\""),
            };
            parent.wrong(report, what, remedy);
        }
    }
}

fn bond_settings_fit_its_mode(report: &Report<'_>, links: &Links<'_>, link: &LinkAt) {
    let Kind::Bond { mode, lacp_rate, hash, primary } = &link.kind else { return };
    let refuse = |at: &At<()>, modes: &str| {
        at.wrong(
            report,
            format!("has no meaning in mode \"{}\"", mode.name()),
            format!("remove it, or write {modes}"),
        );
    };
    if let Some(rate) = lacp_rate
        && *mode != BondMode::Lacp
    {
        refuse(&rate.clone().map(|_| ()), "mode = \"802.3ad\"");
    }
    if let Some(hash) = hash
        && !matches!(mode, BondMode::Lacp | BondMode::BalanceXor | BondMode::BalanceTlb)
    {
        refuse(&hash.clone().map(|_| ()), "mode = \"802.3ad\" or \"balance-xor\"");
    }
    let Some(primary) = primary else { return };
    if !matches!(mode, BondMode::ActiveBackup | BondMode::BalanceTlb | BondMode::BalanceAlb) {
        refuse(&primary.clone().map(|_| ()), "mode = \"active-backup\"");
    }
    let wanted = links.canonical(&primary.value);
    if !link.ports.iter().any(|port| links.canonical(&port.value) == wanted) {
        let what = format!("\"{}\" is none of the bond's ports", primary.value);
        primary.wrong(report, what, "name one of them");
    }
}

fn vlans_of_a_bridge(report: &Report<'_>, link: &LinkAt) {
    let Kind::Bridge { vlan_aware, vlans } = &link.kind else { return };
    if let (Some(first), false) = (vlans.first(), vlan_aware) {
        let at = first.clone().map(|_| ());
        at.wrong(report, "has no meaning without vlan-aware", "add vlan-aware = true, or remove it");
    }
    for (index, range) in vlans.iter().enumerate() {
        let (a, earlier) = (range.value, &vlans[..index]);
        let shared = earlier.iter().find(|b| a.first <= b.value.last && b.value.first <= a.last);
        if let Some(first) = shared {
            range.wrong(report, format!("\"{a}\" overlaps \"{}\"", first.value), "name each VLAN once");
        }
    }
}

/// A link carries no larger packets than what it stands on, and what it sets for its ports they do not set otherwise.
fn packets_fit(report: &Report<'_>, links: &Links<'_>, link: &LinkAt) {
    if let (Kind::Vlan { parent, .. }, Some(mtu)) = (&link.kind, &link.mtu) {
        // A NIC that the file does not describe takes what the VLAN asks: the renderer raises it.
        let Some(trunk) = links.get(&parent.value) else { return };
        let most = trunk.mtu.as_ref().map_or(USUAL_MTU, |mtu| mtu.value);
        if mtu.value > most {
            let what = format!("{} is more than its parent \"{}\" carries, {most}", mtu.value, parent.value);
            mtu.wrong(report, what, "lower it, or raise mtu of the parent");
        }
    }
    for port in &link.ports {
        let Some(inner) = links.get(&port.value) else { continue };
        let Some(own) = &inner.mtu else { continue };
        let most = link.mtu.as_ref().map_or(USUAL_MTU, |mtu| mtu.value);
        let is_vlan = matches!(inner.kind, Kind::Vlan { .. });
        if own.value != most && !(is_vlan && own.value > most) {
            let (kind, name) = (link.kind.word(), &link.name.value);
            let what = format!("{} is not the mtu of {kind} \"{name}\" that it is in, {most}", own.value);
            own.wrong(report, what, format!("write the same in both, or only in {kind} \"{name}\""));
        }
    }
}

fn used_links_have_no_addresses(report: &Report<'_>, links: &Links<'_>, link: &LinkAt) {
    let (Some(owner), Some(given)) = (links.owner(&link.name.value), &link.addressing.given) else { return };
    if std::ptr::eq(owner, link) {
        return;
    }
    let what = format!(
        "\"{}\" is in {} \"{}\", which has the addresses",
        link.name.value,
        owner.kind.word(),
        owner.name.value
    );
    given.wrong(report, what, "move it there");
}
