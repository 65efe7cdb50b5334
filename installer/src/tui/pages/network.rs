//! Page: NICs, VLAN, address, name and time servers.

use super::{note, text};
use crate::inventory::Nic;
use crate::tui::answers::{Ask, BOND_MODES};
use crate::tui::form::{Pick, Row};
use crate::tui::state::{Command, State};

pub(super) const HELP: &str = "\
The node and its VMs are reached through a bridge, br0, on these NICs.

Several NICs make a bond. active-backup works with every switch; 802.3ad (LACP) needs the same ports in one group there.

VLAN: only if the switch sends the node's network tagged. DHCP is then used in that VLAN.

A fixed address has a prefix length: 192.0.2.10/24. Separate several with spaces.

MTU: only if the whole network carries more than 1500 bytes in a packet.

More links, routes and proxies: write them in node.toml.";

pub(super) fn rows(state: &State) -> Vec<Row> {
    let Some(machine) = state.machine() else { return vec![note("Scanning the hardware...")] };
    let answers = &state.answers;
    let mut rows = vec![note("NICs of the node's network; several make a bond.")];
    for (value, nic) in machine.inventory.nics.iter().enumerate() {
        let chosen = answers.nics.contains(&nic.name);
        let mut pick = Pick::one(Ask::Nics, value, chosen, headline(nic));
        pick.several = true;
        rows.push(Row::Pick(pick));
    }
    if machine.inventory.nics.is_empty() {
        rows.push(note("This machine shows no wired NIC that this release has a driver for."));
    }
    if answers.nics.len() > 1 {
        for (value, (mode, more)) in BOND_MODES.into_iter().enumerate() {
            let text = format!("{mode:<14} {more}");
            rows.push(Row::Pick(Pick::one(Ask::BondMode, value, answers.bond_mode == value, text)));
        }
    }
    rows.push(Row::Gap);
    for (value, text) in ["DHCP gives the address", "Fixed address"].into_iter().enumerate() {
        let chosen = answers.fixed_address == (value == 1);
        rows.push(Row::Pick(Pick::one(Ask::Addressing, value, chosen, text)));
    }
    if answers.fixed_address {
        rows.push(text(Ask::Address, "Address", "192.0.2.10/24"));
        rows.push(text(Ask::Gateway, "Gateway", "192.0.2.1"));
    }
    rows.push(text(Ask::Dns, "DNS servers", "in addition to DHCP's"));
    rows.push(text(Ask::Ntp, "Time servers", "in addition to DHCP's"));
    rows.push(text(Ask::Vlan, "VLAN", "1-4094; or untagged"));
    rows.push(text(Ask::Mtu, "MTU", "empty: 1500"));
    rows.extend([
        Row::Gap,
        Row::Button(Command::Continue, "Continue"),
        Row::Button(Command::LookAgain, "Scan again"),
    ]);
    rows
}

fn headline(nic: &Nic) -> String {
    let link = match nic.carrier {
        Some(true) => "cable in",
        Some(false) => "no cable",
        None => "link down",
    };
    let mac = nic.permanent_mac.as_deref().unwrap_or("no MAC of its own");
    let driver = nic.driver.as_deref().unwrap_or("");
    format!("{:<13}{mac:<19}{link:<10}{driver}", nic.name)
}
