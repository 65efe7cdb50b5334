//! node.toml's links with the layers over them: what this node shall have in all. Pure.
//!
//! Why here: the rules of who may say what stand together. node.toml owns its links: a layer may add ports to one, set
//! its MTU, the settings of a bond, VLANs of a bridge; never its addresses, its number, its parent or whose card it is. Of
//! two layers that describe one link the higher rank counts, of equal ranks none. What comes out passes the very rules
//! of node.toml. Route in: [`Network`], [`Layer`]s, the cards. Route out: [`Merged`], or [`Refusal`].

use super::layers::Layer;
use super::translate::{self, Result};
use sheaf_api::node_network::links as api;
use sheaf_config::diagnose::Problem;
use sheaf_config::load::parse_node_config;
use sheaf_config::node::{Network, Nic, NodeConfig};
use sheaf_host::nic::Nic as Card;
use std::collections::BTreeMap;

/// Who asks for the links of node.toml.
pub const NODE_TOML: &str = "node.toml";

/// All links that the node shall have.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// As node.toml would say it.
    pub network: Network,
    /// Who asks for each: [`NODE_TOML`], or the title of a layer.
    pub asked_by: BTreeMap<String, String>,
}

impl Merged {
    /// node.toml's links alone.
    pub fn plain(network: &Network) -> Self {
        let names = network.links().map(|(name, _)| (name.to_owned(), NODE_TOML.to_owned()));
        Self { network: network.clone(), asked_by: names.collect() }
    }
}

/// Why layers can not be laid over node.toml, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Lays `layers` over `node`, in the order of their ranks. `usual` is the MAC of the NIC taken where node.toml names none.
pub fn merge(
    node: &Network,
    layers: &[Layer],
    cards: &[Card],
    usual: Option<&str>,
) -> std::result::Result<Merged, Refusal> {
    let mut merged = Merged::plain(node);
    if layers.iter().all(|layer| layer.links == sheaf_api::node_network::Links::default()) {
        return Ok(merged);
    }
    say_the_only_nic(&mut merged.network, cards, usual);
    let mut order: Vec<&Layer> = layers.iter().collect();
    order.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
    for layer in &order {
        lay(&mut merged, node, layer, &order).map_err(|why| Refusal(format!("{}: {why}", layer.title())))?;
    }
    spell_cards(&mut merged.network, cards)?;
    ports_have_one_user(&merged, cards)?;
    check(&merged)?;
    Ok(merged)
}

/// Like [`merge`], without those of `layers` that do not fit: with the reason for each.
pub fn merge_what_fits(
    node: &Network,
    layers: &[Layer],
    cards: &[Card],
    usual: Option<&str>,
) -> (Merged, Vec<(String, Refusal)>) {
    let (mut fit, mut refused, mut merged) = (Vec::new(), Vec::new(), Merged::plain(node));
    for layer in layers {
        fit.push(layer.clone());
        match merge(node, &fit, cards, usual) {
            Ok(more) => merged = more,
            Err(refusal) => {
                fit.pop();
                refused.push((layer.name.clone(), refusal));
            }
        }
    }
    (merged, refused)
}

/// A bridge that means "the only NIC" says which: with other links about, that must not change.
pub(super) fn say_the_only_nic(network: &mut Network, cards: &[Card], usual: Option<&str>) {
    let Some(card) = crate::config::default_nic(cards, usual) else { return };
    for bridge in network.bridges.iter_mut().filter(|bridge| bridge.ports.is_empty()) {
        bridge.ports.push(card.permanent_mac.clone().unwrap_or_else(|| card.name.clone()));
    }
}

