//! A config against a machine: which disks and NICs are meant, and what does not fit.
//!
//! Why here: `sheaf config check --against` answers at the desk what the installer would answer at the rack. It
//! decides by [`crate::select`] as the installer does, and leaves to it what only the machine knows (space, sectors,
//! the network). Pure. Route in: a file and an [`Inventory`]. Route out: [`Findings`].

use crate::diagnose::{Errors, Problem};
use crate::inventory::{Disk, Inventory, Nic};
use crate::load::ConfigFile;
use crate::node::{DiskSelector, NodeConfig, Reinstall};
use crate::select;
use sheaf_links::{FoundNic, Kind, Link};
use std::collections::BTreeMap;
use std::path::Path;

/// What a config means on one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is meant by what: `install.disk: /dev/nvme0n1, …`.
    pub found: Vec<String>,
    /// What does not fit.
    pub problems: Vec<Problem>,
}

impl Findings {
    fn refuse(&mut self, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let problem = Problem { line: None, path: path.into(), what: what.into(), remedy: remedy.into() };
        self.problems.push(problem);
    }
}

/// Checks `file`, whose text is `text`, against the machine of `inventory`: the errors name lines of the text.
pub fn check(
    file: &ConfigFile,
    text: &str,
    inventory: &Inventory,
) -> Result<(NodeConfig, Vec<String>), Errors> {
    let config = file.for_machine(&inventory.machine)?;
    let mut findings = findings(&config, inventory);
    if findings.problems.is_empty() {
        return Ok((config, findings.found));
    }
    let machine = file
        .entries()
        .iter()
        .position(|entry| entry.matches.as_ref().is_some_and(|matches| matches.holds(&inventory.machine)));
    for problem in &mut findings.problems {
        let own = machine.map(|index| format!("node[{index}].{}", problem.path));
        let line = own.and_then(|path| match crate::spanned::line_of(text, &path)? {
            (line, true) => Some((line, path)),
            _ => None,
        });
        match line {
            Some((line, path)) => (problem.line, problem.path) = (Some(line), path),
            None => problem.line = crate::spanned::line_of(text, &problem.path).map(|(line, _)| line),
        }
    }
    findings.problems.sort();
    Err(Errors { file: file.name().to_owned(), problems: findings.problems })
}

/// What `config` means on the machine of `inventory`.
pub fn findings(config: &NodeConfig, inventory: &Inventory) -> Findings {
    let mut findings = Findings::default();
    disks(config, &inventory.disks, &mut findings);
    nics(config, &inventory.nics, &mut findings);
    findings
}

fn disks(config: &NodeConfig, disks: &[Disk], findings: &mut Findings) {
    let mut taken: BTreeMap<&Path, String> = BTreeMap::new();
    let mut one = |path: String, selector: &DiskSelector, findings: &mut Findings| -> Option<Disk> {
        let fits: Vec<_> =
            disks.iter().filter(|disk| select::mismatches(selector, disk).is_empty()).collect();
        let [disk] = fits[..] else {
            let number =
                if fits.is_empty() { "no disk has".into() } else { format!("{} disks have", fits.len()) };
            findings.refuse(
                &path,
                format!("{number} {selector}; there are {}", listed(disks, selector)),
                match fits.len() {
                    0 => "write what one of them has",
                    _ => {
                        "add what only one of them has: serial, wwn, or path with a link of /dev/disk/by-path"
                    }
                },
            );
            return None;
        };
        if let Some(other) = taken.insert(&disk.path, path.clone()) {
            // A pool takes what the installer emptied for it.
            let is_prepared = other.starts_with("install.data-disks") && path.starts_with("storage.pool");
            if !is_prepared {
                findings.refuse(
                    &path,
                    format!("{} is the disk of {other}", facts(disk)),
                    "select another disk",
                );
            }
        }
        findings.found.push(format!("{path}: {}", facts(disk)));
        Some(disk.clone())
    };
    if let Some(install) = &config.install {
        if let Some(disk) = one("install.disk".into(), &install.disk, findings) {
            let keeps = install.reinstall == Some(Reinstall::KeepData);
            may_be_written(&disk, "install", install.wipe.as_deref(), keeps, findings);
        }
        for (index, data) in install.data_disks.iter().enumerate() {
            let path = format!("install.data-disks[{index}]");
            if let Some(disk) = one(path.clone(), &data.disk, findings) {
                may_be_written(&disk, &path, data.wipe.as_deref(), false, findings);
            }
        }
    }
    for (index, pool) in config.storage.pools.iter().enumerate() {
        for (number, selector) in pool.disks.iter().enumerate() {
            one(format!("storage.pool[{index}].disks[{number}]"), selector, findings);
        }
    }
}

