//! Decides what becomes of one VirtualMachineSnapshot.
//!
//! Why here: pure, so that every turn of its life is a test, a successor's included: what was done is read from the objects.
//! A guest is frozen only while its content is marked ([`Frozen`]): the mark is written before and removed after, so that a
//! controller that finds it thaws. All VolumeSnapshots of a content are created in one pass; a pass that was interrupted is
//! repeated from its beginning, for volumes of two moments do not fit together. Route in: [`Observed`]. Route out: a [`Plan`].

use std::time::Duration;

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, jiff::Timestamp};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    snapshot::VolumeSnapshot,
    status::Phase,
    vm_snapshot::{
        CONTENT_FINALIZER, DeletionPolicy, Indication, SNAPSHOT_FINALIZER, SnapshotPhase, SnapshotVolumes,
        VirtualMachineSnapshot, VirtualMachineSnapshotContent, VirtualMachineSnapshotStatus,
        content::{SavedRevision, VirtualMachineSnapshotContentStatus},
    },
};

use super::{begin, content, deadline, frozen::Frozen, indications};
use crate::{
    conditions::{find, seconds, set},
    events::Event,
    object::has_finalizer,
    vm::lock::Lock,
};

/// Until a snapshot is reconciled again that waits for something which is not watched.
const WAIT: Duration = Duration::from_secs(5);
/// The longest that a guest is frozen, in seconds: volumes are taken in a moment, and a guest that is frozen hangs.
const MOST_FROZEN: i64 = 60;
/// KubeVirt's words for a snapshot that took too long.
const TOO_LATE: &str = "snapshot deadline exceeded";

/// What a decision is made from.
pub struct Observed<'a> {
    /// The snapshot.
    pub snapshot: &'a VirtualMachineSnapshot,
    /// Its VM.
    pub vm: Option<&'a VirtualMachine>,
    /// The VM's instance.
    pub vmi: Option<&'a VirtualMachineInstance>,
    /// Claims of the VM's volumes that exist.
    pub claims: &'a [PersistentVolumeClaim],
    /// The VM's instancetype and preference as it has them; only while there is no content.
    pub revisions: &'a [SavedRevision],
    /// Its content.
    pub content: Option<&'a VirtualMachineSnapshotContent>,
    /// VolumeSnapshots of the content that exist.
    pub volumes: &'a [VolumeSnapshot],
    /// Whether the other snapshot that has the VM, if one has it, exists.
    pub holder_exists: bool,
    /// The VolumeSnapshotClass of Sheaf's volumes.
    pub class: Option<&'a str>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the snapshot.
    AddFinalizer,
    /// Remove it.
    RemoveFinalizer,
    /// Reserve the VM.
    Lock,
    /// Release it.
    Unlock,
    /// Create the content.
    CreateContent(Box<VirtualMachineSnapshotContent>),
    /// Delete the content.
    DeleteContent,
    /// Remove our finalizer from the content.
    ReleaseContent,
    /// Mark the content: the guest is frozen for it.
    Mark(Frozen),
    /// Freeze the guest, for at most so many seconds.
    Freeze(u64),
    /// Thaw the guest.
    Thaw {
        /// A failure ends the plan, which is retried; otherwise it is logged.
        must: bool,
    },
    /// Remove the mark.
    Unmark,
    /// Copy what firmware and TPM of the VM keep.
    SaveState {
        /// The node that has it.
        node: String,
        /// UUID of the firmware.
        uuid: String,
    },
    /// Remove that copy from the node.
    DropState(String),
    /// Create a VolumeSnapshot.
    CreateVolume(Box<VolumeSnapshot>),
    /// Delete a VolumeSnapshot of a pass that was interrupted, if it still is the one with this UID.
    DeleteVolume {
        /// Its name.
        name: String,
        /// Its UID.
        uid: Option<String>,
    },
    /// Write the content's whole status.
    WriteContentStatus(Box<VirtualMachineSnapshotContentStatus>),
    /// Write the snapshot's whole status.
    WriteStatus(Box<VirtualMachineSnapshotStatus>),
    /// Record an Event.
    RecordEvent(Event),
}

/// What to do, in order; a step that fails ends the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The snapshot's whole status after it.
    pub status: VirtualMachineSnapshotStatus,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let before = observed.snapshot.status.clone().unwrap_or_default();
    let mut plan = Plan { status: before.clone(), ..Plan::default() };
    decide(&mut plan, observed, now);
    if before != plan.status {
        let write = Action::WriteStatus(Box::new(plan.status.clone()));
        // After the last step there may be no object; and what the state of the VM was is written before it is made use of,
        // or cannot be seen any more.
        let goes_on = plan.status.phase == Some(SnapshotPhase::InProgress);
        let later = |action: &Action| match action {
            Action::RemoveFinalizer
            | Action::Mark(_)
            | Action::SaveState { .. }
            | Action::CreateVolume(_) => true,
            Action::Unmark => goes_on,
            _ => false,
        };
        let place = plan.actions.iter().position(later);
        plan.actions.insert(place.unwrap_or(plan.actions.len()), write);
    }
    plan
}

