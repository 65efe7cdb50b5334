//! The rules of a port.
//!
//! Why here: each rule are beside the reason for it. Pure; `tests/filters.rs` of the tests tries them on a real
//! kernel with real frames. Route in: a [`Port`]. Route out: commands for one transaction.
//!
//! A frame comes in with its tag, if it has one, taken off: `meta protocol` and all that lies behind are the inner
//! packet's, while the Ethernet header still shows the tag.

use super::Port;
use super::base::{BRIDGE, FROM, GUARDED_MAC, GUARDED_V4, GUARDED_V6, PORTS};
use super::observed::PortState;
use super::syntax::{
    Rule, accept, count_and_drop, differs, exceeds, field, is, is_in, masked, meta, raw, update, version,
};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Why a frame is dropped: the names of a port's counters.
pub const REASONS: [&str; 9] = ["mac", "switch", "vlan", "arp", "nd", "ip", "dhcp", "ra", "flood"];

/// Most addresses that are remembered of a guest: more is a scan, not a server.
const REMEMBERED: u32 = 16;
/// Seconds for which an address that a guest uses counts: it answers its gateway far more often.
const REMEMBERED_FOR: u32 = 1800;

/// Broadcast and multicast frames a second that a port may send, and at once. A busy server sends a few a second (ARP,
/// neighbour discovery, mDNS); each one costs every host of the segment. Proxmox and OVS have no default; switches with
/// storm control are usually set to 500 to 1000 a second for an access port.
const FLOOD: (u32, u32) = (500, 1000);
/// DHCP requests a second that a port may send, and at once: a client sends four for an address.
const DHCP_FLOOD: (u32, u32) = (5, 20);

/// Multicast addresses that bridges and switches keep to themselves: IEEE 802.1 (STP, LACP, LLDP, GVRP, CFM, …) and Cisco
/// (PVST+, CDP, VTP, DTP, UDLD). A switch that hears a bridge behind the node's port may turn the port off, and DTP may
/// make it a trunk.
const SWITCHES: [&str; 2] = ["01:80:c2:00:00:00", "01:00:0c:00:00:00"];
/// What those have in common.
const SWITCH_MASK: &str = "ff:ff:ff:00:00:00";

/// Ethernet and IPv4 with addresses of 6 and 4 bytes: the first 48 bits of an ARP packet that IPv4 hosts understand.
const ARP_HEAD: u64 = 0x0001_0800_0604;

/// Commands that put everything of one port in place; its counters and remembered addresses stay.
pub(super) fn port(port: &Port) -> Vec<Value> {
    let chain = &port.tap;
    let mut commands = vec![BRIDGE.add_object("chain", chain, json!({}))];
    commands.extend(REASONS.map(|reason| BRIDGE.add_object("counter", &counter(chain, reason), json!({}))));
    for (family, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
        let properties = json!({"type": kind, "flags": ["dynamic", "timeout"], "size": REMEMBERED,
                                "timeout": REMEMBERED_FOR});
        commands.push(BRIDGE.add_object("set", &used(chain, family), properties));
    }
    commands.push(BRIDGE.flush("chain", chain));
    commands.extend(BRIDGE.add_rules(chain, rules(port), &version_of(port)));
    // A goto: what the chain does not drop, the hook's policy accepts.
    commands.push(BRIDGE.add_elements(FROM, &json!([[chain, {"goto": {"target": chain}}]])));
    commands.push(BRIDGE.add_elements(PORTS, &json!([chain])));
    commands
}

/// Commands that remove everything of the port `tap` that was observed.
pub(super) fn remove(tap: &str, state: &PortState) -> Vec<Value> {
    let elements = state.elements.iter().map(|set| BRIDGE.delete_elements(set, &json!([tap])));
    let mut commands: Vec<Value> = elements.collect();
    commands.extend(state.chains.iter().map(|chain| BRIDGE.flush("chain", chain)));
    commands.extend(state.chains.iter().map(|chain| BRIDGE.delete("chain", chain)));
    commands.extend(state.counters.iter().map(|counter| BRIDGE.delete("counter", counter)));
    commands.extend(state.sets.iter().map(|set| BRIDGE.delete("set", set)));
    commands
}

