//! One spelling for each card of the machine. Pure.
//!
//! Why here: a bridge that means "the only NIC" and a policy that names a NIC by its MAC mean the same card, and
//! networkd's first file for a card is the only one that counts. Route in: links of several sources, the cards. Route out:
//! the same links, each card called by one name.

use super::merge::{Refusal, add_ports};
use sheaf_links::{Card, Links, default_card};
use std::collections::BTreeMap;

/// A bridge that means "the only NIC" says which: with other links about, that must not change.
pub(super) fn name_the_only_nic(links: &mut Links, cards: &[Card], usual: Option<&str>) {
    let Some(card) = default_card(cards, usual) else { return };
    for bridge in links.bridges.iter_mut().filter(|bridge| bridge.ports.is_empty()) {
        bridge.ports.push(card.permanent_mac.clone().unwrap_or_else(|| card.name.clone()));
    }
}

/// Calls each card by the first name that is used for it, which is node.toml's where it has one.
pub(super) fn spell_cards(links: &mut Links, cards: &[Card]) -> Result<(), Refusal> {
    let before = links.clone();
    let mut spelt: BTreeMap<&str, String> = BTreeMap::new();
    for nic in &before.nics {
        let Some(card) = nic.selector().find(cards) else { continue };
        if let Some(first) = spelt.insert(&card.name, nic.name.clone()) {
            return Err(Refusal(format!(
                "NIC {} is {}, which is NIC {first} already; describe it once",
                nic.name, card.name
            )));
        }
    }
    for text in links.texts().filter(|text| before.made(text).is_none()) {
        if let Some(card) = before.find(text, cards) {
            *text = spelt.entry(&card.name).or_insert_with(|| text.clone()).clone();
        }
    }
    // Two spellings of one card have become the same.
    let bridges = links.bridges.iter_mut().map(|bridge| &mut bridge.ports);
    for ports in bridges.chain(links.bonds.iter_mut().map(|bond| &mut bond.ports)) {
        let all = std::mem::take(ports);
        add_ports(ports, &all);
    }
    Ok(())
}