fn decide(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let snapshot = observed.snapshot;
    let held = has_finalizer(snapshot, SNAPSHOT_FINALIZER);
    if snapshot.metadata.deletion_timestamp.is_some() {
        if held {
            end(plan, observed, now);
        }
        return;
    }
    if !held {
        return plan.actions.push(Action::AddFinalizer);
    }
    match plan.status.phase {
        Some(SnapshotPhase::Succeeded) => {
            unlock(plan, observed);
            return follow(plan, observed, now);
        }
        Some(SnapshotPhase::Failed) => return abandon(plan, observed),
        _ => {}
    }
    let left = deadline::left(snapshot, now);
    if left == Some(0) {
        return fail(plan, observed, now);
    }
    plan.requeue = left.map(|left| Duration::from_secs(left.saturating_add(1)));
    plan.status.phase = Some(SnapshotPhase::InProgress);
    plan.status.ready_to_use = Some(false);
    set(&mut plan.status.conditions, "Ready", "False", "NotReady", "the snapshot is not taken yet", now);
    // Another VM of the same name is not the one that it began with.
    let same =
        |vm: &&VirtualMachine| plan.status.source_uid.is_none() || plan.status.source_uid == vm.metadata.uid;
    let Some(vm) = observed.vm.filter(same) else {
        return waits(plan, "Source does not exist", now);
    };
    let name = snapshot.metadata.name.as_deref().unwrap_or_default();
    if Lock::Snapshot.holder(vm) != Some(name) {
        if let Err(why) = begin::may(observed, vm, name) {
            return waits(plan, &format!("Source not locked: {why}"), now);
        }
        plan.actions.push(Action::Lock);
    }
    plan.status.source_uid.clone_from(&vm.metadata.uid);
    plan.status.error = observed.content.and_then(|kept| content::status(kept, observed.volumes).error);
    let wrong = plan.status.error.as_ref().and_then(|error| error.message.as_deref());
    let locked = "Source locked and operation in progress";
    let conditions = &mut plan.status.conditions;
    match wrong {
        Some(why) => set(conditions, "Progressing", "False", "Error", why, now),
        None => set(conditions, "Progressing", "True", "InProgress", locked, now),
    }
    match observed.content {
        None => create_content(plan, observed, vm),
        Some(content) => take(plan, observed, content, now),
    }
}

fn create_content(plan: &mut Plan, observed: &Observed, vm: &VirtualMachine) {
    let made = content::content(observed.snapshot, vm, observed.vmi, observed.claims, observed.revisions);
    let name = made.metadata.name.clone().unwrap_or_default();
    plan.actions.push(Action::CreateContent(Box::new(made)));
    let note = format!("created VirtualMachineSnapshotContent {name}");
    plan.actions
        .push(Action::RecordEvent(Event::normal("SuccessfulVirtualMachineSnapshotContentCreate", note)));
    plan.status.virtual_machine_snapshot_content_name = Some(name);
}

/// There is a content: are its volumes taken?
fn take(plan: &mut Plan, observed: &Observed, content: &VirtualMachineSnapshotContent, now: Timestamp) {
    if observed.volumes.iter().any(|volume| volume.metadata.deletion_timestamp.is_some()) {
        // Of an interrupted pass, or deleted by hand: the others go too, once it is gone.
        thaw(plan, observed, true);
        plan.requeue = Some(WAIT);
        return;
    }
    let wanted = content::names(content);
    let exists =
        |name: &&str| observed.volumes.iter().any(|volume| volume.metadata.name.as_deref() == Some(*name));
    let missing = wanted.iter().filter(|name| !exists(name)).count();
    if missing == 0 {
        if wanted.is_empty() && !is_ready(content) {
            // No VolumeSnapshot says that it is copied.
            save_state(plan, content);
        }
        return complete(plan, observed, content, now);
    }
    // What an interrupted pass left.
    thaw(plan, observed, true);
    if missing < wanted.len() {
        for volume in observed.volumes {
            let name = volume.metadata.name.clone().unwrap_or_default();
            plan.actions.push(Action::DeleteVolume { name, uid: volume.metadata.uid.clone() });
        }
        plan.requeue = Some(WAIT);
        return;
    }
    let online = observed.vmi.filter(|vmi| is_online(vmi));
    let found = indications::of(online);
    plan.status.indications = found.clone();
    plan.status.source_indications = indications::explained(&found);
    if let Some(vmi) = online
        && found.contains(&Indication::GuestAgent)
    {
        let left = deadline::left(observed.snapshot, now).and_then(|left| i64::try_from(left).ok());
        let most = left.unwrap_or(MOST_FROZEN).clamp(1, MOST_FROZEN);
        let until = Timestamp::from_second(now.as_second().saturating_add(most)).unwrap_or(now);
        let uid = vmi.metadata.uid.clone().unwrap_or_default();
        plan.actions.push(Action::Mark(Frozen { uid, until }));
        plan.actions.push(Action::Freeze(most.unsigned_abs()));
    }
    // Before the disks: a VolumeSnapshot that is there says that this is done.
    save_state(plan, content);
    let made = content::volume_snapshots(observed.snapshot, content, observed.class);
    plan.actions.extend(made.into_iter().map(|volume| Action::CreateVolume(Box::new(volume))));
}

