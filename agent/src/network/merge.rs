//! node.toml's links with the layers over them: what this node shall have in all. Pure.
//!
//! Why here: the rules of who may say what stand together. node.toml owns its links: a layer may add ports to one, set
//! its MTU, the settings of a bond, VLANs of a bridge; never its addresses, its number, its parent or whose NIC it is. Of
//! two layers that describe one link the higher rank counts, of equal ranks none. What comes out is spelt by
//! [`super::spelling`] and passes the rules of node.toml ([`super::validation`]). Route in: [`Links`], [`Layer`]s, the
//! NICs. Route out: [`Merged`], or [`Refusal`].

use super::layers::Layer;
use super::{spelling, validation};
use sheaf_links::{Bond, Bridge, FoundNic, Link, LinkRef, Links, Nic, Vlan};
use std::collections::BTreeMap;

/// Who asks for the links of node.toml.
pub const NODE_TOML: &str = "node.toml";

/// All links that the node shall have.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// As node.toml would say it.
    pub links: Links,
    /// Who asks for each: [`NODE_TOML`], or the title of a layer.
    pub asked_by: BTreeMap<String, String>,
}

impl Merged {
    /// node.toml's links alone.
    pub fn plain(node: &Links) -> Self {
        let asked_by = node.all().map(|link| (link.name().to_owned(), NODE_TOML.to_owned())).collect();
        Self { links: node.clone(), asked_by }
    }

    /// Who asks for the link `name`.
    pub fn asked_by(&self, name: &str) -> &str {
        self.asked_by.get(name).map_or(NODE_TOML, String::as_str)
    }
}

/// Why layers cannot be laid over node.toml, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Lays `layers` over `node`, in the order of their ranks. `usual` is the MAC of the NIC taken where node.toml names none.
pub fn merge(
    node: &Links,
    layers: &[Layer],
    found_nics: &[FoundNic],
    usual: Option<&str>,
) -> Result<Merged, Refusal> {
    let mut merged = Merged::plain(node);
    if layers.iter().all(|layer| layer.links.is_empty()) {
        return Ok(merged);
    }
    spelling::name_the_only_nic(&mut merged.links, found_nics, usual);
    let mut order: Vec<&Layer> = layers.iter().collect();
    order.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
    for layer in &order {
        lay(&mut merged, node, layer, &order).map_err(|why| Refusal(format!("{}: {why}", layer.title())))?;
    }
    spelling::spell_nics(&mut merged.links, found_nics)?;
    validation::check(&merged, found_nics)?;
    Ok(merged)
}

/// Like [`merge`], without those of `layers` that do not fit: with the reason for each.
pub fn merge_what_fits(
    node: &Links,
    layers: &[Layer],
    found_nics: &[FoundNic],
    usual: Option<&str>,
) -> (Merged, Vec<(String, Refusal)>) {
    let (mut fit, mut refused, mut merged) = (Vec::new(), Vec::new(), Merged::plain(node));
    for layer in layers {
        fit.push(layer.clone());
        match merge(node, &fit, found_nics, usual) {
            Ok(more) => merged = more,
            Err(refusal) => {
                fit.pop();
                refused.push((layer.name.clone(), refusal));
            }
        }
    }
    (merged, refused)
}

/// Whether `layer` is the one that describes the link `name`; an error when another of its rank does, too.
fn counts(layer: &Layer, name: &str, all: &[&Layer]) -> Result<bool, String> {
    let others = all.iter().filter(|other| other.name != layer.name && other.links.get(name).is_some());
    let Some(highest) = others.max_by_key(|other| other.rank) else { return Ok(true) };
    if highest.rank == layer.rank {
        return Err(format!(
            "{name} is described by {}, too, and both have rank {}; rename one, or give the one that counts a higher rank",
            highest.title(),
            layer.rank
        ));
    }
    Ok(highest.rank < layer.rank)
}

