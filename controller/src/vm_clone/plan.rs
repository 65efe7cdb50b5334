//! Decides what becomes of one VirtualMachineClone.
//!
//! Why here: pure, so that every phase is a test. A clone is a snapshot, if it is not of one already, and a restore to a VM that
//! does not exist; it owns both, and they are deleted once the VM has its claims. Route in: [`Observed`]. Route out: a
//! [`Plan`].

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use sheaf_api::{
    VirtualMachine,
    vm_clone::{ClonePhase, VirtualMachineClone, VirtualMachineCloneStatus},
    vm_snapshot::{
        Reference, SnapshotPhase, VirtualMachineRestore, VirtualMachineSnapshot,
        VirtualMachineSnapshotContent, VirtualMachineSnapshotSpec, restore::VirtualMachineRestoreSpec,
    },
};

use super::changes;
use crate::{
    conditions::{find, seconds, set},
    events::Event,
};

/// Until a clone is reconciled again that waits for its source.
const WAIT: Duration = Duration::from_secs(5);

/// What a decision is made from.
pub struct Observed<'a> {
    /// The clone.
    pub clone: &'a VirtualMachineClone,
    /// The VM that it is of, unless it is of a snapshot.
    pub source: Option<&'a VirtualMachine>,
    /// The snapshot that it is of, or that was taken for it.
    pub snapshot: Option<&'a VirtualMachineSnapshot>,
    /// The content of that.
    pub content: Option<&'a VirtualMachineSnapshotContent>,
    /// The restore that makes the VM.
    pub restore: Option<&'a VirtualMachineRestore>,
    /// The VM of the target's name.
    pub target: Option<&'a VirtualMachine>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Take a snapshot of the VM.
    CreateSnapshot(Box<VirtualMachineSnapshot>),
    /// Restore it to the target.
    CreateRestore(Box<VirtualMachineRestore>),
    /// Delete the restore, which is done.
    DeleteRestore(String),
    /// Delete the snapshot, which was taken for this clone.
    DeleteSnapshot(String),
    /// Delete the clone: its VM is gone.
    DeleteClone,
    /// Write the whole status.
    WriteStatus(Box<VirtualMachineCloneStatus>),
    /// Record an Event.
    RecordEvent(Event),
}

/// What to do, in order; a step that fails ends the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The whole status after it.
    pub status: VirtualMachineCloneStatus,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

/// Whether the clone is of a VM; otherwise it is of a snapshot.
pub fn is_of_vm(clone: &VirtualMachineClone) -> bool {
    clone.spec.source.kind == "VirtualMachine"
}

/// Name of the snapshot that the clone is of, or that is taken for it.
pub fn snapshot_name(clone: &VirtualMachineClone) -> String {
    match is_of_vm(clone) {
        true => format!("tmp-snapshot-{}", uid(clone)),
        false => clone.spec.source.name.clone(),
    }
}

/// Name of the clone's restore.
pub fn restore_name(clone: &VirtualMachineClone) -> String {
    format!("tmp-restore-{}", uid(clone))
}

/// Name of the VM: the target's, or one that follows from the name of `source` and the clone's UID.
pub fn target_name(clone: &VirtualMachineClone, source: &str) -> String {
    let made = || {
        let suffix = format!("-clone-{}", uid(clone).chars().take(5).collect::<String>());
        // A VM's name becomes the value of a label.
        let room = 63_usize.saturating_sub(suffix.len());
        format!("{}{suffix}", source[..source.floor_char_boundary(room)].trim_end_matches(['-', '.']))
    };
    clone.spec.target.as_ref().map_or_else(made, |target| target.name.clone())
}

fn uid(clone: &VirtualMachineClone) -> &str {
    clone.metadata.uid.as_deref().unwrap_or_default()
}

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let before = observed.clone.status.clone().unwrap_or_default();
    let mut plan = Plan { status: before.clone(), ..Plan::default() };
    if observed.clone.metadata.deletion_timestamp.is_none() {
        decide(&mut plan, observed, now);
    }
    if before != plan.status {
        plan.actions.push(Action::WriteStatus(Box::new(plan.status.clone())));
    }
    plan
}

fn decide(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    match plan.status.phase {
        Some(ClonePhase::Succeeded) if observed.target.is_none() => {
            plan.actions.push(Action::DeleteClone);
        }
        Some(ClonePhase::Succeeded) => clean(plan, observed),
        Some(ClonePhase::Failed) => {}
        _ if observed.restore.is_some() => restored(plan, observed, now),
        _ => copy(plan, observed, now),
    }
}

