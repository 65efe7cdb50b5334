//! What follows from a scan of the disks: objects to create, statuses to write, disks to wipe. Pure.
//!
//! Why here: that a disk is erased is decided once, here, and every reason against it is a sentence. A wipe that was
//! done is remembered in the status and not done twice for one request: a disk that is pulled, filled elsewhere and
//! comes back is not erased because an old request still stands. Route in: [`super::observe`], the node's objects.
//! Route out: [`Action`]s for [`super::apply`].

use crate::channels::{Contents, Disk};
use crate::human;
use crate::reconcile::events::Event;
use k8s_openapi::jiff::Timestamp;
use sheaf_api::conditions::{clear, find, seconds, set};
use sheaf_api::names::NODE_LABEL;
use sheaf_api::status::Condition;
use sheaf_api::storage::device::{
    BlockDevice, BlockDeviceSpec, BlockDeviceStatus, DeviceState, Health, Role, Smart, Wiped,
};
use sheaf_host::smart::Verdict;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Condition: no other disk has its serial.
const SERIAL_UNIQUE: &str = "SerialUnique";
/// Condition: the disk reports that it is healthy.
const HEALTHY: &str = "Healthy";
/// Condition: the wipe that is asked for was done.
const WIPED: &str = "Wiped";

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the object of a disk that has none.
    Create(Box<BlockDevice>),
    /// Erase the disk of that identifier, whose object is `name`.
    Wipe {
        /// Its object.
        name: String,
        /// Identifier of the disk.
        id: String,
    },
    /// Write a status, and record what changed.
    WriteStatus {
        /// Name of the object.
        name: String,
        /// The whole status.
        status: Box<BlockDeviceStatus>,
        /// What changed.
        events: Vec<Event>,
    },
}

/// Name of the object of the disk `id`.
pub fn object_name(node: &str, id: &str) -> String {
    format!("{node}.{id}")
}

/// What is to be done. `failed` are wipes that were tried, by object, with the reason.
pub fn plan(
    node: &str,
    disks: &[Disk],
    objects: &BTreeMap<String, Arc<BlockDevice>>,
    failed: &BTreeMap<String, String>,
    now: Timestamp,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for disk in disks {
        let name = object_name(node, &disk.id);
        match objects.get(&name) {
            None => actions.push(Action::Create(Box::new(object(node, &name, disk)))),
            Some(object) => actions.extend(present(object, &name, disk, failed.get(&name), now)),
        }
    }
    for (name, object) in objects {
        let is_present = disks.iter().any(|disk| object_name(node, &disk.id) == *name);
        if !is_present {
            actions.extend(missing(object, name, now));
        }
    }
    actions
}

fn object(node: &str, name: &str, disk: &Disk) -> BlockDevice {
    let spec = BlockDeviceSpec {
        node_name: node.to_owned(),
        identity: disk.facts.identity(),
        ..BlockDeviceSpec::default()
    };
    let mut object = BlockDevice::new(name, spec);
    object.metadata.labels = Some(BTreeMap::from([(NODE_LABEL.to_owned(), node.to_owned())]));
    object
}

/// What becomes of the wipe that an object asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wiping {
    /// Erase it now.
    Due,
    /// It is empty, or was erased for this request.
    Done,
    /// It is not erased; why, in one word and in a sentence.
    Refused(&'static str, String),
}

