//! Packet filters of virtual machines: what a guest may send and reach, and which addresses it has.
//!
//! Why here: a guest that takes another's addresses, or answers DHCP for everybody, harms all on its bridge. One chain of
//! table `bridge sheaf` for each port, matched by the name of its tap, there before the tap is; table `inet sheaf` for what
//! guests reach by way of the node. The kernel counts what is dropped and remembers the addresses that a guest uses. Route
//! in: [`Port`]s of guests and of the records of those that run, the [`Guard`] of the node. Route out: [`put`],
//! [`changes`], [`masquerade::changes`], commands for nft; [`State`] for the status; [`leases`] for the DHCP server.

mod base;
mod guard;
pub mod leases;
pub mod masquerade;
mod observed;
mod port;
mod rules;
mod syntax;

pub use guard::Guard;
pub use observed::{PortState, State};
pub use port::Port;
pub use rules::REASONS;

use serde_json::Value;
use std::collections::BTreeMap;

/// Family of the table of ports.
pub const FAMILY: &str = "bridge";
/// Name of the table of ports: ours alone.
pub const TABLE: &str = "sheaf";

/// Commands that put `ports` in place, whatever is there of them: counters and addresses stay.
pub fn put<'p>(ports: impl IntoIterator<Item = &'p Port>, guard: &Guard) -> Vec<Value> {
    base::commands(guard).into_iter().chain(ports.into_iter().flat_map(rules::port)).collect()
}

/// Commands that make the table fit `wanted`, by name of the tap, and `guard`; none when it does.
///
/// A port that is not wanted loses its chain; while its tap is there, nothing passes it.
pub fn changes(wanted: &BTreeMap<String, Port>, guard: &Guard, state: &State) -> Vec<Value> {
    let is_stale = |port: &&Port| {
        let version = state.ports.get(&port.tap).and_then(|port| port.version.as_deref());
        version != Some(&*rules::version_of(port))
    };
    let mut commands: Vec<Value> = wanted.values().filter(is_stale).flat_map(rules::port).collect();
    if !commands.is_empty() || state.version.as_deref() != Some(&*base::version_of(guard)) {
        commands.splice(..0, base::commands(guard));
    }
    let over = state.ports.iter().filter(|(tap, _)| !wanted.contains_key(*tap));
    commands.extend(over.flat_map(|(tap, port)| rules::remove(tap, port)));
    commands
}

#[cfg(test)]
mod tests;