/// There is no restore yet.
fn copy(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let clone = observed.clone;
    let source = &clone.spec.source;
    let missing = match is_of_vm(clone) {
        true => observed.snapshot.is_none() && observed.source.is_none(),
        false => observed.snapshot.is_none(),
    };
    if missing {
        let why = format!("Source doesn't exist: {} {}", source.kind, source.name);
        plan.requeue = Some(WAIT);
        return state(plan, "False", "Pending", &why, now);
    }
    let saved = observed.content.and_then(|content| content.spec.source.virtual_machine.as_ref());
    let Some(snapshot) = observed.snapshot else {
        plan.actions.push(Action::CreateSnapshot(Box::new(snapshot_of(clone))));
        let name = snapshot_name(clone);
        plan.actions
            .push(Action::RecordEvent(Event::normal("SnapshotCreated", format!("created snapshot {name}"))));
        plan.status.snapshot_name = Some(name);
        plan.status.phase = Some(ClonePhase::SnapshotInProgress);
        return state(plan, "True", "InProgress", "Still processing", now);
    };
    plan.status.phase = Some(ClonePhase::SnapshotInProgress);
    plan.status.snapshot_name = Some(snapshot_name(clone));
    let status = snapshot.status.clone().unwrap_or_default();
    if status.phase == Some(SnapshotPhase::Failed) {
        let failure = find(&status.conditions, "Failure").and_then(|failure| failure.message.clone());
        let why = format!("snapshot {} failed: {}", snapshot_name(clone), failure.unwrap_or_default());
        return fail(plan, &why, now);
    }
    let (Some(saved), Some(true)) = (saved, status.ready_to_use) else {
        return state(plan, "True", "InProgress", "Still processing", now);
    };
    let target = target_name(clone, saved.metadata.name.as_deref().unwrap_or_default());
    if observed.target.is_some() {
        return fail(plan, &format!("a VirtualMachine {target} exists; name another target"), now);
    }
    let name = restore_name(clone);
    let mut restore = VirtualMachineRestore::new(
        &name,
        VirtualMachineRestoreSpec {
            target: Reference::vm(&target),
            virtual_machine_snapshot_name: snapshot_name(clone),
            patches: changes::patches(saved, clone),
            ..VirtualMachineRestoreSpec::default()
        },
    );
    restore.metadata.namespace.clone_from(&clone.metadata.namespace);
    restore.metadata.owner_references = clone.controller_owner_ref(&()).map(|owner| vec![owner]);
    plan.actions.push(Action::CreateRestore(Box::new(restore)));
    plan.actions
        .push(Action::RecordEvent(Event::normal("RestoreCreated", format!("created restore {name}"))));
    plan.status.restore_name = Some(name);
    plan.status.phase = Some(ClonePhase::RestoreInProgress);
    state(plan, "True", "InProgress", "Still processing", now);
}

/// The snapshot of the clone's VM.
fn snapshot_of(clone: &VirtualMachineClone) -> VirtualMachineSnapshot {
    let mut snapshot = VirtualMachineSnapshot::new(
        &snapshot_name(clone),
        VirtualMachineSnapshotSpec {
            source: Reference::vm(&clone.spec.source.name),
            ..VirtualMachineSnapshotSpec::default()
        },
    );
    snapshot.metadata.namespace.clone_from(&clone.metadata.namespace);
    snapshot.metadata.owner_references = clone.controller_owner_ref(&()).map(|owner| vec![owner]);
    snapshot
}

/// There is a restore: is the VM there?
fn restored(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let Some(restore) = observed.restore else { return };
    let status = restore.status.clone().unwrap_or_default();
    if let Some(failure) = find(&status.conditions, "Failure") {
        let why = failure.message.clone().unwrap_or_default();
        return fail(plan, &format!("restore {} failed: {why}", restore_name(observed.clone)), now);
    }
    plan.status.snapshot_name = Some(snapshot_name(observed.clone));
    plan.status.restore_name = Some(restore_name(observed.clone));
    if status.complete == Some(true) {
        plan.status.target_name = Some(restore.spec.target.name.clone());
        plan.status.phase = Some(ClonePhase::Succeeded);
        plan.status.creation_time = Some(seconds(now));
        let note = format!("created target VM {}", restore.spec.target.name);
        plan.actions.push(Action::RecordEvent(Event::normal("TargetVMCreated", note)));
        set(&mut plan.status.conditions, "Progressing", "False", "Ready", "", now);
        set(&mut plan.status.conditions, "Ready", "True", "Ready", "", now);
        return;
    }
    // Its claims are bound: what is left is the VM itself.
    plan.status.phase = Some(match observed.target {
        Some(_) => ClonePhase::CreatingTargetVM,
        None => ClonePhase::RestoreInProgress,
    });
    let progress = find(&status.conditions, "Progressing");
    let why = progress.and_then(|progress| progress.message.clone()).unwrap_or_default();
    state(plan, "True", "InProgress", &why, now);
}

/// The VM has its claims: what they were made by is deleted.
fn clean(plan: &mut Plan, observed: &Observed) {
    if observed.restore.is_some() {
        plan.actions.push(Action::DeleteRestore(restore_name(observed.clone)));
    }
    if observed.snapshot.is_some() && is_of_vm(observed.clone) {
        plan.actions.push(Action::DeleteSnapshot(snapshot_name(observed.clone)));
    }
    plan.status.restore_name = None;
    plan.status.snapshot_name = None;
}

fn fail(plan: &mut Plan, why: &str, now: Timestamp) {
    plan.status.phase = Some(ClonePhase::Failed);
    plan.actions.push(Action::RecordEvent(Event::warning("CloneFailed", why)));
    state(plan, "False", "Failed", why, now);
    plan.requeue = None;
}

fn state(plan: &mut Plan, progressing: &str, reason: &str, why: &str, now: Timestamp) {
    set(&mut plan.status.conditions, "Progressing", progressing, reason, why, now);
    set(&mut plan.status.conditions, "Ready", "False", reason, why, now);
}

#[cfg(test)]
mod tests;