fn save_state(plan: &mut Plan, content: &VirtualMachineSnapshotContent) {
    if let (Some(node), Some(uuid)) = (content::copied_on(content), content::uuid(content)) {
        plan.actions.push(Action::SaveState { node: node.to_owned(), uuid });
    }
}

/// All VolumeSnapshots are there: are they taken?
fn complete(plan: &mut Plan, observed: &Observed, content: &VirtualMachineSnapshotContent, now: Timestamp) {
    let mut status = content::status(content, observed.volumes);
    let frozen = Frozen::of(content);
    if status.volume_snapshot_status.iter().any(|volume| volume.creation_time.is_none()) {
        if frozen.is_some() && status.error.is_some() {
            // A guest does not wait for a pool to have room.
            timed_out(plan);
            thaw(plan, observed, true);
        }
        return write_content(plan, content, status);
    }
    let taken = status.volume_snapshot_status.iter().filter_map(|volume| volume.creation_time.as_ref());
    let last = taken.map(|time| time.0).max();
    if frozen.is_some_and(|frozen| last.is_some_and(|last| last > frozen.until)) {
        timed_out(plan);
    }
    thaw(plan, observed, true);
    status.creation_time = Some(seconds(now));
    plan.status.creation_time.clone_from(&status.creation_time);
    plan.status.virtual_machine_snapshot_content_name.clone_from(&content.metadata.name);
    plan.status.phase = Some(SnapshotPhase::Succeeded);
    set(&mut plan.status.conditions, "Progressing", "False", "Complete", "Operation complete", now);
    plan.status.snapshot_volumes = Some(volumes_of(content));
    ready(plan, status.ready_to_use == Some(true), now);
    write_content(plan, content, status);
    unlock(plan, observed);
    plan.requeue = None;
}

/// The guest is thawed before the last volume is taken.
fn timed_out(plan: &mut Plan) {
    plan.status.indications.push(Indication::QuiesceTimeout);
    plan.status.source_indications = indications::explained(&plan.status.indications);
}

/// It was taken: is it still whole?
fn follow(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let Some(content) = observed.content else {
        plan.status.error =
            content::error("the VirtualMachineSnapshotContent is gone".into(), plan.status.error.take(), now);
        return ready(plan, false, now);
    };
    let missing: Vec<&str> = content::names(content)
        .into_iter()
        .filter(|name| !observed.volumes.iter().any(|volume| volume.metadata.name.as_deref() == Some(*name)))
        .collect();
    let mut status = content::status(content, observed.volumes);
    if !missing.is_empty() {
        let why = format!("VolumeSnapshots ({}) missing", missing.join(","));
        status.error = content::error(why, status.error.take().or(plan.status.error.clone()), now);
        status.ready_to_use = Some(false);
    }
    plan.status.error.clone_from(&status.error);
    ready(plan, status.ready_to_use == Some(true), now);
    write_content(plan, content, status);
}

/// Too late.
fn fail(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    plan.status.phase = Some(SnapshotPhase::Failed);
    plan.status.ready_to_use = Some(false);
    let progress = find(&plan.status.conditions, "Progressing").filter(|progress| progress.status == "False");
    let why = plan.status.error.as_ref().and_then(|error| error.message.clone());
    let why = why.or_else(|| progress.and_then(|progress| progress.message.clone())).unwrap_or_default();
    let message = if why.is_empty() { TOO_LATE.to_owned() } else { format!("{TOO_LATE}: {why}") };
    set(&mut plan.status.conditions, "Failure", "True", "DeadlineExceeded", &message, now);
    set(&mut plan.status.conditions, "Progressing", "False", "Failed", "Operation failed", now);
    set(&mut plan.status.conditions, "Ready", "False", "NotReady", "Not ready", now);
    plan.actions.push(Action::RecordEvent(Event::warning("SnapshotFailed", message)));
    abandon(plan, observed);
}

