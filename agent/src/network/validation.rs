//! Whether merged links obey the rules of node.toml, said with who asks for each. Pure.
//!
//! Route in: [`Merged`] links and the NICs. Route out: a [`Refusal`] that names each link and its policy.

use super::merge::{Merged, Refusal};
use sheaf_links::{FoundNic, LinkRef, Place, Problem};
use std::collections::BTreeMap;

pub(super) fn check(merged: &Merged, found_nics: &[FoundNic]) -> Result<(), Refusal> {
    ports_have_one_user(merged, found_nics)?;
    let problems: Vec<_> =
        sheaf_links::rules(&merged.links).iter().map(|problem| sentence(merged, problem)).collect();
    if problems.is_empty() { Ok(()) } else { Err(Refusal(problems.join("\n"))) }
}

/// Before the rules: they know names, and here the NIC is known behind them.
fn ports_have_one_user(merged: &Merged, found_nics: &[FoundNic]) -> Result<(), Refusal> {
    let links = &merged.links;
    let mut users: BTreeMap<&str, LinkRef<'_>> = BTreeMap::new();
    for link in links.top_down() {
        for port in link.ports() {
            let Some(other) = users.insert(port, link) else { continue };
            let called = match links.find(port, found_nics) {
                Some(found_nic) if links.made(port).is_none() && found_nic.name != *port => {
                    format!("{port} ({})", found_nic.name)
                }
                _ => port.clone(),
            };
            return Err(Refusal(format!(
                "{called} is a port of {}, so it cannot be one of {}; name another",
                who(merged, other),
                who(merged, link)
            )));
        }
    }
    Ok(())
}

/// `bridge br0 (node.toml)`
fn who(merged: &Merged, link: LinkRef<'_>) -> String {
    format!("{} {} ({})", link.kind().word(), link.name(), merged.asked_by(link.name()))
}

/// A problem by the name of the link and who asks for it.
fn sentence(merged: &Merged, problem: &Problem) -> String {
    let find = |place: &Place| {
        merged
            .links
            .all()
            .find(|link| (link.kind(), link.index) == (place.kind, place.index))
            .map(|link| who(merged, link))
    };
    let other = problem.other.as_ref().and_then(find).map(|other| format!(" ({other})")).unwrap_or_default();
    let place = problem.at.as_ref().and_then(|place| {
        // `ports[1]` is one of the ports; `routes[0].to` is that route's.
        let key = if place.key.ends_with(']') { place.key.split('[').next()? } else { &place.key };
        let link = find(place)?;
        Some(if key.is_empty() { link } else { format!("{link}: {key}") })
    });
    format!("{}: {}{other}; {}", place.as_deref().unwrap_or("network"), problem.what, problem.remedy)
}
