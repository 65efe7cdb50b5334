//! The network's probes as the screens show them.

use sheaf_config::node::NodeConfig;
use sheaf_installer::inventory::Inventory;
use sheaf_installer::network::{self, Probe, What};
use sheaf_installer::tui::event::{Check, CheckState};
use std::time::Duration;

/// What will be tried.
pub fn waiting(config: &NodeConfig, inventory: &Inventory) -> Vec<Check> {
    network::plan(config, inventory).into_iter().map(|probe| check(&probe)).collect()
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

/// Tries the network.
pub fn attempt(config: &NodeConfig, inventory: &Inventory, tell: &mut dyn FnMut(Vec<Check>)) {
    let mut checks = waiting(config, inventory);
    for check in &mut checks {
        (check.state, check.found) = (CheckState::Skipped, "not tried by this installer".into());
    }
    tell(checks);
}