/// Tells these rules from others for the same port.
pub(super) fn version_of(port: &Port) -> String {
    version(&json!(rules(port)))
}

/// Counter of what is dropped of `tap` for `reason`.
fn counter(tap: &str, reason: &str) -> String {
    format!("{tap}.{reason}")
}

/// Set of the addresses of IPv`family` that the guest uses.
pub(super) fn used(tap: &str, family: u8) -> String {
    format!("{tap}.ipv{family}")
}

fn rules(port: &Port) -> Vec<Rule> {
    [link(port), claims(port), own_addresses(port), floods(port), remember(&port.tap), vec![vec![accept()]]]
        .concat()
}

/// The rule that drops what `matches` and counts it as `reason`.
fn drop_if(port: &Port, mut matches: Rule, reason: &str) -> Rule {
    matches.extend(count_and_drop(&counter(&port.tap, reason)));
    matches
}

fn arp() -> Value {
    is(meta("protocol"), json!("arp"))
}

fn ip(protocol: &str) -> Value {
    is(meta("protocol"), json!(protocol))
}

/// ICMPv6 of `types` that matches `more`. With the protocol: by itself nft would look for it in the Ethernet header, where
/// a tag stands.
fn icmp6(types: Value, more: &[Value]) -> Rule {
    [&[ip("ip6"), is(field("icmpv6", "type"), types)], more].concat()
}

/// Ethernet: MACs, what is for switches, tags.
fn link(port: &Port) -> Vec<Rule> {
    let tags = || json!({"set": ["8021q", "8021ad"]});
    let mut rules = vec![
        drop_if(port, vec![differs(field("ether", "saddr"), json!(port.mac))], "mac"),
        // Its own MAC may be a copy of the node's or the gateway's.
        drop_if(port, vec![is_in(field("ether", "saddr"), GUARDED_MAC)], "mac"),
    ];
    for switches in SWITCHES {
        let to = is(masked(field("ether", "daddr"), SWITCH_MASK), json!(switches));
        rules.push(drop_if(port, vec![to], "switch"));
    }
    // A tag behind a tag would come out as a tag where the outer VLAN leaves untagged.
    rules.push(drop_if(port, vec![is(meta("protocol"), tags())], "vlan"));
    if port.trunk.is_empty() {
        rules.push(drop_if(port, vec![is(field("ether", "type"), tags())], "vlan"));
    }
    rules
}

/// What no guest may claim, whatever its addresses: another's MAC, an address of the node, its gateways or API servers,
/// to be a DHCP server or a router.
fn claims(port: &Port) -> Vec<Rule> {
    let mac = json!(port.mac);
    let mac_bits =
        port.mac.split(':').fold(0, |bits, byte| bits << 8 | u64::from_str_radix(byte, 16).unwrap_or(0));
    let sender = |address: &str| is(field("arp", "saddr ip"), json!(address));
    let mut rules = vec![
        drop_if(port, vec![arp(), differs(raw("nh", 0, 48), json!(ARP_HEAD))], "arp"),
        drop_if(port, vec![arp(), differs(field("arp", "saddr ether"), mac)], "arp"),
        drop_if(port, vec![arp(), is_in(field("arp", "saddr ip"), GUARDED_V4)], "arp"),
        // A probe (RFC 5227) is a claim: anyone who has the address would give it up.
        drop_if(port, vec![arp(), sender("0.0.0.0"), is_in(field("arp", "daddr ip"), GUARDED_V4)], "arp"),
        drop_if(port, vec![ip("ip"), is_in(field("ip", "saddr"), GUARDED_V4)], "ip"),
        // Only networks have DHCP servers and routers; guests have none for others.
        drop_if(port, vec![ip("ip"), is(field("udp", "sport"), json!(67))], "dhcp"),
        drop_if(port, vec![ip("ip6"), is(field("udp", "sport"), json!(547))], "dhcp"),
        drop_if(port, icmp6(json!({"set": ["nd-router-advert", "nd-redirect"]}), &[]), "ra"),
    ];
    // The MAC that it offers with an address: target's in an advertisement, sender's in a solicitation.
    for (kind, option) in [("nd-neighbor-advert", 0x0201), ("nd-neighbor-solicit", 0x0101)] {
        let option = is(raw("th", 192, 16), json!(option));
        let offered = differs(raw("th", 208, 48), json!(mac_bits));
        rules.push(drop_if(port, icmp6(json!(kind), &[option, offered]), "nd"));
    }
    let target = || is_in(field("icmpv6", "taddr"), GUARDED_V6);
    let from_nobody = is(field("ip6", "saddr"), json!("::"));
    rules.push(drop_if(port, icmp6(json!("nd-neighbor-advert"), &[target()]), "nd"));
    // Duplicate address detection (RFC 4862) is a claim.
    rules.push(drop_if(port, icmp6(json!("nd-neighbor-solicit"), &[from_nobody, target()]), "nd"));
    rules.push(drop_if(port, vec![ip("ip6"), is_in(field("ip6", "saddr"), GUARDED_V6)], "ip"));
    rules
}