/// It will never be taken: nothing of it stays.
fn abandon(plan: &mut Plan, observed: &Observed) {
    thaw(plan, observed, false);
    remove_content(plan, observed);
    unlock(plan, observed);
    plan.requeue = None;
}

/// The snapshot is being deleted.
fn end(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    if !matches!(plan.status.phase, Some(SnapshotPhase::Succeeded | SnapshotPhase::Failed)) {
        plan.status.phase = Some(SnapshotPhase::Deleting);
        set(&mut plan.status.conditions, "Progressing", "False", "Deleting", "VM snapshot is deleting", now);
    }
    thaw(plan, observed, false);
    let keep = observed.snapshot.spec.deletion_policy == Some(DeletionPolicy::Retain);
    match observed.content {
        // What is not complete is of no use to anybody.
        Some(content) if keep && is_ready(content) => {
            if has_finalizer(content, CONTENT_FINALIZER) {
                plan.actions.push(Action::ReleaseContent);
            }
        }
        _ => remove_content(plan, observed),
    }
    unlock(plan, observed);
    plan.actions.push(Action::RemoveFinalizer);
}

fn remove_content(plan: &mut Plan, observed: &Observed) {
    let Some(content) = observed.content else { return };
    if content.metadata.deletion_timestamp.is_none() {
        plan.actions.push(Action::DeleteContent);
    }
    if has_finalizer(content, CONTENT_FINALIZER) {
        if let Some(node) = content::copied_on(content) {
            plan.actions.push(Action::DropState(node.to_owned()));
        }
        plan.actions.push(Action::ReleaseContent);
    }
}

/// If the guest was frozen for this content it is thawed; the mark goes after it.
fn thaw(plan: &mut Plan, observed: &Observed, must: bool) {
    let Some(frozen) = observed.content.and_then(Frozen::of) else { return };
    let same = observed.vmi.filter(|vmi| vmi.metadata.uid.as_deref() == Some(frozen.uid.as_str()));
    // An instance that is over, or another one, is not frozen.
    if same.is_some_and(is_online) {
        plan.actions.push(Action::Thaw { must });
    }
    plan.actions.push(Action::Unmark);
}

fn unlock(plan: &mut Plan, observed: &Observed) {
    let name = observed.snapshot.metadata.name.as_deref();
    if observed.vm.is_some_and(|vm| name.is_some() && Lock::Snapshot.holder(vm) == name) {
        plan.actions.push(Action::Unlock);
    }
}

fn ready(plan: &mut Plan, is_ready: bool, now: Timestamp) {
    if is_ready && plan.status.ready_to_use != Some(true) {
        let note = "the VM can be restored from it";
        plan.actions.push(Action::RecordEvent(Event::normal("SnapshotReady", note)));
    }
    plan.status.ready_to_use = Some(is_ready);
    match is_ready {
        true => set(&mut plan.status.conditions, "Ready", "True", "Ready", "", now),
        false => set(&mut plan.status.conditions, "Ready", "False", "NotReady", "Not ready", now),
    }
}

fn waits(plan: &mut Plan, why: &str, now: Timestamp) {
    set(&mut plan.status.conditions, "Progressing", "False", "Waiting", why, now);
    plan.requeue = Some(WAIT.min(plan.requeue.unwrap_or(WAIT)));
}

fn write_content(
    plan: &mut Plan,
    content: &VirtualMachineSnapshotContent,
    status: VirtualMachineSnapshotContentStatus,
) {
    if content.status.clone().unwrap_or_default() != status {
        plan.actions.push(Action::WriteContentStatus(Box::new(status)));
    }
}

fn is_ready(content: &VirtualMachineSnapshotContent) -> bool {
    content.status.as_ref().and_then(|status| status.ready_to_use) == Some(true)
}

fn is_online(vmi: &VirtualMachineInstance) -> bool {
    !vmi.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_final)
}

/// Which volumes of the VM are in it.
fn volumes_of(content: &VirtualMachineSnapshotContent) -> SnapshotVolumes {
    let machine = content.spec.source.virtual_machine.as_ref();
    let volumes = machine.map(|machine| machine.spec.template.spec.volumes.as_slice()).unwrap_or_default();
    let is_in = |name: &String| content.spec.volume_backups.iter().any(|backup| backup.volume_name == *name);
    let (included, excluded) = volumes.iter().map(|volume| volume.name.clone()).partition(is_in);
    SnapshotVolumes { included_volumes: included, excluded_volumes: excluded }
}

#[cfg(test)]
mod tests;
