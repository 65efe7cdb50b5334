//! From the links that networkd follows to those that it shall follow: the steps, and those that roll back. Pure.
//!
//! Why here: networkd makes devices and never removes one, nor does it change the kind of thing that a bond's mode or a
//! VLAN's number is; what it leaves undone is named here, step by step. A bridge is changed in place and never made again
//! while it stays: VMs are in it. Route in: both networks and the NICs. Route out: [`Step`]s, which [`super::trial`]
//! carries out, and which the reverter reads from a file.

use super::{files, spelling};
use crate::names::is_tap;
use serde::{Deserialize, Serialize};
use sheaf_links::{Bond, FoundNic, Links, MIIMON, USUAL_MTU};
use std::collections::{BTreeMap, BTreeSet};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The device goes, if it is there: networkd makes it again, or nobody does.
    Delete(String),
    /// The NIC leaves what it is in and keeps no address: nobody asks for it any more, or somebody else does.
    Release(String),
    /// The bridge keeps VLANs apart from now on, or no longer.
    Filter(String, bool),
    /// The link carries packets of this size: networkd sets none where a file no longer says one.
    Mtu(String, u32),
    /// The bridge has this MAC.
    Mac(String, String),
    /// A file of networkd or udev, in /run/systemd/network, is this.
    Write(String, String),
    /// That file goes.
    Remove(String),
    /// networkd has processed everything that was deleted: what it hears later, it would say of the device made again. (A
    /// bond that leaves a bridge is told gone twice, and the second time seconds later.)
    Heard,
    /// networkd reads its files again.
    Reload,
    /// networkd configures the link again.
    Reconfigure(String),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delete(link) => write!(f, "delete {link}"),
            Self::Release(link) => write!(f, "release {link}"),
            Self::Filter(link, on) => {
                write!(f, "{} VLANs of {link}", if *on { "filter" } else { "do not filter" })
            }
            Self::Mtu(link, mtu) => write!(f, "set the MTU of {link} to {mtu}"),
            Self::Mac(link, mac) => write!(f, "set the MAC of {link} to {mac}"),
            Self::Write(file, _) => write!(f, "write {file}"),
            Self::Remove(file) => write!(f, "remove {file}"),
            Self::Heard => write!(f, "wait until networkd has processed the deletion"),
            Self::Reload => write!(f, "reload networkd"),
            Self::Reconfigure(link) => write!(f, "reconfigure {link}"),
        }
    }
}

/// What both networks are rendered with.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// Its wired NICs.
    pub found_nics: &'a [FoundNic],
    /// MAC of the NIC taken where node.toml names none.
    pub usual: Option<&'a str>,
}

impl Machine<'_> {
    fn files(&self, network: &Links) -> BTreeMap<String, String> {
        files::files(network, self.found_nics, self.usual).into_iter().collect()
    }

    /// The kernel's name of the NIC that `text` means.
    fn found_nic(&self, network: &Links, text: &str) -> Option<&str> {
        network.find(text, self.found_nics).map(|found_nic| found_nic.name.as_str())
    }
}

/// The steps that lead from `now` to `then`; none when nothing is different.
pub fn steps(now: &Links, then: &Links, machine: Machine<'_>) -> Vec<Step> {
    // A bridge that means the only NIC holds it as one that names it does.
    let said = |network: &Links| {
        let mut network = network.clone();
        spelling::name_the_only_nic(&mut network, machine.found_nics, machine.usual);
        network
    };
    let (now, then) = (&said(now), &said(then));
    let (old, new) = (machine.files(now), machine.files(then));
    let mut steps = Vec::new();
    let gone = deleted(now, then);
    steps.extend(gone.iter().cloned().map(Step::Delete));
    steps.extend(released(now, then, machine).into_iter().map(Step::Release));
    steps.extend(resized(now, then, machine, &gone));
    steps.extend(in_place(now, then, machine));
    // networkd makes a missing device only by a file that it has not read yet, be it as it was.
    let made_anew: BTreeSet<String> = gone.iter().map(|name| files::netdev(name)).collect();
    for (name, text) in &new {
        if old.get(name) != Some(text) || made_anew.contains(name) {
            steps.push(Step::Write(name.clone(), text.clone()));
        }
    }
    steps.extend(old.keys().filter(|name| !new.contains_key(*name)).cloned().map(Step::Remove));
    if steps.is_empty() {
        return steps;
    }
    if !gone.is_empty() {
        steps.push(Step::Heard);
    }
    steps.push(Step::Reload);
    // Whatever stands on a device that is made again must find it, though its own files are the same.
    let mut again: BTreeSet<String> = BTreeSet::new();
    for name in &gone {
        for (user, kind) in stands_on(then, name) {
            match kind {
                // A port: asks to be let in by the file that it has.
                "port" => again.extend(machine.found_nic(then, user).map(str::to_owned)),
                _ => again.extend(Some(user.to_owned())),
            }
        }
    }
    steps.extend(again.into_iter().filter(|name| !gone.contains(name)).map(Step::Reconfigure));
    steps
}

/// Links in `network` that have to do with the device `name`: its ports, and what it carries VLANs for.
fn stands_on<'n>(network: &'n Links, name: &str) -> Vec<(&'n str, &'static str)> {
    let bonds = network.bonds.iter().filter(|bond| bond.name == name).flat_map(|bond| &bond.ports);
    let bridges = network.bridges.iter().filter(|bridge| bridge.name == name).flat_map(|link| &link.ports);
    let parents = network.vlans.iter().filter(|vlan| vlan.name == name).map(|vlan| &vlan.parent);
    let mut found: Vec<_> = bonds.chain(bridges).map(|port| (port.as_str(), "port")).collect();
    for parent in parents {
        let is_nic = ![
            network.bonds.iter().any(|link| link.name == *parent),
            network.bridges.iter().any(|link| link.name == *parent),
        ]
        .contains(&true);
        found.push((parent, if is_nic { "port" } else { "parent" }));
    }
    found
}

