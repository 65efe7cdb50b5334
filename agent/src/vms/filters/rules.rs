//! The rules of a port, as commands of nft's JSON.
//!
//! Why here: each rule stands beside the reason for it. Pure; `tests/filters.rs` of the tests tries them on a real
//! kernel with real frames. Route in: a [`Port`]. Route out: commands for one transaction.
//!
//! A frame comes in with its tag, if it has one, taken off: `meta protocol` and all that lies behind are the inner
//! packet's, while the Ethernet header still shows the tag.

use super::seen::PortSeen;
use super::{FAMILY, Port, TABLE};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// Why a frame is dropped: the names of a port's counters.
pub const REASONS: [&str; 8] = ["mac", "stp", "vlan", "arp", "nd", "ip", "dhcp", "ra"];

/// Most addresses that are remembered of a guest: more is a scan, not a server.
const REMEMBERED: u32 = 16;
/// Seconds for which a lease that was seen counts: a day, the longest that DHCP servers usually give.
const LEASE: u32 = 86400;
/// Seconds for which an address that a guest answered to counts: it answers its gateway far more often.
const HEARD: u32 = 1800;

/// Before anything else that looks at frames.
const EARLY: i32 = -300;
/// After everything else.
const LATE: i32 = 300;

/// The table, and its two chains that lead to those of ports. Done again it changes nothing.
pub fn base() -> Vec<Value> {
    let chain = |name: &str, hook: &str, prio: i32| {
        add(json!({"chain": {"family": FAMILY, "table": TABLE, "name": name, "type": "filter", "hook": hook,
                             "prio": prio, "policy": "accept"}}))
    };
    let map = |name: &str| {
        add(
            json!({"map": {"family": FAMILY, "table": TABLE, "name": name, "type": "ifname", "map": "verdict"}}),
        )
    };
    let look = |chain: &str, key: &str, map: &str| {
        rule(chain, vec![json!({"vmap": {"key": {"meta": {"key": key}}, "data": map}})])
    };
    vec![
        add(json!({"table": {"family": FAMILY, "name": TABLE}})),
        map("from"),
        map("to"),
        chain("ingress", "prerouting", EARLY),
        chain("egress", "postrouting", LATE),
        flush("ingress"),
        flush("egress"),
        look("ingress", "iifname", "@from"),
        look("egress", "oifname", "@to"),
    ]
}

/// Everything of one port.
pub fn port(port: &Port) -> Vec<Value> {
    let (from, to) = (port.tap.clone(), to_guest(&port.tap));
    let chain = |name: &str| add(json!({"chain": {"family": FAMILY, "table": TABLE, "name": name}}));
    let mut commands = vec![chain(&from), chain(&to)];
    commands.extend(REASONS.iter().map(|reason| add(object("counter", &format!("{from}.{reason}")))));
    commands.push(set(&lease(&from), json!({"typeof": raw("th", 192, 32)}), LEASE));
    commands.push(set(&heard(&from, 4), json!("ipv4_addr"), HEARD));
    commands.push(set(&heard(&from, 6), json!("ipv6_addr"), HEARD));
    commands.extend([flush(&from), flush(&to)]);
    let mut rules = drops(port);
    rules.extend(learning(&from));
    for (index, expressions) in rules.into_iter().enumerate() {
        let mut rule = rule(&from, expressions);
        if index == 0 {
            rule["add"]["rule"]["comment"] = json!(version(port));
        }
        commands.push(rule);
    }
    commands.push(rule(&to, offers(&from)));
    let lead = |map: &str, chain: &str| {
        add(json!({"element": {"family": FAMILY, "table": TABLE, "name": map,
                               "elem": [[port.tap, {"jump": {"target": chain}}]]}}))
    };
    commands.extend([lead("from", &from), lead("to", &to)]);
    commands
}

