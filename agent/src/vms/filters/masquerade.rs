//! What guests behind the node's address may reach: table `inet sheaf`.
//!
//! Why here: packets that the node forwards are not frames of a bridge. `/etc/nftables.conf` of the image closes the
//! private network until these rules are there. Pure. Route in: the networks of the node. Route out: commands for one
//! transaction; the counters of what was dropped.

use super::Guard;
use super::syntax::{Rule, Table, accept, count_and_drop, field, is, meta, version};
use serde_json::{Value, json};
use sheaf_api::names::MASQUERADE_BRIDGE;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Family of the table.
pub const FAMILY: &str = "inet";
/// Name of the table.
pub const TABLE: &str = "sheaf";
const INET: Table = Table { family: FAMILY, name: TABLE };

/// The node's own address on the private network: gateway, DHCP server and name server of guests.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 127, 240, 1);
/// Length of the private network's prefix in bits.
pub const PREFIX: u8 = 20;

/// Packets dropped on the way to another guest, to a network of the node, to the node itself.
pub const REASONS: [&str; 3] = ["guest-to-guest", "guest-to-node-network", "guest-to-node"];

/// Networks that nobody outside has: loopback, link-local (metadata services of clouds), multicast, broadcast and reserved.
const NOWHERE: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

const INPUT: &str = "input";
const FORWARD: &str = "forward";
/// `filter` of nft(8).
const PRIORITY: i32 = 0;

/// Commands that make the table fit `guard`; none when it has these rules.
pub fn changes(guard: &Guard, state: &State) -> Vec<Value> {
    let (input, forward) = (input(), forward(guard));
    let version = version(&json!([input, forward]));
    if state.version.as_ref() == Some(&version) {
        return Vec::new();
    }
    let mut commands = vec![
        INET.add(),
        INET.add_hook(INPUT, "input", PRIORITY, "accept"),
        INET.add_hook(FORWARD, "forward", PRIORITY, "drop"),
    ];
    commands.extend(REASONS.map(|reason| INET.add_object("counter", reason, json!({}))));
    commands.extend([INET.flush("chain", INPUT), INET.flush("chain", FORWARD)]);
    commands.extend(INET.add_rules(INPUT, input, ""));
    commands.extend(INET.add_rules(FORWARD, forward, &version));
    commands
}

/// What was observed of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Which rules it has.
    pub version: Option<String>,
    /// Packets dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl State {
    /// Reads the listing of the table.
    pub fn read(objects: &[Value]) -> Self {
        let comment = |object: &Value| {
            let rule = &object["rule"];
            (rule["chain"] == FORWARD).then(|| rule["comment"].as_str().map(str::to_owned))?
        };
        let counters = objects.iter().map(|object| &object["counter"]).filter_map(|counter| {
            let name = counter["name"].as_str().filter(|name| REASONS.contains(name))?;
            Some((name.to_owned(), counter["packets"].as_u64().unwrap_or(0)))
        });
        Self { version: objects.iter().find_map(comment), dropped: counters.collect() }
    }
}

fn from_guest() -> Value {
    is(meta("iifname"), json!(MASQUERADE_BRIDGE))
}

fn answers() -> Value {
    json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}})
}

/// The node offers guests DHCP and names, nothing else.
fn input() -> Vec<Rule> {
    let to_gateway = || is(field("ip", "daddr"), json!(GATEWAY));
    let port = |protocol: &str, port: u16| is(field(protocol, "dport"), json!(port));
    vec![
        vec![from_guest(), answers(), accept()],
        vec![from_guest(), port("udp", 67), accept()],
        vec![from_guest(), to_gateway(), port("udp", 53), accept()],
        vec![from_guest(), to_gateway(), port("tcp", 53), accept()],
        [vec![from_guest()], count_and_drop(REASONS[2]).into()].concat(),
    ]
}

/// The node forwards what guests send outside, and the answers; nothing else.
fn forward(guard: &Guard) -> Vec<Rule> {
    let between = vec![from_guest(), is(meta("oifname"), json!(MASQUERADE_BRIDGE))];
    let mut rules = vec![[between, count_and_drop(REASONS[0]).into()].concat()];
    for (network, length) in NOWHERE.iter().chain(&guard.networks) {
        let there = is(field("ip", "daddr"), json!({"prefix": {"addr": network, "len": length}}));
        rules.push([vec![from_guest(), there], count_and_drop(REASONS[1]).into()].concat());
    }
    rules.push(vec![from_guest(), is(meta("nfproto"), json!("ipv4")), accept()]);
    rules.push(vec![is(meta("oifname"), json!(MASQUERADE_BRIDGE)), answers(), accept()]);
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_follow_the_networks_of_the_node_and_are_left_when_they_fit() {
        let guard = |network: [u8; 4]| Guard { networks: [(network.into(), 24)].into(), ..Guard::default() };
        let before = guard([192, 0, 2, 0]);
        let filter = sheaf_host::fakes::FakeFilter::default();
        use sheaf_host::nft::Filter;
        filter.apply(&changes(&before, &State::default())).unwrap();
        let state = || State::read(&filter.table(FAMILY, TABLE).unwrap());
        assert_eq!(changes(&before, &state()), Vec::<Value>::new());
        let commands = changes(&guard([198, 51, 100, 0]), &state());
        assert!(json!(commands).to_string().contains("198.51.100.0"), "{commands:?}");
        filter.apply(&commands).unwrap();
        assert!(!json!(filter.table(FAMILY, TABLE).unwrap()).to_string().contains("192.0.2.0"));
        assert_eq!(state().dropped.len(), 3);
    }
}