/// Devices of `now` that are not in `then`, or are there as something that the kernel cannot turn them into; VLANs first.
fn deleted(now: &Links, then: &Links) -> Vec<String> {
    let bonds = now.bonds.iter().filter(|bond| {
        let same = then.bonds.iter().find(|same| same.name == bond.name);
        same.is_none_or(|same| {
            let kind = |bond: &Bond| {
                (bond.mode(), bond.lacp_rate, bond.transmit_hash_policy, bond.miimon.unwrap_or(MIIMON))
            };
            kind(same) != kind(bond)
        })
    });
    let bridges =
        now.bridges.iter().filter(|bridge| !then.bridges.iter().any(|same| same.name == bridge.name));
    let masters: Vec<&String> =
        bonds.map(|bond| &bond.name).chain(bridges.map(|bridge| &bridge.name)).collect();
    let vlans = now.vlans.iter().filter(|vlan| {
        let same = then.vlans.iter().find(|same| same.name == vlan.name);
        let is_same = same.is_some_and(|same| (same.id, &same.parent) == (vlan.id, &vlan.parent));
        // It goes with what it stands on.
        !is_same || masters.contains(&&vlan.parent)
    });
    vlans.map(|vlan| &vlan.name).chain(masters.iter().copied()).cloned().collect()
}

/// NICs that leave what they are in, or that nobody asks for any more.
fn released(now: &Links, then: &Links, machine: Machine<'_>) -> Vec<String> {
    let (old, new) = (uses(now, machine), uses(then, machine));
    let left = |(found_nic, master): (&String, &Option<String>)| match new.get(found_nic) {
        None => Some(found_nic.clone()),
        Some(new) if new != master && master.is_some() => Some(found_nic.clone()),
        Some(_) => None,
    };
    old.iter().filter_map(left).collect()
}

/// Every NIC that `network` means, and what it is in.
fn uses(network: &Links, machine: Machine<'_>) -> BTreeMap<String, Option<String>> {
    let mut uses = BTreeMap::new();
    let mut set = |text: &str, master: Option<&str>| {
        if let Some(found_nic) = machine.found_nic(network, text) {
            let master = master.map(str::to_owned);
            let entry: &mut Option<String> = uses.entry(found_nic.to_owned()).or_default();
            *entry = master.or(entry.take());
        }
    };
    for nic in &network.nics {
        set(&nic.name, None);
    }
    for vlan in &network.vlans {
        set(&vlan.parent, None);
    }
    for (name, ports) in network
        .bonds
        .iter()
        .map(|bond| (&bond.name, &bond.ports))
        .chain(network.bridges.iter().map(|bridge| (&bridge.name, &bridge.ports)))
    {
        for port in ports {
            set(port, Some(name));
        }
    }
    uses
}

/// Links that stay and get another MTU: NICs first, since what stands on them cannot carry more.
fn resized(now: &Links, then: &Links, machine: Machine<'_>, gone: &[String]) -> Vec<Step> {
    let given = |links| files::given(links, machine.found_nics, machine.usual);
    let (old, new) = (given(now), given(then));
    let usual = |(mtu, _): &(Option<u32>, Option<String>)| mtu.unwrap_or(USUAL_MTU);
    let mut links: Vec<(&String, u32)> = old
        .iter()
        .filter(|(name, _)| !gone.contains(name))
        .filter_map(|(name, old)| {
            let new = usual(new.get(name)?);
            (usual(old) != new).then_some((name, new))
        })
        .collect();
    let is = |name: &str| {
        let bond = then.bonds.iter().any(|link| link.name == name);
        let vlan = then.vlans.iter().any(|link| link.name == name);
        let bridge = then.bridges.iter().any(|link| link.name == name);
        (bridge, vlan, bond)
    };
    links.sort_by_key(|(name, _)| is(name));
    links.into_iter().map(|(name, mtu)| Step::Mtu(name.clone(), mtu)).collect()
}

/// What networkd would set only at a bridge that it makes.
fn in_place(now: &Links, then: &Links, machine: Machine<'_>) -> Vec<Step> {
    let given = |links| files::given(links, machine.found_nics, machine.usual);
    let (old, new) = (given(now), given(then));
    let mac = |given: &BTreeMap<String, (_, Option<String>)>, name: &str| {
        given.get(name).and_then(|(_, mac)| mac.clone())
    };
    let mut steps = Vec::new();
    for bridge in &then.bridges {
        let Some(before) = now.bridges.iter().find(|before| before.name == bridge.name) else { continue };
        let name = &bridge.name;
        if before.vlan_aware() != bridge.vlan_aware() {
            steps.push(Step::Filter(name.clone(), bridge.vlan_aware()));
        }
        if let Some(mac) = mac(&new, name).filter(|new| mac(&old, name).as_ref() != Some(new)) {
            steps.push(Step::Mac(name.clone(), mac));
        }
    }
    steps
}

/// Bridges that `steps` would delete under VMs: name and how many interfaces of VMs are in each.
pub fn under_vms(steps: &[Step], links: &[sheaf_host::links::Link]) -> Vec<(String, usize)> {
    let deleted = steps.iter().filter_map(|step| match step {
        Step::Delete(name) => links.iter().find(|link| link.name == *name),
        _ => None,
    });
    let with_vms = |link: &sheaf_host::links::Link| {
        let vms = link.bridge_ports.iter().flatten().filter(|port| is_tap(port)).count();
        (vms > 0).then(|| (link.name.clone(), vms))
    };
    deleted.filter_map(with_vms).collect()
}
