//! The one disk: which fits the selector, and whether it may be written.
//!
//! Why so strict: writing to the wrong disk cannot be undone. A selector is never widened or narrowed by guesses:
//! disks that fit but cannot be used still count, the medium never does. Route in: `[install]`, all disks.
//! Route out: the disk, or errors that list every disk with its reason.

use super::{LayoutError, MIN_DISK, PlanError};
use crate::inventory::Disk;
use sheaf_config::node::{DiskSelector, Install, Size};
use sheaf_config::select::mismatches;
use sheaf_host::human;

/// The disk to install on.
pub(super) fn disk<'d>(
    install: Option<&Install>,
    disks: &'d [Disk],
    errors: &mut Vec<PlanError>,
) -> Option<&'d Disk> {
    let Some(install) = install else {
        errors.push(PlanError::NoInstall { disks: list(disks, |_| String::new()) });
        return None;
    };
    let proof = match (&install.wipe, super::keep::is_asked(install)) {
        (_, true) => Proof::OlderInstall,
        (wipe, false) => Proof::Serial(wipe.as_deref(), INSTALL),
    };
    one("install.disk", &install.disk, proof, disks, errors)
}

/// The disks that are emptied besides; none is the one to install on, and no two are the same.
pub(super) fn data_disks<'d>(
    install: Option<&Install>,
    target: Option<&Disk>,
    disks: &'d [Disk],
    errors: &mut Vec<PlanError>,
) -> Vec<&'d Disk> {
    let mut found: Vec<(String, &Disk)> = Vec::new();
    for (number, wanted) in install.iter().flat_map(|install| &install.data_disks).enumerate() {
        let key = format!("install.data-disks[{}]", number + 1);
        let proof = Proof::Serial(wanted.wipe.as_deref(), "that entry of install.data-disks");
        let Some(disk) = one(&key, &wanted.disk, proof, disks, errors) else { continue };
        let other = match found.iter().find(|(_, other)| other.path == disk.path) {
            _ if target.is_some_and(|target| target.path == disk.path) => "install.disk".to_owned(),
            Some((other, _)) => other.clone(),
            None => {
                found.push((key, disk));
                continue;
            }
        };
        errors.push(PlanError::Disk {
            disk: disk.path.clone(),
            reason: format!("is selected by {other} and by {key}"),
            remedy: "write what only one disk has in each".into(),
        });
    }
    found.into_iter().map(|(_, disk)| disk).collect()
}

/// Where the proof for the disk to install on stands.
const INSTALL: &str = "[install]";

/// What allows the contents of a disk to be erased.
#[derive(Clone, Copy)]
enum Proof<'c> {
    /// Its serial, when it is given; and where it is written.
    Serial(Option<&'c str>, &'c str),
    /// The older install on it, whose data stays.
    OlderInstall,
}

/// The one disk that fits `selector` and may be written.
fn one<'d>(
    key: &str,
    selector: &DiskSelector,
    proof: Proof<'_>,
    disks: &'d [Disk],
    errors: &mut Vec<PlanError>,
) -> Option<&'d Disk> {
    let fits = |disk: &&Disk| mismatches(selector, disk).is_empty();
    let fitting: Vec<_> = disks.iter().filter(fits).collect();
    let [disk] = fitting[..] else {
        errors.push(selection(key, selector, disks, fitting.len()));
        return None;
    };
    let refusals = refusals(proof, disk, disks);
    let usable = refusals.is_empty();
    errors.extend(refusals);
    usable.then_some(disk)
}

fn selection(key: &str, selector: &DiskSelector, disks: &[Disk], fitting: usize) -> PlanError {
    let why = |disk: &Disk| {
        let mismatches = mismatches(selector, disk);
        if mismatches.is_empty() { ": fits".into() } else { format!(": {}", mismatches.join(", ")) }
    };
    let fits: Vec<_> = disks.iter().filter(|disk| mismatches(selector, disk).is_empty()).collect();
    let serial_tells = fits.iter().all(|disk| disk.serial.is_some() && twins(disk, disks).is_empty());
    let (found, remedy) = match fitting {
        0 => ("no disk has".into(), "write what one of these disks has"),
        many if serial_tells => {
            (format!("{many} disks have"), "add what only one of them has, best its serial")
        }
        many => (
            format!("{many} disks have"),
            "they have the same serial: add wwn, or path with a link of /dev/disk/by-path",
        ),
    };
    PlanError::Selection {
        key: key.to_owned(),
        found,
        selector: selector.to_string(),
        remedy: remedy.into(),
        disks: list(disks, why),
    }
}