fn lay(merged: &mut Merged, node: &Links, layer: &Layer, all: &[&Layer]) -> Result<(), String> {
    let asked = layer.links.clone().normal();
    for link in asked.all() {
        let (name, kind) = (link.name(), link.kind());
        let Some(of_node) = node.get(name).map(LinkRef::kind) else {
            if counts(layer, name, all)? {
                merged.asked_by.insert(name.to_owned(), layer.title());
                add(&mut merged.links, link)?;
            }
            continue;
        };
        if of_node != kind {
            let (of_node, kind) = (of_node.word(), kind.word());
            return Err(format!("{name} is a {of_node} of node.toml; give the {kind} another name"));
        }
        let given = link.addressing().given();
        if !given.is_empty() {
            return Err(format!(
                "{name} is a link of node.toml, which says how it is addressed; remove {}",
                given.join(", ")
            ));
        }
        match link.link {
            Link::Nic(ask) => extend_nic(&mut merged.links, ask)?,
            Link::Bond(ask) => extend_bond(&mut merged.links, ask),
            Link::Vlan(ask) => extend_vlan(&mut merged.links, ask)?,
            Link::Bridge(ask) => extend_bridge(&mut merged.links, ask),
        }
    }
    Ok(())
}

/// A link of the layer's own.
fn add(links: &mut Links, link: LinkRef<'_>) -> Result<(), String> {
    match link.link {
        Link::Nic(nic) => links.nics.push(nic.clone()),
        Link::Bond(bond) if bond.ports.is_empty() => {
            return Err(format!("bond {} has no ports; name its NICs", bond.name));
        }
        Link::Bond(bond) => links.bonds.push(bond.clone()),
        Link::Vlan(vlan) => links.vlans.push(vlan.clone()),
        Link::Bridge(bridge) if bridge.ports.is_empty() => {
            return Err(format!("bridge {} has no ports; name a NIC, a bond or a VLAN", bridge.name));
        }
        Link::Bridge(bridge) => {
            let mut bridge = bridge.clone();
            // node.toml's bridges ask DHCP when they are given nothing; those of a policy are for VMs then.
            bridge.addressing.dhcp = Some(bridge.addressing.asks_dhcp());
            links.bridges.push(bridge);
        }
    }
    Ok(())
}

fn extend_nic(links: &mut Links, ask: &Nic) -> Result<(), String> {
    if ask.mac.is_some() || ask.path.is_some() {
        return Err(format!("{} is a NIC of node.toml, which says which one; remove mac and path", ask.name));
    }
    if let Some(nic) = links.nics.iter_mut().find(|nic| nic.name == ask.name) {
        nic.mtu = ask.mtu.or(nic.mtu);
    }
    Ok(())
}

fn extend_bond(links: &mut Links, ask: &Bond) {
    let Some(bond) = links.bonds.iter_mut().find(|bond| bond.name == ask.name) else { return };
    add_ports(&mut bond.ports, &ask.ports);
    if ask.mode.is_some_and(|mode| mode != bond.mode()) {
        bond.mode = ask.mode;
        // They were written for the other mode.
        (bond.lacp_rate, bond.transmit_hash_policy, bond.primary) = (None, None, None);
    }
    bond.lacp_rate = ask.lacp_rate.or(bond.lacp_rate);
    bond.transmit_hash_policy = ask.transmit_hash_policy.or(bond.transmit_hash_policy);
    bond.primary = ask.primary.clone().or(bond.primary.take());
    bond.miimon = ask.miimon.or(bond.miimon);
    bond.mtu = ask.mtu.or(bond.mtu);
}

fn extend_vlan(links: &mut Links, ask: &Vlan) -> Result<(), String> {
    let Some(vlan) = links.vlans.iter_mut().find(|vlan| vlan.name == ask.name) else { return Ok(()) };
    if (vlan.id, vlan.parent.as_str()) != (ask.id, ask.parent.as_str()) {
        return Err(format!(
            "{} is VLAN {} of {} in node.toml, which a policy cannot change; give another VLAN another name",
            ask.name, vlan.id, vlan.parent
        ));
    }
    vlan.mtu = ask.mtu.or(vlan.mtu);
    Ok(())
}

fn extend_bridge(links: &mut Links, ask: &Bridge) {
    let Some(bridge) = links.bridges.iter_mut().find(|bridge| bridge.name == ask.name) else { return };
    add_ports(&mut bridge.ports, &ask.ports);
    bridge.vlan_aware = ask.vlan_aware.or(bridge.vlan_aware);
    if !ask.vlans.is_empty() {
        bridge.vlans.clone_from(&ask.vlans);
    }
    bridge.mtu = ask.mtu.or(bridge.mtu);
}

/// Adds those of `more` that are not there.
pub(super) fn add_ports(ports: &mut Vec<String>, more: &[String]) {
    for port in more {
        if !ports.contains(port) {
            ports.push(port.clone());
        }
    }
}
