//! The network's probes as the screens show them.
//!
//! Route in: config and inventory. Route out: one [`Check`] for each probe, told each time one of them changes.

use sheaf_config::node::NodeConfig;
use sheaf_installer::inventory::Inventory;
use sheaf_installer::network::{self, Outcome, Probe, State, What};
use sheaf_installer::session::Session;
use sheaf_installer::tui::event::{Check, CheckState};
use std::time::Duration;

/// What will be tried.
pub fn waiting(config: &NodeConfig, inventory: &Inventory) -> Vec<Check> {
    network::plan(config, inventory).iter().map(check).collect()
}

/// Tries it on this machine, whose network follows `config` from then on.
pub fn attempt(
    session: &Session<'_>,
    config: &NodeConfig,
    inventory: &Inventory,
    tell: &mut dyn FnMut(Vec<Check>),
) {
    let probes = network::plan(config, inventory);
    let mut checks: Vec<Check> = probes.iter().map(check).collect();
    tell(checks.clone());
    session.try_network(config, inventory, &mut |outcome| {
        if let Some(at) = probes.iter().position(|probe| *probe == outcome.probe) {
            checks[at] = tried(outcome);
        }
        tell(checks.clone());
    });
}

fn check(probe: &Probe) -> Check {
    Check {
        what: probe.what.to_string(),
        state: CheckState::Waiting,
        found: String::new(),
        remedy: None,
        required: probe.required,
        is_address: matches!(probe.what, What::Dhcp { .. }),
        took: Duration::ZERO,
    }
}

fn tried(outcome: &Outcome) -> Check {
    Check {
        state: match outcome.state {
            State::Running => CheckState::Running,
            State::Passed => CheckState::Passed,
            State::Warned => CheckState::Warned,
            State::Failed => CheckState::Failed,
            State::Skipped => CheckState::Skipped,
        },
        found: outcome.found.clone(),
        remedy: outcome.remedy.clone(),
        took: outcome.took,
        ..check(&outcome.probe)
    }
}