/// Whether `layer` is the one that describes the link `name`; an error when another of its rank does, too.
fn counts(layer: &Layer, name: &str, all: &[&Layer]) -> Result<bool> {
    let others = all.iter().filter(|other| other.name != layer.name && names(&other.links).contains(&name));
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

/// Names of all links that are described.
fn names(links: &api::Links) -> Vec<&str> {
    let nics = links.nics.iter().map(|link| link.name.as_str());
    let bonds = links.bonds.iter().map(|link| link.name.as_str());
    let vlans = links.vlans.iter().map(|link| link.name.as_str());
    let bridges = links.bridges.iter().map(|link| link.name.as_str());
    nics.chain(bonds).chain(vlans).chain(bridges).collect()
}

fn lay(merged: &mut Merged, node: &Network, layer: &Layer, all: &[&Layer]) -> Result<()> {
    let kind_in_node = |name: &str| {
        let kinds = [
            ("NIC", node.nics.iter().any(|link| link.name == name)),
            ("bond", node.bonds.iter().any(|link| link.name == name)),
            ("VLAN", node.vlans.iter().any(|link| link.name == name)),
            ("bridge", node.bridges.iter().any(|link| link.name == name)),
        ];
        kinds.into_iter().find_map(|(kind, is)| is.then_some(kind))
    };
    let own = |merged: &mut Merged, name: &str, kind: &str, addressing: &api::Addressing| {
        let Some(of_node) = kind_in_node(name) else {
            if counts(layer, name, all)? {
                merged.asked_by.insert(name.to_owned(), layer.title());
                return Ok(Some(false));
            }
            return Ok(None);
        };
        if of_node != kind {
            return Err(format!("{name} is a {of_node} of node.toml; give the {kind} another name"));
        }
        let given = addressing.given();
        if !given.is_empty() {
            return Err(format!(
                "{name} is a link of node.toml, which says how it is addressed; remove {}",
                given.join(", ")
            ));
        }
        Ok(Some(true))
    };
    for link in &layer.links.nics {
        match own(merged, &link.name, "NIC", &link.addressing)? {
            Some(true) => extend_nic(&mut merged.network, link),
            Some(false) => {
                let nic = translate::nic(link).map_err(|why| format!("NIC {}: {why}", link.name))?;
                merged.network.nics.push(nic);
                Ok(())
            }
            None => Ok(()),
        }?;
    }
    for link in &layer.links.bonds {
        match own(merged, &link.name, "bond", &link.addressing)? {
            Some(true) => extend_bond(&mut merged.network, link),
            Some(false) if link.ports.is_empty() => {
                Err(format!("bond {} has no ports; name its network cards", link.name))
            }
            Some(false) => {
                let bond = translate::bond(link).map_err(|why| format!("bond {}: {why}", link.name))?;
                merged.network.bonds.push(bond);
                Ok(())
            }
            None => Ok(()),
        }?;
    }
    for link in &layer.links.vlans {
        match own(merged, &link.name, "VLAN", &link.addressing)? {
            Some(true) => extend_vlan(&mut merged.network, link),
            Some(false) => {
                let vlan = translate::vlan(link).map_err(|why| format!("VLAN {}: {why}", link.name))?;
                merged.network.vlans.push(vlan);
                Ok(())
            }
            None => Ok(()),
        }?;
    }
    for link in &layer.links.bridges {
        match own(merged, &link.name, "bridge", &link.addressing)? {
            Some(true) => extend_bridge(&mut merged.network, link),
            Some(false) if link.ports.is_empty() => {
                Err(format!("bridge {} has no ports; name a network card, a bond or a VLAN", link.name))
            }
            Some(false) => {
                let bridge = translate::bridge(link).map_err(|why| format!("bridge {}: {why}", link.name))?;
                merged.network.bridges.push(bridge);
                Ok(())
            }
            None => Ok(()),
        }?;
    }
    Ok(())
}

fn extend_nic(network: &mut Network, ask: &api::Nic) -> Result<()> {
    if ask.mac.is_some() || ask.path.is_some() {
        return Err(format!("{} is a NIC of node.toml, which says which one; remove mac and path", ask.name));
    }
    if let Some(nic) = network.nics.iter_mut().find(|nic| nic.name == ask.name) {
        nic.mtu = ask.mtu.or(nic.mtu);
    }
    Ok(())
}

fn extend_bond(network: &mut Network, ask: &api::Bond) -> Result<()> {
    let ports = translate::ports(&ask.ports).map_err(|why| format!("bond {}: {why}", ask.name))?;
    let Some(bond) = network.bonds.iter_mut().find(|bond| bond.name == ask.name) else { return Ok(()) };
    add(&mut bond.ports, ports);
    if let Some(mode) = ask.mode.map(translate::mode)
        && mode != bond.mode
    {
        bond.mode = mode;
        // They were written for the other mode.
        (bond.lacp_rate, bond.transmit_hash_policy, bond.primary) = (None, None, None);
    }
    bond.lacp_rate = ask.lacp_rate.map(translate::lacp_rate).or(bond.lacp_rate);
    bond.transmit_hash_policy =
        ask.transmit_hash_policy.map(translate::hash_policy).or(bond.transmit_hash_policy);
    bond.primary = ask.primary.clone().or(bond.primary.take());
    bond.miimon = ask.miimon.unwrap_or(bond.miimon);
    bond.mtu = ask.mtu.or(bond.mtu);
    Ok(())
}

fn extend_vlan(network: &mut Network, ask: &api::Vlan) -> Result<()> {
    let Some(vlan) = network.vlans.iter_mut().find(|vlan| vlan.name == ask.name) else { return Ok(()) };
    if (vlan.id, vlan.parent.as_str()) != (ask.id, ask.parent.as_str()) {
        return Err(format!(
            "{} is VLAN {} of {} in node.toml, and stays that; give another VLAN another name",
            ask.name, vlan.id, vlan.parent
        ));
    }
    vlan.mtu = ask.mtu.or(vlan.mtu);
    Ok(())
}

fn extend_bridge(network: &mut Network, ask: &api::Bridge) -> Result<()> {
    let of = |why: String| format!("bridge {}: {why}", ask.name);
    let (ports, vlans) =
        (translate::ports(&ask.ports).map_err(of)?, translate::ranges(&ask.vlans).map_err(of)?);
    let Some(bridge) = network.bridges.iter_mut().find(|bridge| bridge.name == ask.name) else {
        return Ok(());
    };
    add(&mut bridge.ports, ports);
    bridge.vlan_aware = ask.vlan_aware.unwrap_or(bridge.vlan_aware);
    if !vlans.is_empty() {
        bridge.vlans = vlans;
    }
    bridge.mtu = ask.mtu.or(bridge.mtu);
    Ok(())
}

fn add(ports: &mut Vec<String>, more: Vec<String>) {
    for port in more {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
}

/// The card that `text` means: a name of a NIC's table, a MAC, or a kernel name.
pub(super) fn card<'c>(network: &Network, cards: &'c [Card], text: &str) -> Option<&'c Card> {
    let of_nic = |nic: &Nic| match (&nic.mac, &nic.path) {
        (Some(mac), _) => cards.iter().find(|card| card.permanent_mac.as_deref() == Some(mac)),
        (None, Some(path)) => cards.iter().find(|card| card.path.as_ref() == Some(path)),
        (None, None) => cards.iter().find(|card| card.name == nic.name),
    };
    if let Some(nic) = network.nics.iter().find(|nic| nic.name == text) {
        return of_nic(nic);
    }
    cards.iter().find(|card| card.permanent_mac.as_deref() == Some(text) || card.name == text)
}

