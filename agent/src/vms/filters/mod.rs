//! Packet filters of virtual machines: what a guest may send, and what is learnt of its addresses on the way.
//!
//! Why here: a guest that takes another's addresses, or answers DHCP for everybody, harms all on its bridge. One
//! chain of table `bridge sheaf` for each port, matched by the name of its tap, there before the tap is. The kernel
//! counts what is dropped and remembers the addresses that a guest was given (DHCP) and answers to (ARP, neighbour
//! discovery). Route in: [`Port`]s, of guests and of the records of those that run. Route out: [`changes`], commands
//! for nft, from what is [`seen`] there; [`Seen`] for the status.

mod port;
mod rules;
mod seen;

pub use port::{Port, is_tap, tap};
pub use seen::{PortSeen, Seen};

use serde_json::Value;
use std::collections::BTreeMap;

/// Family of the table.
pub const FAMILY: &str = "bridge";
/// Name of the table: ours alone.
pub const TABLE: &str = "sheaf";

/// Commands that put `port` in place, whatever is there of it: counters and addresses stay.
pub fn put(port: &Port) -> Vec<Value> {
    rules::base().into_iter().chain(rules::port(port)).collect()
}

/// Commands that make the table right for `wanted`, by name; none when it is.
pub fn changes(wanted: &BTreeMap<String, Port>, seen: &Seen) -> Vec<Value> {
    let stale = |port: &&Port| {
        let version = seen.ports.get(&port.tap).and_then(|seen| seen.version.as_deref());
        version != Some(&*rules::version(port))
    };
    let mut commands: Vec<Value> = wanted.values().filter(stale).flat_map(rules::port).collect();
    if !commands.is_empty() {
        commands.splice(..0, rules::base());
    }
    let over = seen.ports.iter().filter(|(tap, _)| !wanted.contains_key(*tap));
    commands.extend(over.flat_map(|(tap, seen)| rules::remove(tap, seen)));
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::FakeFilter;
    use sheaf_host::nft::Filter;

    fn port(tap: &str) -> Port {
        Port { tap: tap.into(), mac: "02:00:00:00:00:01".into(), bridge: "br0".into(), ..Port::default() }
    }

    fn wanted(ports: &[Port]) -> BTreeMap<String, Port> {
        ports.iter().map(|port| (port.tap.clone(), port.clone())).collect()
    }

    fn look(filter: &FakeFilter) -> Seen {
        Seen::read(&filter.table(FAMILY, TABLE).unwrap())
    }

    #[test]
    fn what_is_there_is_left_and_what_is_over_is_removed_with_all_that_belongs_to_it() {
        let filter = FakeFilter::default();
        let two = wanted(&[port("vma"), port("vmb")]);
        filter.apply(&changes(&two, &look(&filter))).unwrap();
        assert_eq!(look(&filter).ports.keys().collect::<Vec<_>>(), ["vma", "vmb"]);
        assert_eq!(changes(&two, &look(&filter)), Vec::<Value>::new());
        filter.apply(&changes(&wanted(&[port("vmb")]), &look(&filter))).unwrap();
        let left = filter.table(FAMILY, TABLE).unwrap();
        let of_a = |object: &&Value| {
            let name = object.as_object().and_then(|object| object.values().next()?["name"].as_str());
            name.is_some_and(|name| name == "vma" || name.starts_with("vma."))
        };
        assert_eq!(left.iter().find(of_a), None);
        assert_eq!(changes(&wanted(&[port("vmb")]), &look(&filter)), Vec::<Value>::new());
    }

    #[test]
    fn rules_of_an_earlier_agent_are_replaced_and_its_counters_stay() {
        let filter = FakeFilter::default();
        filter.apply(&put(&port("vma"))).unwrap();
        let changed = Port { addresses: Some(vec!["192.0.2.7".parse().unwrap()]), ..port("vma") };
        let commands = changes(&wanted(&[changed]), &look(&filter));
        assert!(commands.iter().any(|command| command["flush"]["chain"]["name"] == "vma"), "{commands:?}");
        assert!(commands.iter().all(|command| command["delete"].is_null()), "{commands:?}");
    }
}
