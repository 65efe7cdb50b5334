//! What all ports share: the table, the chains of hooks, the sets of what is guarded.
//!
//! Why here: a frame of a tap that has no chain of its own is dropped, so a port whose record was lost is closed and not
//! open. Pure. Route in: a [`Guard`]. Route out: commands; done again they change nothing.

use super::syntax::{Rule, Table, count_and_drop, differs, is, meta, version};
use super::{FAMILY, Guard, TABLE};
use serde_json::{Value, json};

pub(super) const BRIDGE: Table = Table { family: FAMILY, name: TABLE };

/// Map from the names of taps to their chains.
pub(super) const FROM: &str = "from";
/// Set of the names of taps.
pub(super) const PORTS: &str = "ports";
/// Sets of guarded IPv4 and IPv6 addresses, and of guarded MACs.
pub(super) const GUARDED_V4: &str = "guarded-ipv4";
pub(super) const GUARDED_V6: &str = "guarded-ipv6";
pub(super) const GUARDED_MAC: &str = "guarded-mac";
/// Counter of frames from and to taps that have no chain.
pub(super) const UNKNOWN: &str = "unknown-port";
/// Chain of frames that come in.
pub(super) const INGRESS: &str = "ingress";
/// Chain of frames that go out.
const EGRESS: &str = "egress";

/// Before anything else that sees frames.
const EARLY: i32 = -300;
/// After everything else.
const LATE: i32 = 300;

/// The table with its chains and sets.
pub(super) fn commands(guard: &Guard) -> Vec<Value> {
    let v4: Vec<_> = guard.addresses.iter().filter(|ip| ip.is_ipv4()).collect();
    let v6: Vec<_> = guard.addresses.iter().filter(|ip| ip.is_ipv6()).collect();
    let mut commands = vec![
        BRIDGE.add(),
        BRIDGE.add_object("map", FROM, json!({"type": "ifname", "map": "verdict"})),
        BRIDGE.add_object("set", PORTS, json!({"type": "ifname"})),
        BRIDGE.add_object("counter", UNKNOWN, json!({})),
        BRIDGE.add_hook(INGRESS, "prerouting", EARLY, "accept"),
        BRIDGE.add_hook(EGRESS, "postrouting", LATE, "accept"),
    ];
    for (set, kind, elements) in [
        (GUARDED_V4, "ipv4_addr", json!(v4)),
        (GUARDED_V6, "ipv6_addr", json!(v6)),
        (GUARDED_MAC, "ether_addr", json!(guard.macs)),
    ] {
        commands.push(BRIDGE.add_object("set", set, json!({"type": kind})));
        commands.push(BRIDGE.flush("set", set));
        if elements.as_array().is_some_and(|elements| !elements.is_empty()) {
            commands.push(BRIDGE.add_elements(set, &elements));
        }
    }
    commands.extend([BRIDGE.flush("chain", INGRESS), BRIDGE.flush("chain", EGRESS)]);
    commands.extend(BRIDGE.add_rules(INGRESS, ingress(), &self::version_of(guard)));
    commands.extend(BRIDGE.add_rules(EGRESS, egress(), ""));
    commands
}

/// Tells this base from others.
pub(super) fn version_of(guard: &Guard) -> String {
    version(&json!([guard.addresses, guard.macs, ingress(), egress()]))
}

/// The chain of its port decides about a frame; there is no way back here.
fn ingress() -> Vec<Rule> {
    let by_port = json!({"vmap": {"key": meta("iifname"), "data": format!("@{FROM}")}});
    vec![vec![by_port], [vec![is(meta("iifkind"), json!("tun"))], count_and_drop(UNKNOWN).into()].concat()]
}

fn egress() -> Vec<Rule> {
    let is_unknown =
        vec![is(meta("oifkind"), json!("tun")), differs(meta("oifname"), json!(format!("@{PORTS}")))];
    vec![[is_unknown, count_and_drop(UNKNOWN).into()].concat()]
}