/// One spelling for each card, the first one, which is node.toml's where it has one: networkd's first file for a card is
/// the only one that counts.
fn spell_cards(network: &mut Network, cards: &[Card]) -> std::result::Result<(), Refusal> {
    let before = network.clone();
    let mut spelt: BTreeMap<&str, String> = BTreeMap::new();
    for nic in &before.nics {
        let Some(card) = card(&before, cards, &nic.name) else { continue };
        if let Some(first) = spelt.insert(&card.name, nic.name.clone()) {
            return Err(Refusal(format!(
                "NIC {} is {}, which is NIC {first} already; describe it once",
                nic.name, card.name
            )));
        }
    }
    let is_link = |text: &str| {
        before.bonds.iter().any(|link| link.name == text)
            || before.vlans.iter().any(|link| link.name == text)
            || before.bridges.iter().any(|link| link.name == text)
    };
    let mut spell = |text: &mut String| {
        if is_link(text) {
            return;
        }
        if let Some(card) = card(&before, cards, text) {
            *text = spelt.entry(&card.name).or_insert_with(|| text.clone()).clone();
        }
    };
    network.bridges.iter_mut().flat_map(|bridge| &mut bridge.ports).for_each(&mut spell);
    network.bonds.iter_mut().flat_map(|bond| &mut bond.ports).for_each(&mut spell);
    network.bonds.iter_mut().filter_map(|bond| bond.primary.as_mut()).for_each(&mut spell);
    network.vlans.iter_mut().map(|vlan| &mut vlan.parent).for_each(&mut spell);
    for ports in network
        .bridges
        .iter_mut()
        .map(|bridge| &mut bridge.ports)
        .chain(network.bonds.iter_mut().map(|bond| &mut bond.ports))
    {
        let all = std::mem::take(ports);
        add(ports, all);
    }
    Ok(())
}