/// The rules of erasing: never what is in use, and what holds data only by its serial.
fn may_be_written(disk: &Disk, path: &str, wipe: Option<&str>, keeps: bool, findings: &mut Findings) {
    if disk.read_only {
        findings.refuse(path, format!("{} is read-only", facts(disk)), "select another disk");
    }
    if !disk.uses.is_empty() {
        let what = format!("{} is in use ({})", facts(disk), disk.uses.join(", "));
        findings.refuse(path, what, "select another disk");
    }
    if let Some(error) = &disk.unreadable {
        let what = format!("{} cannot be searched for present contents ({error})", facts(disk));
        findings.refuse(path, what, "select another disk");
    }
    if keeps {
        if disk.older.is_none() {
            let what = format!("{} holds no installation of Sheaf to keep data of", facts(disk));
            findings.refuse(path, what, "remove reinstall, or select the disk that holds one");
        }
        return;
    }
    let mut kinds: Vec<_> = disk.signatures.iter().map(|found| found.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    match (wipe, &disk.serial) {
        (Some(wipe), serial) if serial.as_deref() != Some(wipe) => {
            let what = format!("wipe is \"{wipe}\", which is not the serial of {}", facts(disk));
            findings.refuse(path, what, "write the serial of the disk that may be erased, or remove wipe");
        }
        (None, Some(serial)) if !kinds.is_empty() => {
            let what = format!("{} holds data ({})", facts(disk), kinds.join(", "));
            findings.refuse(path, what, format!("if that may be lost, write wipe = \"{serial}\""));
        }
        (None, None) if !kinds.is_empty() => {
            let what = format!("{} holds data ({}) and has no serial", facts(disk), kinds.join(", "));
            findings.refuse(path, what, "erase it by hand (wipefs --all), or select another disk");
        }
        _ => {}
    }
}

fn nics(config: &NodeConfig, nics: &[Nic], findings: &mut Findings) {
    let (links, found_nics) = (&config.network.links, select::found_nics(nics));
    let found_nics = found_nics.as_slice();
    for link in links.all() {
        let path = format!("network.{}[{}]", link.kind().key(), link.index);
        let (key, texts) = match link.link {
            Link::Nic(described) => {
                match described.selector().find(found_nics) {
                    Some(found_nic) => findings.found.push(format!("{path}: {found_nic}")),
                    None => findings.refuse(
                        &path,
                        format!("no NIC is this one; there are {}", all(found_nics)),
                        "correct mac, path or name",
                    ),
                }
                continue;
            }
            Link::Vlan(vlan) => ("parent", std::slice::from_ref(&vlan.parent)),
            Link::Bond(_) | Link::Bridge(_) => ("ports", link.ports()),
        };
        for text in texts.iter().filter(|text| links.get(text).is_none()) {
            match links.find(text, found_nics) {
                Some(found_nic) => findings.found.push(format!("{path}.{key}: \"{text}\" is {found_nic}")),
                None => findings.refuse(
                    &format!("{path}.{key}"),
                    format!("no NIC is \"{text}\"; there are {}", all(found_nics)),
                    "write the MAC of one of them",
                ),
            }
        }
        match found_nics {
            _ if !texts.is_empty() || link.kind() != Kind::Bridge => {}
            [found_nic] => findings.found.push(format!("{path}.ports: the only NIC, {found_nic}")),
            _ => findings.refuse(
                &format!("{path}.ports"),
                format!("names no NIC, and there are {}", all(found_nics)),
                "write the MAC of one of them",
            ),
        }
    }
}

fn all(found_nics: &[FoundNic]) -> String {
    if found_nics.is_empty() {
        "none".into()
    } else {
        found_nics.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

fn facts(disk: &Disk) -> String {
    let mut facts = vec![disk.path.display().to_string(), gigabytes(disk.size)];
    facts.extend(disk.bus.map(|bus| bus.to_string()));
    facts.extend(disk.model.clone());
    facts.push(disk.serial.as_ref().map_or("no serial".into(), |serial| format!("serial {serial}")));
    facts.join(" ")
}

/// As on a disk's label.
fn gigabytes(bytes: u64) -> String {
    format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000)
}

fn listed(disks: &[Disk], selector: &DiskSelector) -> String {
    let line = |disk: &Disk| {
        let reasons = select::mismatches(selector, disk);
        let why = if reasons.is_empty() { "fits".into() } else { reasons.join(" and ") };
        format!("{} ({why})", facts(disk))
    };
    if disks.is_empty() { "none".into() } else { disks.iter().map(line).collect::<Vec<_>>().join(", ") }
}
