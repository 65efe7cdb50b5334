//! What a VM that is to start would clash with on this node: an earlier run of itself, another user of its volumes.
//!
//! Route in: what was observed, what this plan starts already. Route out: who it is.

use super::{Action, Observed, Plan};
use crate::vms::guest::{Guest, Source};
use std::path::Path;

/// What is left of an earlier run of the same VM, or is being started for another Pod of it, under the same UUID, name or
/// folder.
pub(super) fn previous_run(o: &Observed<'_>, plan: &Plan, uid: &str, guest: &Guest) -> Option<String> {
    let name = guest.id.domain();
    let domain = o.domains.iter().find(|domain| domain.uuid == guest.uuid || domain.name == name);
    let folder =
        o.records.values().find(|record| record.vmi_uid == guest.id.vmi_uid && record.pod_uid != uid);
    let is_same = |other: &&Guest| {
        other.uuid == guest.uuid || other.id.vmi_uid == guest.id.vmi_uid || other.id.domain() == name
    };
    let starting = starts(o, plan).find(is_same).map(|other| other.id.pod.clone());
    domain.map(|domain| domain.name.clone()).or(folder.map(|record| record.pod.clone())).or(starting)
}

/// VMs that are being started, and those that this plan starts.
fn starts<'a>(o: &'a Observed<'_>, plan: &'a Plan) -> impl Iterator<Item = &'a Guest> {
    let planned = plan.actions.iter().filter_map(|(_, action)| match action {
        Action::Start(guest) => Some(&**guest),
        _ => None,
    });
    o.memory.starting.values().chain(planned)
}

/// Who has one of the guest's volumes in use already.
pub(super) fn user_of_volume(o: &Observed<'_>, plan: &Plan, guest: &Guest) -> Option<String> {
    let (written, read): (Vec<_>, Vec<_>) = (guest.devices().collect(), guest.bases().collect());
    user_of(o, plan, &written, &read)
}

/// Who has one of these volumes in use: two guests that write one disk destroy it, and so does one that writes
/// what is below the overlay of another. Guests that only read it share it.
pub(super) fn user_of(o: &Observed<'_>, plan: &Plan, written: &[&Path], read: &[&Path]) -> Option<String> {
    let is_written = |device: &Path| written.contains(&device);
    let is_used = |device: &Path| is_written(device) || read.contains(&device);
    let running = o.domains.iter().find(|domain| {
        domain.devices.values().any(|device| is_used(device))
            || domain.bases.iter().any(|device| is_written(device))
    });
    let starting = starts(o, plan)
        .find(|other| other.devices().any(is_used) || other.bases().any(is_written))
        .map(|guest| guest.id.domain());
    // Disks that are being added, and that this plan adds.
    let planned = plan.actions.iter().filter_map(|(uid, action)| match action {
        Action::Attach { disk, .. } | Action::Insert { drive: disk, .. } => Some((uid, &**disk)),
        _ => None,
    });
    let adding = o.memory.attaching.iter().chain(planned).find(|(_uid, disk)| match &disk.source {
        Source::Device(device) => is_used(device),
        _ => false,
    });
    running.map(|domain| domain.name.clone()).or(starting).or(adding.map(|(uid, _)| format!("Pod {uid}")))
}
