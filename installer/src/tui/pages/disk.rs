//! Page: the disk, and the proof that what is on it may go.

use super::{note, text};
use crate::inventory::Disk;
use crate::tui::answers::Ask;
use crate::tui::form::{Pick, Row};
use crate::tui::machine::{PROOF, holds_data};
use crate::tui::state::{Command, State};
use sheaf_config::node::Then;
use sheaf_host::human::decimal;

/// What may follow an installation.
pub(super) const THEN: [(Then, &str); 2] = [(Then::Reboot, "restart"), (Then::PowerOff, "power off")];

pub(super) const HELP: &str = "\
The whole disk is used: system, state, and a storage pool for VMs.

A disk that cannot be chosen says why: it is the medium itself, in use, read-only, too small (16 GB is needed), or it \
holds data and has no serial number that could be typed.

A disk with anything on it is erased only when you type its serial number, or the last four or more characters of it. \
Read it from the disk's label or the server's inventory, not from this screen: it proves which disk you mean.

The installed node finds its partitions by IDs of this installation. Another disk with an older installation does no harm.

Scan again after you attach or remove a disk. A webhook is called at start, success and failure; if a call fails, the installation continues.";

pub(super) fn rows(state: &State) -> Vec<Row> {
    let mut rows = vec![note("Install on which disk?"), Row::Gap];
    let Some(machine) = state.machine() else {
        rows.push(note("Scanning the hardware..."));
        return rows;
    };
    let disks = &machine.inventory.disks;
    for (value, disk) in disks.iter().enumerate() {
        let chosen = state.answers.disk.as_ref() == Some(&disk.path);
        let mut pick = Pick::one(Ask::Disk, value, chosen, headline(disk));
        pick.refused = machine.refusal(disk);
        pick.more.push(contents(disk));
        rows.push(Row::Pick(pick));
    }
    if disks.is_empty() {
        rows.push(note(
            "This machine shows no disks. Is RAID mode off, is the controller's driver in this release?",
        ));
    }
    rows.push(Row::Gap);
    let chosen = state.answers.disk.as_ref().and_then(|path| machine.disk(path));
    if let Some(disk) = chosen.filter(|disk| holds_data(disk)) {
        let ask = format!(
            "What is on {} is lost. To allow it, type its serial number, or its last {PROOF} or more characters.",
            disk.path.display()
        );
        rows.extend([note(ask), text(Ask::Wipe, "Serial", "from the disk's label")]);
        rows.push(Row::Gap);
    }
    rows.push(note("When the installation is complete:"));
    for (value, (then, text)) in THEN.into_iter().enumerate() {
        rows.push(Row::Pick(Pick::one(Ask::Then, value, state.answers.then == then, text)));
    }
    rows.push(text(Ask::Webhook, "Webhook", "optional: a URL to call"));
    rows.extend([
        Row::Gap,
        Row::Button(Command::Continue, "Continue"),
        Row::Button(Command::LookAgain, "Scan again"),
    ]);
    rows
}

fn headline(disk: &Disk) -> String {
    let bus = disk.bus.map(|bus| format!("{bus:?}").to_lowercase()).unwrap_or_default();
    let model = disk.model.as_deref().unwrap_or("unknown model");
    format!("{:<13}{:>9}  {bus:<7}{model}", disk.path.display(), decimal(disk.size))
}

/// Its serial, and what is on it: for someone who wonders whether it may go.
fn contents(disk: &Disk) -> String {
    let serial = disk.serial.as_ref().map_or("no serial".into(), |serial| format!("serial {serial}"));
    let mut kinds: Vec<&str> = Vec::new();
    for signature in &disk.signatures {
        if !kinds.contains(&signature.kind.as_str()) {
            kinds.push(&signature.kind);
        }
    }
    match kinds.is_empty() {
        true if disk.unreadable.is_some() => format!("{serial}, holds something that cannot be read"),
        true => format!("{serial}, empty"),
        false => format!("{serial}, holds {}", kinds.join(", ")),
    }
}
