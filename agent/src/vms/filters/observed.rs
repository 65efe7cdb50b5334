//! What is in the tables: read from nft's listing.
//!
//! Pure. Route in: objects. Route out: a [`State`]; what belongs to no port of ours is passed over.

use super::base::{FROM, INGRESS, PORTS, UNKNOWN};
use super::rules::{REASONS, used};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The table of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By tap.
    pub ports: BTreeMap<String, PortState>,
    /// Which rules all ports share.
    pub version: Option<String>,
    /// Frames dropped from and to taps that have no chain.
    pub unknown: u64,
}

/// What is there of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortState {
    /// Which rules it has.
    pub version: Option<String>,
    /// Frames dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Addresses that the guest uses: senders of ARP and neighbour discovery that passed the rules.
    pub used: Vec<IpAddr>,
    /// Its chains.
    pub chains: Vec<String>,
    /// Its counters.
    pub counters: Vec<String>,
    /// Its sets.
    pub sets: Vec<String>,
    /// Sets and maps of all ports that it is in.
    pub elements: Vec<String>,
}

impl State {
    /// Reads the listing of the table.
    pub fn read(objects: &[Value]) -> Self {
        let mut state = Self::default();
        for object in objects {
            let Some((kind, it)) = object.as_object().and_then(|object| object.iter().next()) else {
                continue;
            };
            state.take(kind, it);
        }
        state
    }

    fn take(&mut self, kind: &str, it: &Value) {
        let name = it["name"].as_str().unwrap_or_default();
        match kind {
            // The chains of hooks lead to ports and are none.
            "chain" if it["hook"].is_null() => {
                if let Some(port) = self.of(name) {
                    port.chains.push(name.to_owned());
                }
            }
            "counter" if name == UNKNOWN => self.unknown = it["packets"].as_u64().unwrap_or(0),
            "counter" => {
                let (tap, reason) = name.split_once('.').unwrap_or_default();
                if REASONS.contains(&reason) && is_name(tap) {
                    let port = self.ports.entry(tap.to_owned()).or_default();
                    port.counters.push(name.to_owned());
                    port.dropped.insert(reason.to_owned(), it["packets"].as_u64().unwrap_or(0));
                }
            }
            "set" | "map" | "element" if [FROM, PORTS].contains(&name) => {
                for element in it["elem"].as_array().into_iter().flatten() {
                    let tap = element.as_str().or_else(|| element[0].as_str());
                    let Some(tap) = tap.filter(|tap| is_name(tap)) else { continue };
                    let sets = &mut self.ports.entry(tap.to_owned()).or_default().elements;
                    if !sets.iter().any(|set| set == name) {
                        sets.push(name.to_owned());
                    }
                }
            }
            "set" => {
                let parts = [used("", 4), used("", 6)];
                let tap = parts.iter().find_map(|part| name.strip_suffix(&**part));
                let Some(port) = tap.and_then(|tap| self.of(tap)) else { return };
                port.sets.push(name.to_owned());
                let addresses = it["elem"].as_array().into_iter().flatten().filter_map(address);
                port.used.extend(addresses);
                port.used.sort();
            }
            "rule" => {
                // Only the first rule of a port or of the base has one.
                let Some(comment) = it["comment"].as_str() else { return };
                let chain = it["chain"].as_str().unwrap_or_default();
                if chain == INGRESS {
                    self.version = Some(comment.to_owned());
                } else if let Some(port) = self.of(chain) {
                    port.version = Some(comment.to_owned());
                }
            }
            _ => {}
        }
    }

    /// The port `tap`.
    fn of(&mut self, tap: &str) -> Option<&mut PortState> {
        is_name(tap).then(|| self.ports.entry(tap.to_owned()).or_default())
    }
}

fn is_name(tap: &str) -> bool {
    !tap.is_empty() && !tap.contains('.')
}

/// An element of a set, plain or with its time.
fn address(element: &Value) -> Option<IpAddr> {
    let value = if element["elem"]["val"].is_null() { element } else { &element["elem"]["val"] };
    value.as_str()?.parse().ok()
}