/// Said here with who owns what; the rules of node.toml only know names.
fn ports_have_one_user(merged: &Merged, cards: &[Card]) -> std::result::Result<(), Refusal> {
    let network = &merged.network;
    let bridges = network.bridges.iter().map(|link| ("bridge", &link.name, &link.ports));
    let bonds = network.bonds.iter().map(|link| ("bond", &link.name, &link.ports));
    let mut users: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for (kind, name, ports) in bridges.chain(bonds) {
        for port in ports {
            let Some((other_kind, other)) = users.insert(port, (kind, name)) else { continue };
            let asked = |name: &str| merged.asked_by.get(name).map_or(NODE_TOML, String::as_str).to_owned();
            let called = match card(network, cards, port) {
                Some(card) if card.name != *port => format!("{port} ({})", card.name),
                _ => port.clone(),
            };
            return Err(Refusal(format!(
                "{called} is a port of {other_kind} {other} ({}), so it can not be one of {kind} {name} ({}); name another",
                asked(other),
                asked(name)
            )));
        }
    }
    Ok(())
}

/// The rules of node.toml.
fn check(merged: &Merged) -> std::result::Result<(), Refusal> {
    let links = Network {
        nics: merged.network.nics.clone(),
        bonds: merged.network.bonds.clone(),
        vlans: merged.network.vlans.clone(),
        bridges: merged.network.bridges.clone(),
        ..Network::without_links()
    };
    let config = NodeConfig { network: links, ..NodeConfig::named("node") };
    let text = config.to_toml().map_err(|error| Refusal(error.to_string()))?;
    let Err(errors) = parse_node_config("links", &text) else { return Ok(()) };
    let said: Vec<_> = errors.problems.iter().map(|problem| tell(merged, problem)).collect();
    Err(Refusal(said.join("\n")))
}

/// A problem by the name of the link instead of its place in a file that nobody wrote.
fn tell(merged: &Merged, problem: &Problem) -> String {
    let Problem { path, what, remedy, .. } = problem;
    let network = &merged.network;
    let place = path.strip_prefix("network.").and_then(|rest| {
        let (kind, rest) = rest.split_once('[')?;
        let (index, key) = rest.split_once(']')?;
        let index: usize = index.parse().ok()?;
        let name = match kind {
            "nic" => &network.nics.get(index)?.name,
            "bond" => &network.bonds.get(index)?.name,
            "vlan" => &network.vlans.get(index)?.name,
            _ => &network.bridges.get(index)?.name,
        };
        let by = merged.asked_by.get(name).map_or(NODE_TOML, String::as_str);
        Some(format!("{kind} {name} ({by}){}", key.replacen('.', ": ", 1)))
    });
    format!("{}: {}; {remedy}", place.as_deref().unwrap_or(path), without_lines(what))
}

/// `… of line 12` names a line of no file.
fn without_lines(what: &str) -> String {
    let mut text = what.to_owned();
    for words in [" in line ", " of line "] {
        if let Some(at) = text.find(words) {
            let end = text[at + words.len()..].find(|c: char| !c.is_ascii_digit());
            let rest = end.map(|end| text[at + words.len() + end..].to_owned()).unwrap_or_default();
            text = format!(
                "{}{}{rest}",
                &text[..at],
                if words == " of line " { " of another link" } else { "" }
            );
        }
    }
    text
}
