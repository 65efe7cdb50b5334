//! What is in the table: read from nft's listing.
//!
//! Pure. Route in: objects. Route out: [`Seen`]; what belongs to no port of ours is passed over.

use super::rules::{REASONS, heard, lease, to_guest};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// All ports, by tap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// By tap.
    pub ports: BTreeMap<String, PortSeen>,
}

/// What is there of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSeen {
    /// Which rules it has.
    pub version: Option<String>,
    /// Frames dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Addresses that DHCP gave the guest.
    pub leases: Vec<IpAddr>,
    /// Addresses that the guest answers to.
    pub heard: Vec<IpAddr>,
    /// Its chains.
    pub chains: Vec<String>,
    /// Its counters.
    pub counters: Vec<String>,
    /// Its sets.
    pub sets: Vec<String>,
    /// Maps that lead to it.
    pub maps: Vec<String>,
}

impl Seen {
    /// Reads the listing of the table.
    pub fn read(objects: &[Value]) -> Self {
        let mut seen = Self::default();
        for object in objects {
            let Some((kind, it)) = object.as_object().and_then(|object| object.iter().next()) else {
                continue;
            };
            seen.take(kind, it);
        }
        seen
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
            "counter" => {
                let (tap, reason) = name.split_once('.').unwrap_or_default();
                if REASONS.contains(&reason) {
                    let port = self.ports.entry(tap.to_owned()).or_default();
                    port.counters.push(name.to_owned());
                    port.dropped.insert(reason.to_owned(), it["packets"].as_u64().unwrap_or(0));
                }
            }
            "set" => {
                let Some(port) = self.of(name) else { return };
                port.sets.push(name.to_owned());
                let mut addresses: Vec<IpAddr> =
                    it["elem"].as_array().into_iter().flatten().filter_map(address).collect();
                addresses.sort();
                if name.ends_with(&lease("")) {
                    port.leases.extend(addresses)
                } else {
                    port.heard.extend(addresses)
                }
            }
            "map" | "element" => {
                for element in it["elem"].as_array().into_iter().flatten() {
                    let Some(tap) = element[0].as_str() else { continue };
                    let maps = &mut self.ports.entry(tap.to_owned()).or_default().maps;
                    if !maps.iter().any(|map| map == name) {
                        maps.push(name.to_owned());
                    }
                }
            }
            "rule" => {
                // Only a port's first rule has one; rules that lead to ports have none.
                let Some(comment) = it["comment"].as_str() else { return };
                if let Some(port) = self.of(it["chain"].as_str().unwrap_or_default()) {
                    port.version = Some(comment.to_owned());
                }
            }
            _ => {}
        }
    }

    /// The port that a chain or set called `name` belongs to.
    fn of(&mut self, name: &str) -> Option<&mut PortSeen> {
        let parts = [to_guest(""), lease(""), heard("", 4), heard("", 6)];
        let tap = parts.iter().find_map(|part| name.strip_suffix(&**part)).unwrap_or(name);
        (!tap.is_empty() && !tap.contains('.')).then(|| self.ports.entry(tap.to_owned()).or_default())
    }
}

/// An element of a set: plain or with its time, an address or the number that one is.
fn address(element: &Value) -> Option<IpAddr> {
    let value = if element["elem"]["val"].is_null() { element } else { &element["elem"]["val"] };
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => Some(Ipv4Addr::from(u32::try_from(number.as_u64()?).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_of_nft_tells_counters_leases_and_what_was_heard() {
        let document: Value = serde_json::from_str(include_str!("../../../tests/nft/table.json")).unwrap();
        let seen = Seen::read(document["nftables"].as_array().unwrap());
        assert_eq!(seen.ports.len(), 1);
        let port = &seen.ports["vm0b0e6d2c6an0"];
        assert_eq!((port.dropped["mac"], port.dropped["dhcp"], port.dropped["ip"]), (2, 1, 0));
        assert_eq!(port.leases, ["192.0.2.50".parse::<IpAddr>().unwrap()]);
        let heard: Vec<_> = port.heard.iter().map(ToString::to_string).collect();
        assert_eq!(heard, ["192.0.2.50", "fe80::ff:fe00:1"]);
        assert_eq!(port.version.as_deref().map(str::len), Some(16));
        assert_eq!((port.chains.len(), port.counters.len(), port.sets.len(), port.maps.len()), (2, 8, 3, 2));
    }
}