/// Whether the disk is to be erased; none when nobody asks.
fn wipe(object: &BlockDevice, disk: &Disk) -> Option<Wiping> {
    let asked = object.spec.wipe.as_ref()?;
    let done = object.status.as_ref().and_then(|status| status.wiped.as_ref());
    let is_done = done.is_some_and(|done| done.confirm_serial == asked.confirm_serial);
    let refuse = |reason, why: String| Some(Wiping::Refused(reason, why));
    let is_empty = disk.contents == Contents::Empty;
    if is_done && !is_empty && matches!(disk.contents, Contents::Foreign(_)) {
        return refuse(
            "DoneBefore",
            "it was erased for this request, and it has contents again; to erase them, remove spec.wipe and set it \
             again"
                .into(),
        );
    }
    if is_done || is_empty {
        return Some(Wiping::Done);
    }
    // The disk itself is asked, not only what its object remembers.
    let says = disk.facts.identity();
    if says.proof() != Some(asked.confirm_serial.as_str()) {
        return refuse(
            "OtherDisk",
            format!("a different disk is attached: {}", says.proof().unwrap_or("no serial or WWN")),
        );
    }
    match &disk.contents {
        Contents::System => refuse("InUse", "this node runs from it".into()),
        Contents::Pool(pool) if !disk.uses.is_empty() => refuse(
            "InUse",
            format!(
                "it belongs to pool {pool}; take it out of the pool first, or delete the pool's StoragePool"
            ),
        ),
        _ if !disk.uses.is_empty() => refuse("InUse", disk.uses.join(", ")),
        _ if disk.facts.read_only => refuse("ReadOnly", "it is read-only".into()),
        _ if disk.unreadable.is_some() => refuse("Unreadable", disk.unreadable.clone().unwrap_or_default()),
        _ if disk.is_ambiguous => refuse(
            "Ambiguous",
            "another disk of this node reports the same serial; remove the one that is to keep its data"
                .into(),
        ),
        _ => Some(Wiping::Due),
    }
}

fn present(
    object: &BlockDevice,
    name: &str,
    disk: &Disk,
    failed: Option<&String>,
    now: Timestamp,
) -> Vec<Action> {
    let before = object.status.clone().unwrap_or_default();
    let wipe = wipe(object, disk);
    let mut status = described(disk, object.spec.role);
    status.observed_generation = object.metadata.generation;
    status.conditions = before.conditions.clone();
    status.wiped = before.wiped.clone().filter(|_| object.spec.wipe.is_some());
    if let (Some(Wiping::Done), Some(asked)) = (&wipe, &object.spec.wipe)
        && status.wiped.as_ref().is_none_or(|done| done.confirm_serial != asked.confirm_serial)
    {
        status.wiped = Some(Wiped { confirm_serial: asked.confirm_serial.clone(), time: seconds(now) });
    }
    conditions(&mut status.conditions, disk, wipe.as_ref(), failed, now);
    let mut actions = Vec::new();
    if wipe == Some(Wiping::Due) && failed.is_none() {
        actions.push(Action::Wipe { name: name.to_owned(), id: disk.id.clone() });
    }
    if status != before {
        let events = events(&before, &status);
        actions.push(Action::WriteStatus { name: name.to_owned(), status: Box::new(status), events });
    }
    actions
}

fn missing(object: &BlockDevice, name: &str, now: Timestamp) -> Option<Action> {
    let before = object.status.clone().unwrap_or_default();
    let mut status = before.clone();
    status.state = Some(DeviceState::Missing);
    let was_at = status.dev_path.take();
    status.duplicate_serial = false;
    status.observed_generation = object.metadata.generation;
    let place = was_at.map_or(String::new(), |path| format!("; it was {path}"));
    set(&mut status.conditions, HEALTHY, "Unknown", "Missing", &format!("it is not attached{place}"), now);
    if before.state == Some(DeviceState::Missing) {
        // The sentence with its last place stays.
        status.conditions = before.conditions.clone();
    }
    let events = match before.state {
        Some(DeviceState::Missing) => Vec::new(),
        _ => vec![Event::warning("DiskMissing", format!("it is not attached any more{place}"))],
    };
    (status != before).then(|| Action::WriteStatus {
        name: name.to_owned(),
        status: Box::new(status),
        events,
    })
}

/// The disk as the status shows it, conditions and wipe apart.
fn described(disk: &Disk, role: Role) -> BlockDeviceStatus {
    let facts = &disk.facts;
    let smart = Smart {
        health: match disk.health.verdict {
            Verdict::Unknown => Health::Unknown,
            Verdict::Passed => Health::Passed,
            Verdict::Warning => Health::Warning,
            Verdict::Failing => Health::Failing,
        },
        message: disk.health.reason.clone(),
        temperature: disk.health.temperature,
        power_on_hours: disk.health.power_on_hours,
        percentage_used: disk.health.percentage_used,
        media_errors: disk.health.media_errors,
    };
    BlockDeviceStatus {
        state: Some(DeviceState::Active),
        dev_path: Some(facts.device.display().to_string()),
        size_bytes: i64::try_from(facts.size).ok(),
        size: Some(human::decimal(facts.size)),
        sector_size: i64::try_from(facts.sector_size).ok(),
        wwn: facts.wwn.clone(),
        serial: facts.serial.clone(),
        model: facts.model.clone(),
        bus: facts.bus.clone(),
        path: facts.place.clone(),
        read_only: facts.read_only,
        smart: Some(smart),
        signatures: disk.signatures.clone(),
        used_by: used_by(disk, role),
        duplicate_serial: disk.duplicate_serial,
        ..BlockDeviceStatus::default()
    }
}

