//! The disks as `sheaf-agent disks` shows them. Pure.
//!
//! Route in: what was observed, what the cluster wants. Route out: the section `disks` of the status.

use super::plan::{object_name, used_by};
use crate::channels::{Contents, Disks, Settings};
use crate::listed::Listed;
use crate::status::DiskSection;
use sheaf_api::conditions::find;
use sheaf_api::storage::device::{BlockDevice, Role};
use sheaf_host::smart::Verdict;

/// One line a disk, those that are missing last.
pub(super) fn section(node: &str, disks: &Disks, listed: &Listed<BlockDevice>) -> Vec<DiskSection> {
    let mut sections: Vec<DiskSection> = Vec::new();
    for disk in &disks.seen.disks {
        let name = object_name(node, &disk.id);
        let settings = disks.settings.get(&name).cloned().unwrap_or_default();
        let mut notes = Vec::new();
        match (&disk.facts.serial, disk.duplicate_serial) {
            (None, _) => notes.push("reports no serial number".to_owned()),
            (_, true) => notes.push("another disk has its serial".to_owned()),
            _ => {}
        }
        notes.extend(disk.health.reason.clone());
        if let Contents::Foreign(what) = &disk.contents {
            notes.push(format!("carries {what}"));
        }
        notes.extend(asked(&name, listed));
        sections.push(DiskSection {
            used_by: used_by(disk, settings.role),
            name,
            state: "Active".into(),
            device: Some(disk.facts.device.display().to_string()),
            bytes: disk.facts.size,
            model: disk.facts.model.clone(),
            serial: disk.facts.serial.clone(),
            wwn: disk.facts.wwn.clone(),
            place: disk.facts.place.clone(),
            bus: disk.facts.bus.clone(),
            health: match disk.health.verdict {
                Verdict::Unknown => "unknown",
                Verdict::Passed => "passed",
                Verdict::Warning => "warning",
                Verdict::Failing => "failing",
            }
            .into(),
            role: role(&settings),
            signatures: disk.signatures.clone(),
            notes,
        });
    }
    for (name, object) in &listed.objects {
        if sections.iter().any(|section| section.name == *name) || !disks.observed {
            continue;
        }
        let status = object.status.clone().unwrap_or_default();
        sections.push(DiskSection {
            name: name.clone(),
            state: "Missing".into(),
            bytes: status.size_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            model: status.model,
            serial: status.serial,
            wwn: status.wwn,
            place: status.path,
            bus: status.bus,
            health: "unknown".into(),
            role: role(&disks.settings.get(name).cloned().unwrap_or_default()),
            used_by: status.used_by,
            notes: asked(name, listed).into_iter().collect(),
            ..DiskSection::default()
        });
    }
    sections
}

/// What became of a wipe that was asked for.
fn asked(name: &str, listed: &Listed<BlockDevice>) -> Option<String> {
    let conditions = &listed.objects.get(name)?.status.as_ref()?.conditions;
    let wiped = find(conditions, "Wiped").filter(|condition| condition.status != "True")?;
    Some(format!("not erased: {}", wiped.message.as_deref().or(wiped.reason.as_deref()).unwrap_or_default()))
}

fn role(settings: &Settings) -> String {
    match (settings.role, &settings.pool) {
        (Role::None, _) => "none".into(),
        (Role::Pool, Some(pool)) => format!("pool {pool}"),
        (Role::Pool, None) => "pool".into(),
        (Role::Passthrough, _) => "passthrough".into(),
    }
}
