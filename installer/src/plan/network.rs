//! Links and cards: every card that node.toml speaks of must be one of this machine.
//!
//! Why before the disk is touched: a node whose bridge has no card can not be reached to mend it. The node resolves
//! its ports anew at each boot; this only makes sure that it can. Route in: `[network]`, wired cards.
//! Route out: [`BridgePorts`], or errors that list the cards.

use super::PlanError;
use crate::inventory::Nic;
use serde::Serialize;
use sheaf_config::node::Network;
use sheaf_config::select;
use std::collections::BTreeMap;

/// What a bridge has in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BridgePorts {
    /// Name of the bridge.
    pub bridge: String,
    /// Cards by kernel name and permanent MAC address; bonds and VLANs with what they consist of.
    pub ports: Vec<String>,
}

/// The names that a config gives to links, and the cards that a machine has.
#[derive(Clone, Copy, Debug)]
pub struct Cards<'a> {
    /// What the config says.
    pub network: &'a Network,
    /// What the machine has.
    pub nics: &'a [Nic],
}

impl<'a> Cards<'a> {
    /// The card that `name` env: a name of `[[network.nic]]`, a kernel name or a permanent MAC address.
    pub fn find(&self, name: &str) -> Option<&'a Nic> {
        select::nic(name, self.network, self.nics)
    }

    /// Cards at the bottom of the link `name`, whatever lies between.
    pub fn under(&self, name: &str) -> Vec<&'a Nic> {
        let all = |ports: &[String]| ports.iter().flat_map(|port| self.under(port)).collect();
        if let Some(bridge) = self.network.bridges.iter().find(|bridge| bridge.name == name) {
            return match (bridge.ports.is_empty(), self.nics) {
                (true, [nic]) => vec![nic],
                _ => all(&bridge.ports),
            };
        }
        if let Some(bond) = self.network.bonds.iter().find(|bond| bond.name == name) {
            return all(&bond.ports);
        }
        match self.network.vlans.iter().find(|vlan| vlan.name == name) {
            Some(vlan) => self.under(&vlan.parent),
            None => self.find(name).into_iter().collect(),
        }
    }

    fn is_made(&self, name: &str) -> bool {
        self.network.bonds.iter().any(|bond| bond.name == name)
            || self.network.vlans.iter().any(|vlan| vlan.name == name)
            || self.network.bridges.iter().any(|bridge| bridge.name == name)
    }
}

pub(super) fn resolve(network: &Network, nics: &[Nic], errors: &mut Vec<PlanError>) -> Vec<BridgePorts> {
    let cards = Cards { network, nics };
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    let mut refuse = |link: &str, reason: String, remedy: String| {
        errors.push(PlanError::Network { link: link.to_owned(), reason, remedy });
    };
    for nic in network.nics.iter().filter(|nic| cards.find(&nic.name).is_none()) {
        let wanted = [("mac", &nic.mac), ("path", &nic.path)];
        let wanted: Vec<_> =
            wanted.iter().filter_map(|(key, value)| Some(format!("{key} \"{}\"", value.as_ref()?))).collect();
        let wanted = if wanted.is_empty() { format!("name \"{}\"", nic.name) } else { wanted.join(" and ") };
        refuse(
            &format!("network.nic \"{}\"", nic.name),
            format!("no card has {wanted}"),
            format!("write what one of these has: {}", list(nics)),
        );
    }
    let bonds = network.bonds.iter().map(|bond| (format!("network.bond \"{}\"", bond.name), &bond.ports[..]));
    let vlans = network.vlans.iter();
    let vlans =
        vlans.map(|vlan| (format!("network.vlan \"{}\"", vlan.name), std::slice::from_ref(&vlan.parent)));
    let bridges = network.bridges.iter();
    let bridges = bridges.map(|bridge| (format!("network.bridge \"{}\"", bridge.name), &bridge.ports[..]));
    for (link, ports) in bonds.chain(vlans).chain(bridges) {
        let is_vlan = link.starts_with("network.vlan");
        match (ports.is_empty(), nics) {
            (true, [nic]) => take(&link, nic, &mut taken, &mut refuse),
            (true, []) => refuse(
                &link,
                "has no ports and this machine shows no wired network card".into(),
                "put in a card that this release has a driver for".into(),
            ),
            (true, _) => refuse(
                &link,
                format!("has no ports and this machine has several cards: {}", list(nics)),
                "write the MAC address of one in ports".into(),
            ),
            (false, _) => {
                for port in ports.iter().filter(|port| !cards.is_made(port)) {
                    match cards.find(port) {
                        // A card may carry VLANs and be something else besides.
                        Some(_) if is_vlan => {}
                        Some(nic) => take(&link, nic, &mut taken, &mut refuse),
                        // Said above, for the entry that gives the name.
                        None if network.nics.iter().any(|nic| nic.name == **port) => {}
                        None => refuse(
                            &link,
                            format!("no card is \"{port}\""),
                            format!("write the MAC address of one of these in ports: {}", list(nics)),
                        ),
                    }
                }
            }
        }
    }
    let ports = |bridge: &sheaf_config::node::Bridge| match (bridge.ports.is_empty(), nics) {
        (true, [nic]) => vec![name(nic)],
        _ => bridge.ports.iter().map(|port| described(&cards, port)).collect(),
    };
    network
        .bridges
        .iter()
        .map(|bridge| BridgePorts { bridge: bridge.name.clone(), ports: ports(bridge) })
        .collect()
}

fn take<'n>(
    link: &str,
    nic: &'n Nic,
    taken: &mut BTreeMap<&'n str, String>,
    refuse: &mut impl FnMut(&str, String, String),
) {
    if let Some(other) = taken.insert(&nic.name, link.to_owned()) {
        refuse(
            link,
            format!("{} is already a port of {other}", name(nic)),
            "a card can be in one link only, once".into(),
        );
    }
}

/// A port in words, with the cards under it.
fn described(cards: &Cards<'_>, port: &str) -> String {
    if !cards.is_made(port) {
        return cards.find(port).map_or_else(|| port.to_owned(), name);
    }
    let under: Vec<_> = cards.under(port).into_iter().map(name).collect();
    match cards.network.vlans.iter().find(|vlan| vlan.name == port) {
        Some(vlan) => format!("{port} (VLAN {} of {} over {})", vlan.id, vlan.parent, under.join(", ")),
        None => format!("{port} (over {})", under.join(", ")),
    }
}

fn name(nic: &Nic) -> String {
    match &nic.permanent_mac {
        Some(mac) => format!("{} ({mac})", nic.name),
        None => nic.name.clone(),
    }
}

fn list(nics: &[Nic]) -> String {
    if nics.is_empty() {
        return "this machine shows no wired network card".into();
    }
    nics.iter().map(name).collect::<Vec<_>>().join(", ")
}
