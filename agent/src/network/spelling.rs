//! One spelling for each NIC of the machine. Pure.
//!
//! Why here: a bridge that means "the only NIC" and a policy that names a NIC by its MAC mean the same NIC, and
//! networkd's first file for a NIC is the only one that counts. Route in: links of several sources, the NICs. Route out:
//! the same links, each NIC called by one name.

use super::merge::{Refusal, add_ports};
use sheaf_links::{FoundNic, Links, default_nic};
use std::collections::BTreeMap;

/// A bridge that means "the only NIC" says which: with other links about, that must not change.
pub(super) fn name_the_only_nic(links: &mut Links, found_nics: &[FoundNic], usual: Option<&str>) {
    let Some(found_nic) = default_nic(found_nics, usual) else { return };
    for bridge in links.bridges.iter_mut().filter(|bridge| bridge.ports.is_empty()) {
        bridge.ports.push(found_nic.permanent_mac.clone().unwrap_or_else(|| found_nic.name.clone()));
    }
}

/// Calls each NIC by the first name that is used for it, which is node.toml's where it has one.
pub(super) fn spell_nics(links: &mut Links, found_nics: &[FoundNic]) -> Result<(), Refusal> {
    let before = links.clone();
    let mut spelt: BTreeMap<&str, String> = BTreeMap::new();
    for nic in &before.nics {
        let Some(found_nic) = nic.selector().find(found_nics) else { continue };
        if let Some(first) = spelt.insert(&found_nic.name, nic.name.clone()) {
            return Err(Refusal(format!(
                "NIC {} is {}, which is NIC {first} already; describe it once",
                nic.name, found_nic.name
            )));
        }
    }
    for text in links.texts().filter(|text| before.made(text).is_none()) {
        if let Some(found_nic) = before.find(text, found_nics) {
            *text = spelt.entry(&found_nic.name).or_insert_with(|| text.clone()).clone();
        }
    }
    // Two spellings of one NIC have become the same.
    let bridges = links.bridges.iter_mut().map(|bridge| &mut bridge.ports);
    for ports in bridges.chain(links.bonds.iter_mut().map(|bond| &mut bond.ports)) {
        let all = std::mem::take(ports);
        add_ports(ports, &all);
    }
    Ok(())
}