/// One line for each disk: its facts, which disks have the same serial, and what `note` adds.
fn list(disks: &[Disk], note: impl Fn(&Disk) -> String) -> String {
    if disks.is_empty() {
        return "  this machine shows no disks: is the controller's driver in this release? Is RAID mode off?".into();
    }
    let same = |disk: &Disk| {
        let twins: Vec<_> = twins(disk, disks).iter().map(|twin| twin.path.display().to_string()).collect();
        if twins.is_empty() { String::new() } else { format!(" (the same as {})", twins.join(" and ")) }
    };
    let line = |disk: &Disk| format!("  {}{}{}", facts(disk), same(disk), note(disk));
    disks.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn facts(disk: &Disk) -> String {
    let mut facts = vec![disk.path.display().to_string(), human::decimal(disk.size)];
    facts.extend(disk.bus.map(|bus| bus.to_string()));
    facts.extend(disk.model.clone());
    facts.extend(disk.wwn.as_ref().map(|wwn| format!("wwn {wwn}")));
    facts.push(disk.serial.as_ref().map_or("no serial".into(), |serial| format!("serial {serial}")));
    facts.join(", ")
}

/// Other disks with the same serial: clones, LUNs of one array, or one disk on two paths.
fn twins<'d>(disk: &Disk, disks: &'d [Disk]) -> Vec<&'d Disk> {
    let same = |other: &&Disk| other.path != disk.path && other.serial == disk.serial;
    if disk.serial.is_none() { Vec::new() } else { disks.iter().filter(same).collect() }
}

/// Why the disk that fits may not be written.
fn refusals(proof: Proof<'_>, disk: &Disk, disks: &[Disk]) -> Vec<PlanError> {
    let mut refusals = Vec::new();
    let mut refuse = |reason: String, remedy: &str| {
        refusals.push(PlanError::Disk { disk: disk.path.clone(), reason, remedy: remedy.into() });
    };
    if disk.read_only {
        refuse("is read-only".into(), "switch its write protection off or select another disk");
    }
    if !disk.uses.is_empty() {
        refuse(format!("is in use ({})", disk.uses.join(", ")), "select another disk");
    }
    if let Some(error) = &disk.unreadable {
        refuse(
            format!("cannot be searched for present contents ({error})"),
            "select another disk; this one may be failing",
        );
    }
    let has = contents(disk).join(", ");
    let twins = twins(disk, disks);
    // `keep` reports whether there is an older install.
    let Proof::Serial(wipe, place) = proof else { return refusals };
    match (wipe, &disk.serial) {
        (Some(wipe), serial) if serial.as_deref() != Some(wipe) => {
            let serial = serial.as_ref().map_or("none".into(), |serial| format!("\"{serial}\""));
            refuse(
                format!("wipe is \"{wipe}\", but the serial of this disk is {serial}"),
                "write the serial of the disk that may be erased, or remove wipe",
            );
        }
        (Some(serial), _) if !has.is_empty() && !twins.is_empty() => {
            let others: Vec<_> = twins.iter().map(|twin| twin.path.display().to_string()).collect();
            refuse(
                format!(
                    "holds data ({has}), and wipe = \"{serial}\" is ambiguous: {} has the same serial",
                    others.join(" and ")
                ),
                "take the other disk out, or erase this one by hand (wipefs --all)",
            );
        }
        (None, Some(serial)) if !has.is_empty() => refuse(
            format!("holds data ({has})"),
            &match disk.older.is_some() && place == INSTALL {
                true => format!(
                    "if that may be lost, write wipe = \"{serial}\" in {place}; to keep its data partition, \
                     reinstall = \"keep-data\""
                ),
                false => format!("if that may be lost, write wipe = \"{serial}\" in {place}"),
            },
        ),
        (None, None) if !has.is_empty() => refuse(
            format!("holds data ({has}) and has no serial by which wipe could name it"),
            "erase it by hand (wipefs --all) or select another disk",
        ),
        _ => {}
    }
    refusals
}

/// Present contents in words: `gpt on /dev/sda`.
pub(crate) fn contents(disk: &Disk) -> Vec<String> {
    let older = disk.older.iter().map(|older| format!("an older install of Sheaf ({})", older.id));
    let found = |found: &crate::inventory::Signature| format!("{} on {}", found.kind, found.device.display());
    let mut contents: Vec<_> = older.chain(disk.signatures.iter().map(found)).collect();
    // A table's backup and a file system's copies are the same contents again.
    contents.dedup();
    let mut seen = std::collections::BTreeSet::new();
    contents.retain(|content| seen.insert(content.clone()));
    contents
}

/// A disk that cannot hold the table.
pub(super) fn unfit(disk: &Disk, error: LayoutError) -> PlanError {
    let (reason, remedy) = match error {
        LayoutError::TooSmall => (
            format!("is too small: it has {} bytes, Sheaf needs {MIN_DISK}", disk.size),
            "select a larger disk",
        ),
        LayoutError::State(largest) => (
            format!(
                "has no room for data next to a state partition of install.state-size; at most {} is possible",
                Size(largest)
            ),
            "write a smaller state-size, or select a larger disk",
        ),
        LayoutError::Data(largest) => (
            format!(
                "has no room for a data partition of install.data-size; at most {} is possible",
                Size(largest)
            ),
            "write a smaller data-size, or select a larger disk",
        ),
        LayoutError::SectorSize(size) => (
            format!("has sectors of {size} bytes, Sheaf needs 512 or 4096"),
            "format the disk to 512 or 4096 bytes with its vendor's program",
        ),
    };
    PlanError::Disk { disk: disk.path.clone(), reason, remedy: remedy.into() }
}