/// Where the addresses of the guest are known: no others.
fn own_addresses(port: &Port) -> Vec<Rule> {
    // Behind the node a guest has what the node leased it; without a lease it has nothing.
    let none = Vec::new();
    let Some(addresses) = port.addresses.as_ref().or(port.masquerade.then_some(&none)) else {
        return Vec::new();
    };
    let mut v4: Vec<Value> = addresses.iter().filter(|ip| ip.is_ipv4()).map(|ip| json!(ip)).collect();
    v4.push(json!("0.0.0.0")); // asks for an address
    let v4 = json!({"set": v4});
    let v6 = own_link(addresses);
    let advertised = differs(field("icmpv6", "taddr"), v6.clone());
    vec![
        drop_if(port, vec![arp(), differs(field("arp", "saddr ip"), v4.clone())], "arp"),
        drop_if(port, vec![ip("ip"), differs(field("ip", "saddr"), v4)], "ip"),
        drop_if(port, icmp6(json!("nd-neighbor-advert"), &[advertised]), "nd"),
        drop_if(port, vec![ip("ip6"), differs(field("ip6", "saddr"), v6)], "ip"),
    ]
}

/// IPv6 addresses that a guest may use: those of the link, which it chooses itself, none, and `addresses`.
fn own_link(addresses: &[IpAddr]) -> Value {
    let mut set = vec![json!("::"), json!({"prefix": {"addr": "fe80::", "len": 10}})];
    set.extend(addresses.iter().filter(|ip| ip.is_ipv6()).map(|ip| json!(ip)));
    json!({"set": set})
}

/// What costs others, or the node's DHCP server, time.
fn floods(port: &Port) -> Vec<Rule> {
    let mut rules = Vec::new();
    if port.masquerade {
        let to_server = || vec![ip("ip"), is(field("udp", "dport"), json!(67))];
        let mac_bits =
            port.mac.split(':').fold(0, |bits, byte| bits << 8 | u64::from_str_radix(byte, 16).unwrap_or(0));
        // `chaddr`, 28 bytes behind the header of UDP: nobody asks for another's lease.
        let for_another = differs(raw("th", 64 + 224, 48), json!(mac_bits));
        rules.push(drop_if(port, [to_server(), vec![for_another]].concat(), "dhcp"));
        rules.push(drop_if(port, [to_server(), vec![exceeds(DHCP_FLOOD.0, DHCP_FLOOD.1)]].concat(), "flood"));
    }
    // The group bit of the destination.
    let to_many = is(raw("ll", 7, 1), json!(1));
    rules.push(drop_if(port, vec![to_many, exceeds(FLOOD.0, FLOOD.1)], "flood"));
    rules
}

/// Remembers the addresses that the guest uses.
fn remember(tap: &str) -> Vec<Rule> {
    let sender = || field("arp", "saddr ip");
    let source = || field("ip6", "saddr");
    let neighbour = json!({"set": ["nd-neighbor-advert", "nd-neighbor-solicit"]});
    vec![
        vec![arp(), differs(sender(), json!("0.0.0.0")), update(&used(tap, 4), sender())],
        [icmp6(neighbour, &[]), vec![differs(source(), json!("::")), update(&used(tap, 6), source())]]
            .concat(),
    ]
}
