//! What the updater says: the status of the NodeUpdate with its Events, and the section `update`. Pure.
//!
//! Route in: what was observed, what is being done. Route out: values that the round writes.

use super::observed::Wanted;
use super::records::{Place, Request, Slots};
use crate::reconcile::events::Event;
use crate::status::UpdateSection;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use sheaf_api::conditions::set;
use sheaf_api::node_update::{NodeUpdate, NodeUpdateStatus, Phase, SlotStatus, Source};

/// Where the update stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In one word; none while nobody asks for anything.
    pub phase: Option<Phase>,
    /// In a sentence.
    pub message: String,
    /// The steps that are under way.
    pub steps: Vec<String>,
}

/// What `object` asks for.
pub fn wanted(object: &NodeUpdate) -> Wanted {
    Wanted {
        request: Request {
            uid: object.uid().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
        },
        version: object.spec.version.clone(),
        source: object.spec.source.as_ref().and_then(place),
        channel: object.spec.channel.clone(),
        action: object.spec.action,
        timeout: object.spec.health_timeout_seconds,
        without_snapshot: false,
        is_local: false,
    }
}

/// The API server takes only sources that have one of these.
fn place(source: &Source) -> Option<Place> {
    let url = source.url.clone().map(Place::Url);
    url.or_else(|| source.oci.clone().map(Place::Oci)).or_else(|| source.drive.clone().map(Place::Drive))
}

/// The status of `object`, and what is new in it as Events. While nothing was observed what was known stays.
pub fn status(
    object: &NodeUpdate,
    slots: Option<&Slots>,
    report: &Report,
    now: Timestamp,
) -> (NodeUpdateStatus, Vec<Event>) {
    let before = object.status.clone().unwrap_or_default();
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut status = NodeUpdateStatus {
        phase: report.phase,
        message: text(&report.message),
        plan: report.steps.clone(),
        observed_generation: object.metadata.generation,
        ..before.clone()
    };
    if let Some(Slots { running, other, floor, staged, snapshot, .. }) = slots.cloned() {
        status.running = Some(running);
        (status.other, status.floor, status.staged) = (other, floor, staged);
        status.snapshot = snapshot;
    }
    let is_staged = status.staged.as_deref() == Some(object.spec.version.as_str());
    let (truth, reason) = if is_staged { ("True", "Staged") } else { ("False", "NotStaged") };
    set(&mut status.conditions, "Staged", truth, reason, "", now);
    let (truth, message) = match report.phase {
        Some(Phase::Updated) => ("True", ""),
        _ => ("False", report.message.as_str()),
    };
    let reason = report.phase.map_or_else(|| "Idle".to_owned(), |phase| format!("{phase:?}"));
    // How far a step is changes often: it is in the message of the status.
    let message = if report.steps.is_empty() { message } else { "" };
    set(&mut status.conditions, "Updated", truth, &reason, message, now);
    let events = events(&before, report);
    (status, events)
}

fn events(before: &NodeUpdateStatus, report: &Report) -> Vec<Event> {
    let is_new_step =
        before.message.as_ref() != Some(&report.message) && report.steps.contains(&report.message);
    let mut events = Vec::new();
    if is_new_step {
        events.push(Event::normal("UpdateStep", report.message.clone()));
    }
    // A phase with steps ends in one without.
    let is_new = before.phase != report.phase || before.plan.is_empty() != report.steps.is_empty();
    let Some(phase) = report.phase.filter(|_| is_new) else { return events };
    let message = report.message.clone();
    events.extend(match phase {
        Phase::Checked => Some(Event::normal("Checked", message)),
        Phase::Staged => Some(Event::normal("Staged", message)),
        Phase::OnTrial => Some(Event::normal("OnTrial", message)),
        Phase::Updated => Some(Event::normal("Updated", message)),
        Phase::RolledBack if report.steps.is_empty() => Some(Event::warning("RolledBack", message)),
        Phase::Refused => Some(Event::warning("Refused", message)),
        Phase::Failed => Some(Event::warning("Failed", message)),
        // Their steps are Events.
        Phase::Checking | Phase::Staging | Phase::Restarting | Phase::RolledBack => None,
    });
    events
}

/// The section of the status page.
pub fn section(slots: Option<&Slots>, wanted: Option<&Wanted>, report: &Report) -> UpdateSection {
    let line = |slot: &SlotStatus| match slot.tries_left {
        Some(left) => format!("slot {}: {}, {left} tries left", slot.slot, slot.version),
        None => format!("slot {}: {}", slot.slot, slot.version),
    };
    UpdateSection {
        running: slots.map(|slots| line(&slots.running)).unwrap_or_default(),
        other: slots.and_then(|slots| slots.other.as_ref()).map(line),
        floor: slots.and_then(|slots| slots.floor.clone()),
        staged: slots.and_then(|slots| slots.staged.clone()),
        boot_loader: slots.and_then(|slots| slots.loader.clone()),
        has_recovery: slots.is_some_and(|slots| slots.has_recovery),
        wanted: wanted.map(|wanted| wanted.version.clone()),
        is_local: wanted.is_some_and(|wanted| wanted.is_local),
        phase: report.phase.map(|phase| format!("{phase:?}")),
        message: report.message.clone(),
        steps: report.steps.clone(),
    }
}