/// Who uses it, in short.
pub fn used_by(disk: &Disk, role: Role) -> Option<String> {
    match (&disk.contents, role) {
        (Contents::System, _) => Some("system".into()),
        (Contents::Pool(pool), _) => Some(format!("pool {pool}")),
        _ if !disk.uses.is_empty() => Some(disk.uses.join(", ")),
        (_, Role::Passthrough) => Some("passthrough".into()),
        _ => None,
    }
}

fn conditions(
    conditions: &mut Vec<Condition>,
    disk: &Disk,
    wipe: Option<&Wiping>,
    failed: Option<&String>,
    now: Timestamp,
) {
    let facts = &disk.facts;
    let known_by = facts.wwn.as_ref().map_or("only its path", |_| "its WWN");
    let (status, reason, message) = match (&facts.serial, disk.duplicate_serial) {
        (None, _) => {
            ("False", "NoSerial", format!("it reports no serial number; it is identified by {known_by}"))
        }
        (Some(serial), true) => (
            "False",
            "Duplicate",
            format!("another disk of this node has the serial {serial}; it is identified by {known_by}"),
        ),
        (Some(_), false) => ("True", "Unique", String::new()),
    };
    set(conditions, SERIAL_UNIQUE, status, reason, &message, now);
    let (status, reason) = match disk.health.verdict {
        Verdict::Unknown => ("Unknown", "SmartUnavailable"),
        Verdict::Passed => ("True", "Passed"),
        Verdict::Warning => ("False", "Warning"),
        Verdict::Failing => ("False", "Failing"),
    };
    set(conditions, HEALTHY, status, reason, disk.health.reason.as_deref().unwrap_or_default(), now);
    match (wipe, failed) {
        (None, _) => clear(conditions, WIPED),
        (Some(Wiping::Done), _) => set(conditions, WIPED, "True", "Erased", "", now),
        (Some(Wiping::Due), None) => set(conditions, WIPED, "False", "Erasing", "", now),
        (Some(Wiping::Due), Some(why)) => set(conditions, WIPED, "False", "Failed", why, now),
        (Some(Wiping::Refused(reason, why)), _) => set(conditions, WIPED, "False", reason, why, now),
    }
}

/// What people should know of the change.
fn events(before: &BlockDeviceStatus, after: &BlockDeviceStatus) -> Vec<Event> {
    let mut events = Vec::new();
    let at = after.dev_path.clone().unwrap_or_default();
    if before.state == Some(DeviceState::Missing) {
        events.push(Event::normal("DiskBack", format!("it is attached again, as {at}")));
    }
    let changed = |type_: &str| {
        let (was, is) = (find(&before.conditions, type_), find(&after.conditions, type_)?);
        (was.is_none_or(|was| was.reason != is.reason)).then_some(is)
    };
    let text = |condition: &Condition| condition.message.clone().unwrap_or_default();
    if let Some(serial) = changed(SERIAL_UNIQUE).filter(|c| c.reason.as_deref() == Some("Duplicate")) {
        events.push(Event::warning("DuplicateSerial", text(serial)));
    }
    if let Some(health) = changed(HEALTHY).filter(|c| c.status == "False") {
        let grave = health.reason.as_deref() == Some("Failing");
        let words = if grave { "SMART reports a failure" } else { "SMART reports signs of failure" };
        events.push(Event::warning(
            if grave { "DiskFailing" } else { "DiskWarning" },
            format!("{words}: {}", text(health)),
        ));
    }
    match changed(WIPED) {
        Some(done) if done.status == "True" && before.signatures.is_empty() => {}
        Some(done) if done.status == "True" => {
            events.push(Event::normal("Erased", format!("erased: {}", before.signatures.join(", "))));
        }
        Some(refused) if refused.reason.as_deref() != Some("Erasing") => {
            events.push(Event::warning("NotErased", text(refused)));
        }
        _ => {}
    }
    events
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