/// Takes away everything of the port `tap` that was seen.
pub fn remove(tap: &str, seen: &PortSeen) -> Vec<Value> {
    let away = |map: &str| {
        delete(json!({"element": {"family": FAMILY, "table": TABLE, "name": map, "elem": [tap]}}))
    };
    let mut commands: Vec<Value> = seen.maps.iter().map(|map| away(map)).collect();
    commands.extend(seen.chains.iter().map(|chain| flush(chain)));
    let objects = |kind: &'static str, names: &[String]| {
        names.iter().map(move |name| delete(object(kind, name))).collect::<Vec<_>>()
    };
    commands.extend(objects("chain", &seen.chains));
    commands.extend(objects("counter", &seen.counters));
    commands.extend(objects("set", &seen.sets));
    commands
}

/// Tells these rules from others for the same port.
pub fn version(port: &Port) -> String {
    let rules: Vec<_> =
        drops(port).into_iter().chain(learning(&port.tap)).chain([offers(&port.tap)]).collect();
    let hash = Sha256::digest(json!(rules).to_string());
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Chain of what goes to the guest.
pub fn to_guest(tap: &str) -> String {
    format!("{tap}.to")
}

/// Set of the addresses that DHCP gave the guest.
pub fn lease(tap: &str) -> String {
    format!("{tap}.lease")
}

/// Set of the addresses of IPv`family` that the guest answers to.
pub fn heard(tap: &str, family: u8) -> String {
    format!("{tap}.heard{family}")
}

/// Rules that drop what a guest may not send.
fn drops(port: &Port) -> Vec<Vec<Value>> {
    let mac = json!(port.mac);
    let mac_number =
        port.mac.split(':').fold(0, |number, byte| number << 8 | u64::from_str_radix(byte, 16).unwrap_or(0));
    let drop = |mut matches: Vec<Value>, reason: &str| {
        matches.extend([json!({"counter": format!("{}.{reason}", port.tap)}), json!({"drop": null})]);
        matches
    };
    let arp = || is(meta("protocol"), json!("arp"));
    let ip = |protocol: &str| is(meta("protocol"), json!(protocol));
    let tags = || json!({"set": ["8021q", "8021ad"]});
    let mut rules = vec![
        drop(vec![differs(field("ether", "saddr"), mac.clone())], "mac"),
        // A switch that hears a bridge behind the node's port may turn the port off.
        drop(vec![is(field("ether", "daddr"), json!("01:80:c2:00:00:00"))], "stp"),
        // A tag behind a tag would come out as a tag where the outer VLAN leaves untagged.
        drop(vec![is(meta("protocol"), tags())], "vlan"),
    ];
    if port.trunk.is_empty() {
        rules.push(drop(vec![is(field("ether", "type"), tags())], "vlan"));
    }
    rules.push(drop(vec![arp(), differs(field("arp", "saddr ether"), mac)], "arp"));
    // Only networks have DHCP servers and routers; guests have none for others.
    rules.push(drop(vec![ip("ip"), is(field("udp", "sport"), json!(67))], "dhcp"));
    rules.push(drop(vec![ip("ip6"), is(field("udp", "sport"), json!(547))], "dhcp"));
    // With the protocol: by itself nft would look for it in the Ethernet header, where a tag stands.
    let says =
        |types: Value, more: &[Value]| [&[ip("ip6"), is(field("icmpv6", "type"), types)], more].concat();
    rules.push(drop(says(json!({"set": ["nd-router-advert", "nd-redirect"]}), &[]), "ra"));
    // The hardware address that it offers with an address: target's in an advertisement, sender's in a solicitation.
    for (kind, option) in [("nd-neighbor-advert", 0x0201), ("nd-neighbor-solicit", 0x0101)] {
        let option = is(raw("th", 192, 16), json!(option));
        let offered = differs(raw("th", 208, 48), json!(mac_number));
        rules.push(drop(says(json!(kind), &[option, offered]), "nd"));
    }
    if port.masquerade {
        // By place in the packet, as the set holds what DHCP wrote: sender of an ARP packet, source of an IPv4 packet.
        let given = || json!(format!("@{}", lease(&port.tap)));
        for (protocol, offset, reason) in [("arp", 112, "arp"), ("ip", 96, "ip")] {
            let sender = || raw("nh", offset, 32);
            rules.push(drop(
                vec![ip(protocol), differs(sender(), json!(0)), differs(sender(), given())],
                reason,
            ));
        }
        rules.push(drop(vec![ip("ip6"), differs(field("ip6", "saddr"), own_link(&[]))], "ip"));
    } else if let Some(addresses) = &port.addresses {
        let mut v4: Vec<Value> = addresses.iter().filter(|ip| ip.is_ipv4()).map(|ip| json!(ip)).collect();
        v4.push(json!("0.0.0.0")); // asks for an address
        let v4 = json!({"set": v4});
        rules.push(drop(vec![arp(), differs(field("arp", "saddr ip"), v4.clone())], "arp"));
        rules.push(drop(vec![ip("ip"), differs(field("ip", "saddr"), v4)], "ip"));
        let v6 = own_link(addresses);
        let advertised = differs(field("icmpv6", "taddr"), v6.clone());
        rules.push(drop(says(json!("nd-neighbor-advert"), &[advertised]), "nd"));
        rules.push(drop(vec![ip("ip6"), differs(field("ip6", "saddr"), v6)], "ip"));
    }
    rules
}

/// IPv6 addresses that a guest may use: those of the link, which it chooses itself, none, and `addresses`.
fn own_link(addresses: &[IpAddr]) -> Value {
    let mut set = vec![json!("::"), json!({"prefix": {"addr": "fe80::", "len": 10}})];
    set.extend(addresses.iter().filter(|ip| ip.is_ipv6()).map(|ip| json!(ip)));
    json!({"set": set})
}

/// Rules that remember the addresses that the guest has.
fn learning(tap: &str) -> Vec<Vec<Value>> {
    let sender = || field("arp", "saddr ip");
    let source = || field("ip6", "saddr");
    let neighbour = json!({"set": ["nd-neighbor-advert", "nd-neighbor-solicit"]});
    vec![
        vec![
            is(meta("protocol"), json!("arp")),
            differs(sender(), json!("0.0.0.0")),
            update(&heard(tap, 4), sender()),
        ],
        vec![
            is(meta("protocol"), json!("ip6")),
            is(field("icmpv6", "type"), neighbour),
            differs(source(), json!("::")),
            update(&heard(tap, 6), source()),
        ],
    ]
}

/// The rule that remembers what a DHCP server acknowledges: its message's first option is the kind (53, 1 byte, 5),
/// and the address is `yiaddr`.
fn offers(tap: &str) -> Vec<Value> {
    vec![
        is(meta("protocol"), json!("ip")),
        is(field("udp", "sport"), json!(67)),
        is(raw("th", 1984, 24), json!(0x35_0105)),
        update(&lease(tap), raw("th", 192, 32)),
    ]
}

fn add(object: Value) -> Value {
    json!({"add": object})
}

fn delete(object: Value) -> Value {
    json!({"delete": object})
}

fn object(kind: &str, name: &str) -> Value {
    json!({kind: {"family": FAMILY, "table": TABLE, "name": name}})
}

fn flush(chain: &str) -> Value {
    json!({"flush": object("chain", chain)})
}

fn set(name: &str, kind: Value, timeout: u32) -> Value {
    add(json!({"set": {"family": FAMILY, "table": TABLE, "name": name, "type": kind,
                       "flags": ["dynamic", "timeout"], "size": REMEMBERED, "timeout": timeout}}))
}

fn rule(chain: &str, expressions: Vec<Value>) -> Value {
    add(json!({"rule": {"family": FAMILY, "table": TABLE, "chain": chain, "expr": expressions}}))
}

fn is(left: Value, right: Value) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn differs(left: Value, right: Value) -> Value {
    json!({"match": {"op": "!=", "left": left, "right": right}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn field(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

/// `bits` at `offset` bits behind a header: `nh` the network's, `th` the transport's.
fn raw(base: &str, offset: u32, bits: u32) -> Value {
    json!({"payload": {"base": base, "offset": offset, "len": bits}})
}

fn update(set: &str, element: Value) -> Value {
    json!({"set": {"op": "update", "elem": element, "set": format!("@{set}")}})
}
