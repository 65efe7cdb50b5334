//! Page: the network, tried for real.

use super::note;
use crate::tui::event::{Check, CheckState};
use crate::tui::form::Row;
use crate::tui::state::{Command, State};

pub(super) const HELP: &str = "\
The network is set up as the node will have it, in this installer, and tried: cables, DHCP on its VLAN, whether the address is free, gateway, name servers, time, the cluster's server and the token. Nothing has been written to the disk yet.

FAILED: the node would start, but could not be used. Go back (Esc) and correct the answer, or fix the network and try again.

warning: the node will start, but something should be corrected.

You may continue despite a failure if you know that it will be fixed before the node starts.";

/// The button that is proposed when all was tried.
pub fn proposal(state: &State) -> Command {
    if state.network_failed() { Command::TryAgain } else { Command::Continue }
}

pub(super) fn rows(state: &State) -> Vec<Row> {
    let mut rows = vec![
        note("The network is checked as the node will use it. Nothing was written to any disk."),
        Row::Gap,
    ];
    for check in &state.checks {
        rows.push(Row::Verbatim(line(check)));
        if let Some(remedy) = &check.remedy {
            rows.push(Row::Verbatim(format!("           {remedy}")));
        }
    }
    if state.checks.is_empty() && state.checks_done {
        rows.push(note("There is nothing to check."));
    }
    rows.push(Row::Gap);
    match (state.checks_done, state.network_failed()) {
        (false, _) => rows.push(note("Trying... (Esc goes back)")),
        (true, true) => rows.extend([
            note("The node could not join the cluster like this."),
            Row::Gap,
            Row::Button(Command::TryAgain, "Try again"),
            Row::Button(Command::Continue, "Continue anyway"),
        ]),
        (true, false) => rows.extend([
            Row::Button(Command::Continue, "Continue"),
            Row::Button(Command::TryAgain, "Try again"),
        ]),
    }
    rows
}

fn line(check: &Check) -> String {
    let word = match check.state {
        CheckState::Waiting => "",
        CheckState::Running => "...",
        CheckState::Passed => "ok",
        CheckState::Warned => "warning",
        CheckState::Failed => "FAILED",
        CheckState::Skipped => "skipped",
    };
    let found = if check.found.is_empty() { String::new() } else { format!(": {}", check.found) };
    format!("  {word:<9}{}{found}", check.what)
}
