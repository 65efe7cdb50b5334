//! Bridges and cards: every port a bridge asks for must be a card of this machine.
//!
//! Why before the disk is touched: a node whose bridge has no card can not be reached to mend it. The node resolves
//! its ports anew at each boot; this only makes sure that it can. Route in: bridges, wired cards.
//! Route out: [`BridgePorts`], or errors that list the cards.

use super::PlanError;
use crate::inventory::Nic;
use serde::Serialize;
use sheaf_config::node::Bridge;
use std::collections::BTreeMap;

/// The cards of one bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BridgePorts {
    /// Name of the bridge.
    pub bridge: String,
    /// Its cards: kernel name and permanent MAC address.
    pub ports: Vec<String>,
}

pub(super) fn resolve(bridges: &[Bridge], nics: &[Nic], errors: &mut Vec<PlanError>) -> Vec<BridgePorts> {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    let mut resolved = Vec::new();
    for bridge in bridges {
        let mut refuse = |reason: String, remedy: String| {
            errors.push(PlanError::Network { bridge: bridge.name.clone(), reason, remedy });
        };
        let mut ports: Vec<&Nic> = Vec::new();
        match (bridge.ports.is_empty(), nics) {
            (true, [nic]) => ports.push(nic),
            (true, []) => refuse(
                "has no ports and this machine shows no wired network card".into(),
                "put in a card that this release has a driver for".into(),
            ),
            (true, _) => refuse(
                format!("has no ports and this machine has several cards: {}", list(nics)),
                "write the MAC address of one in ports".into(),
            ),
            (false, _) => {
                for port in &bridge.ports {
                    match nics.iter().find(|nic| is(nic, port)) {
                        Some(nic) => ports.push(nic),
                        None => refuse(
                            format!("no card is \"{port}\""),
                            format!("write the MAC address of one of these in ports: {}", list(nics)),
                        ),
                    }
                }
            }
        }
        for nic in &ports {
            if let Some(other) = taken.insert(&nic.name, &bridge.name) {
                refuse(
                    format!("{} is already a port of \"{other}\"", name(nic)),
                    "a card can be in one bridge only, once".into(),
                );
            }
        }
        resolved
            .push(BridgePorts { bridge: bridge.name.clone(), ports: ports.into_iter().map(name).collect() });
    }
    resolved
}

/// Whether `port` names `nic`, by kernel name or permanent MAC address.
fn is(nic: &Nic, port: &str) -> bool {
    nic.name == port || nic.permanent_mac.as_ref().is_some_and(|mac| mac.eq_ignore_ascii_case(port))
}

fn name(nic: &Nic) -> String {
    match &nic.permanent_mac {
        Some(mac) => format!("{} ({mac})", nic.name),
        None => nic.name.clone(),
    }
}

fn list(nics: &[Nic]) -> String {
    if nics.is_empty() {
        return "this machine shows no wired network card".into();
    }
    nics.iter().map(name).collect::<Vec<_>>().join(", ")
}
