//! Links and NICs: every NIC that node.toml speaks of must be one of this machine.
//!
//! Why before the disk is touched: a node whose bridge has no NIC cannot be reached to fix it. The node resolves
//! its ports again at each boot; this only makes sure that it can. Route in: the links, wired NICs.
//! Route out: [`BridgePorts`], or errors that list the NICs.

use super::PlanError;
use crate::inventory::Nic;
use serde::Serialize;
use sheaf_config::select::found_nics;
use sheaf_links::{FoundNic, Link, Links, Nic as Described};
use std::collections::BTreeMap;

/// What a bridge has in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BridgePorts {
    /// Name of the bridge.
    pub bridge: String,
    /// NICs by kernel name and permanent MAC address; bonds and VLANs with what they consist of.
    pub ports: Vec<String>,
}

pub(super) fn resolve(links: &Links, nics: &[Nic], errors: &mut Vec<PlanError>) -> Vec<BridgePorts> {
    let found_nics = &found_nics(nics);
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    let mut refuse = |link: &str, reason: String, remedy: String| {
        errors.push(PlanError::Network { link: link.to_owned(), reason, remedy });
    };
    for link in links.all() {
        let title = format!("network.{} \"{}\"", link.kind().key(), link.name());
        match link.link {
            Link::Nic(nic) if nic.selector().find(found_nics).is_none() => refuse(
                &title,
                format!("no NIC has {}", wanted(nic)),
                format!("write what one of these has: {}", list(found_nics)),
            ),
            // A NIC may carry VLANs and be something else besides.
            Link::Vlan(vlan) if missing(links, &vlan.parent, found_nics) => {
                refuse_port(&title, &vlan.parent, found_nics, &mut refuse)
            }
            Link::Nic(_) | Link::Vlan(_) => {}
            Link::Bridge(bridge) if bridge.ports.is_empty() => match found_nics.as_slice() {
                [found_nic] => take(&title, found_nic, &mut taken, &mut refuse),
                [] => refuse(
                    &title,
                    "has no ports and this machine shows no wired NIC".into(),
                    "put in a NIC that this release has a driver for".into(),
                ),
                _ => refuse(
                    &title,
                    format!("has no ports and this machine has several NICs: {}", list(found_nics)),
                    "write the MAC address of one in ports".into(),
                ),
            },
            Link::Bond(_) | Link::Bridge(_) => {
                for port in link.ports().iter().filter(|port| links.made(port).is_none()) {
                    match links.find(port, found_nics) {
                        Some(found_nic) => take(&title, found_nic, &mut taken, &mut refuse),
                        None if missing(links, port, found_nics) => {
                            refuse_port(&title, port, found_nics, &mut refuse)
                        }
                        None => {}
                    }
                }
            }
        }
    }
    let ports = |name: &str, ports: &[String]| match ports.is_empty() {
        true => links.under(name, found_nics, None).into_iter().map(ToString::to_string).collect(),
        false => ports.iter().map(|port| described(links, found_nics, port)).collect(),
    };
    let bridges = links.bridges.iter();
    bridges
        .map(|link| BridgePorts { bridge: link.name.clone(), ports: ports(&link.name, &link.ports) })
        .collect()
}

/// Whether `text` means a NIC that is not there, and of which nothing was said at its own entry.
fn missing(links: &Links, text: &str, found_nics: &[FoundNic]) -> bool {
    links.made(text).is_none()
        && links.find(text, found_nics).is_none()
        && !links.nics.iter().any(|nic| nic.name == text)
}

fn refuse_port(
    link: &str,
    port: &str,
    found_nics: &[FoundNic],
    refuse: &mut impl FnMut(&str, String, String),
) {
    let remedy = format!("write the MAC address of one of these in ports: {}", list(found_nics));
    refuse(link, format!("no NIC is \"{port}\""), remedy);
}

fn take<'c>(
    link: &str,
    found_nic: &'c FoundNic,
    taken: &mut BTreeMap<&'c str, String>,
    refuse: &mut impl FnMut(&str, String, String),
) {
    if let Some(other) = taken.insert(&found_nic.name, link.to_owned()) {
        refuse(
            link,
            format!("{found_nic} is already a port of {other}"),
            "a NIC can be a port of one link only, and only once".into(),
        );
    }
}

/// `mac "52:54:…" and path "pci-…"`
fn wanted(nic: &Described) -> String {
    let keys = [("mac", &nic.mac), ("path", &nic.path)];
    let given: Vec<_> =
        keys.iter().filter_map(|(key, value)| Some(format!("{key} \"{}\"", value.as_ref()?))).collect();
    if given.is_empty() { format!("name \"{}\"", nic.name) } else { given.join(" and ") }
}

/// A port in words, with the NICs under it.
fn described(links: &Links, found_nics: &[FoundNic], port: &str) -> String {
    let under: Vec<_> = links.under(port, found_nics, None).into_iter().map(ToString::to_string).collect();
    match links.made(port) {
        Some(Link::Vlan(vlan)) => {
            format!("{port} (VLAN {} of {} over {})", vlan.id, vlan.parent, under.join(", "))
        }
        Some(_) => format!("{port} (over {})", under.join(", ")),
        None => under.into_iter().next().unwrap_or_else(|| port.to_owned()),
    }
}

fn list(found_nics: &[FoundNic]) -> String {
    if found_nics.is_empty() {
        return "this machine shows no wired NIC".into();
    }
    found_nics.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
