//! Decides what becomes of one VirtualMachineRestore.
//!
//! Why here: pure, so that every turn of its life is a test. Everything that may fail comes before the VM is changed: the new
//! claims are bound, and belong to the restore until the VM has them; only then is the VM's spec replaced, and only after
//! that are its former DataVolumes deleted. A VM that does not exist is created halted, and makes its DataVolumes itself.
//! Route in: [`Observed`]. Route out: a [`Plan`].

use std::time::Duration;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
    jiff::Timestamp,
};
use kube::Resource;
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    cdi::DataVolume,
    snapshot::VolumeSnapshot,
    vm_snapshot::{
        STATE_ANNOTATION, VirtualMachineRestore, VirtualMachineSnapshot, VirtualMachineSnapshotContent,
        content::SavedMachine,
        restore::{FINALIZER, VirtualMachineRestoreStatus, VolumeOwnershipPolicy, VolumeRestore},
    },
};

use super::{
    begin::{self, Found, WhileRunning},
    machine::{self, Origin},
};
use crate::{
    conditions::{find, seconds, set},
    events::Event,
    object::has_finalizer,
    resolve,
    vm::{disks, lock::Lock},
    vm_snapshot::{content, revisions},
    volumes::annotation,
};

/// Until a restore is reconciled again that waits for claims.
const SOON: Duration = Duration::from_secs(2);
/// Until a restore is reconciled again that waits for somebody.
const WAIT: Duration = Duration::from_secs(5);

/// What a decision is made from.
pub struct Observed<'a> {
    /// The restore.
    pub restore: &'a VirtualMachineRestore,
    /// The VM of the name of its target.
    pub vm: Option<&'a VirtualMachine>,
    /// The instance of that name.
    pub vmi: Option<&'a VirtualMachineInstance>,
    /// The snapshot.
    pub snapshot: Option<&'a VirtualMachineSnapshot>,
    /// Its content.
    pub content: Option<&'a VirtualMachineSnapshotContent>,
    /// VolumeSnapshots of the content.
    pub volumes: &'a [VolumeSnapshot],
    /// Claims of the names that are restored.
    pub claims: &'a [PersistentVolumeClaim],
    /// DataVolumes of those names, and of those that are deleted.
    pub data_volumes: &'a [DataVolume],
    /// Whether the other restore that has the VM, if one has it, exists.
    pub holder_exists: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the restore.
    AddFinalizer,
    /// Remove it.
    RemoveFinalizer,
    /// The restore is deleted with its VM.
    Own(OwnerReference),
    /// Reserve the VM.
    Lock,
    /// Release it.
    Unlock,
    /// Stop the VM.
    Stop,
    /// Create a claim.
    CreateClaim(Box<PersistentVolumeClaim>),
    /// Create a DataVolume of the VM.
    CreateDisk(Box<DataVolume>),
    /// Create the VM.
    CreateMachine(Box<VirtualMachine>),
    /// Replace the VM, if it still is as it was read.
    ReplaceMachine(Box<VirtualMachine>),
    /// Create a ControllerRevision of the VM: its instancetype or preference as it was.
    CreateRevision(Box<ControllerRevision>),
    /// Make what firmware and TPM of the VM keep what the snapshot has.
    LoadState {
        /// The node that has the copy.
        node: String,
        /// UUID of the VM's firmware.
        uuid: String,
    },
    /// Write into the VM's status which node has it, where the VM starts from now on.
    PlaceState(String),
    /// Give a claim to its owner, or to nobody.
    Give {
        /// Its name.
        claim: String,
        /// Who owns it from now on.
        owner: Option<OwnerReference>,
    },
    /// Delete a DataVolume, if it still is the one with this UID.
    DeleteDisk {
        /// Its name.
        name: String,
        /// Its UID.
        uid: Option<String>,
    },
    /// Write the whole status.
    WriteStatus(Box<VirtualMachineRestoreStatus>),
    /// Record an Event.
    RecordEvent(Event),
}

/// What to do, in order; a step that fails ends the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The whole status after it.
    pub status: VirtualMachineRestoreStatus,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let before = observed.restore.status.clone().unwrap_or_default();
    let mut plan = Plan { status: before.clone(), ..Plan::default() };
    decide(&mut plan, observed, now);
    if before != plan.status {
        // What is deleted must be known before the VM does not tell any more; what is complete is so afterwards.
        let later = |action: &Action| {
            matches!(action, Action::RemoveFinalizer | Action::ReplaceMachine(_) | Action::CreateMachine(_))
        };
        let place = plan.actions.iter().position(later).unwrap_or(plan.actions.len());
        plan.actions.insert(place, Action::WriteStatus(Box::new(plan.status.clone())));
    }
    plan
}

fn decide(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let restore = observed.restore;
    let held = has_finalizer(restore, FINALIZER);
    if restore.metadata.deletion_timestamp.is_some() {
        if held {
            end(plan, observed);
        }
        return;
    }
    if plan.status.complete == Some(true) || find(&plan.status.conditions, "Failure").is_some() {
        return unlock(plan, observed);
    }
    if !held {
        return plan.actions.push(Action::AddFinalizer);
    }
    if plan.status.complete.is_none() {
        plan.status.complete = Some(false);
        progress(plan, true, "Initializing", "Initializing VirtualMachineRestore", now);
    }
    let owner = observed.vm.and_then(|vm| vm.controller_owner_ref(&()));
    if let Some(owner) = owner.filter(|_| restore.metadata.owner_references.iter().flatten().next().is_none())
    {
        plan.actions.push(Action::Own(owner));
    }
    if let Some(vm) = observed.vm.filter(|vm| machine::is_restored(restore, *vm)) {
        return finish(plan, observed, vm, now);
    }
    if let Some(vmi) = observed.vmi.filter(|vmi| observed.vm.is_some() && !begin::is_over(vmi)) {
        return runs(plan, observed, vmi, now);
    }
    let found = match begin::found(observed) {
        Ok(found) => found,
        Err(why) => return waits(plan, &why, now),
    };
    match observed.vm {
        None if found.saved.spec.template.spec.keeps_state() && !has_state(found.content) => {
            let why = "the VM of the snapshot has persistent UEFI variables or a persistent TPM, which a snapshot of an \
                       earlier release does not have: it can only be restored to that VM";
            return fail(plan, why, now);
        }
        Some(vm) if Lock::Restore.holder(vm) != restore.metadata.name.as_deref() => {
            if let Err(why) = begin::may(observed, vm) {
                return waits(plan, &why, now);
            }
            plan.actions.push(Action::Lock);
        }
        _ => {}
    }
    bring_in(plan, observed, &found, now);
}

/// The VM runs.
fn runs(plan: &mut Plan, observed: &Observed, vmi: &VirtualMachineInstance, now: Timestamp) {
    // It was started just before it was reserved.
    unlock(plan, observed);
    let why = match begin::while_running(observed.restore, now) {
        WhileRunning::Fail(why) => return fail(plan, why, now),
        WhileRunning::Wait(why) => why,
        WhileRunning::Stop(why) => {
            if vmi.metadata.deletion_timestamp.is_none() {
                plan.actions.push(Action::Stop);
            }
            why
        }
    };
    if progress(plan, false, "TargetNotReady", why, now) {
        plan.actions.push(Action::RecordEvent(Event::warning("RestoreTargetNotReady", why)));
    }
    plan.requeue = Some(WAIT);
}

/// New claims are made; when they are there, the VM gets them.
fn bring_in(plan: &mut Plan, observed: &Observed, found: &Found, now: Timestamp) {
    let restore = observed.restore;
    if plan.status.restores.is_empty() {
        plan.status.restores = machine::restores(restore, found.saved, &found.content.spec.volume_backups);
    }
    let restores = plan.status.restores.clone();
    if let Some(why) = taken(observed, &restores) {
        return fail(plan, &why, now);
    }
    progress(plan, true, "CreatingClaims", "Creating new PVCs", now);
    let origin = |name: &str| origin(observed, found, &restores, name);
    let wanted = match machine::machine(restore, found.saved, observed.vm, &restores, origin) {
        Ok(wanted) => wanted,
        Err(why) => return fail(plan, &why, now),
    };
    let owner = restore.owner_ref(&());
    let mut made = Vec::new();
    for volume in restores.iter().filter(|volume| volume.data_volume_name.is_none()) {
        if claim(observed, volume).is_none()
            && let Some(origin) = origin(&volume.volume_name)
        {
            let new = machine::claim(restore, found.saved, volume, &origin, owner.clone());
            made.push(Action::CreateClaim(Box::new(new)));
        }
    }
    if observed.vm.is_some() {
        let is_restored =
            |data: &DataVolume| restores.iter().any(|volume| volume.data_volume_name == data.metadata.name);
        let missing = disks::missing(&wanted, observed.data_volumes).into_iter().filter(is_restored);
        made.extend(missing.map(|data| Action::CreateDisk(Box::new(data))));
    }
    let here = |volume: &&VolumeRestore| volume.data_volume_name.is_none() || observed.vm.is_some();
    let all = restores.iter().filter(here).all(|volume| is_bound(observed, volume));
    if !made.is_empty() || !all {
        plan.actions.extend(made);
        plan.requeue = Some(SOON);
        return;
    }
    match observed.vm {
        Some(vm) => {
            let stays = |name: &String| {
                wanted.spec.data_volume_templates.iter().any(|template| template.metadata.name == *name)
            };
            let former = vm.spec.data_volume_templates.iter().map(|template| template.metadata.name.clone());
            plan.status.deleted_data_volumes = former.filter(|name| !stays(name)).collect();
            plan.actions.extend(revisions(restore, found.saved, vm));
            plan.actions.push(Action::ReplaceMachine(Box::new(wanted)));
        }
        None => plan.actions.push(Action::CreateMachine(Box::new(wanted))),
    }
    progress(plan, true, "UpdatingTarget", "Updating target spec", now);
    plan.requeue = Some(SOON);
}

/// A claim or DataVolume that has a name which is to be restored, and is not of this restore; a sentence about it.
fn taken(observed: &Observed, restores: &[VolumeRestore]) -> Option<String> {
    let restore = observed.restore;
    // Those that are to be deleted are the VM's.
    let is_restored =
        |data: &&DataVolume| restores.iter().any(|volume| volume.data_volume_name == data.metadata.name);
    let claim = observed.claims.iter().find(|claim| !machine::is_restored(restore, *claim));
    let claim = claim.map(|claim| ("PersistentVolumeClaim", &claim.metadata));
    let mut data = observed.data_volumes.iter().filter(is_restored);
    let data = data.find(|data| !machine::is_restored(restore, *data));
    let (kind, meta) = claim.or_else(|| data.map(|data| ("DataVolume", &data.metadata)))?;
    let name = meta.name.as_deref().unwrap_or_default();
    Some(format!("a {kind} {name} exists and is not of this restore; set another restoreName, or none"))
}

/// The VM is as it is to be: what is left to do?
fn finish(plan: &mut Plan, observed: &Observed, vm: &VirtualMachine, now: Timestamp) {
    if !plan.status.restores.iter().all(|volume| is_bound(observed, volume)) {
        progress(plan, true, "CreatingClaims", "Waiting for new PVCs", now);
        plan.requeue = Some(SOON);
        return;
    }
    if !bring_in_rest(plan, observed, vm, now) {
        return;
    }
    let own = observed.restore.metadata.uid.as_ref();
    let keep = observed.restore.spec.volume_ownership_policy == Some(VolumeOwnershipPolicy::None);
    for volume in &plan.status.restores {
        let Some(claim) = claim(observed, volume) else { continue };
        let mut owners = claim.metadata.owner_references.iter().flatten();
        if owners.any(|owner| Some(&owner.uid) == own) {
            let was_owned = observed.content.is_some_and(|content| owned(content, volume));
            let owner = vm.controller_owner_ref(&()).filter(|_| was_owned && !keep);
            plan.actions.push(Action::Give { claim: volume.persistent_volume_claim.clone(), owner });
        }
    }
    for name in &plan.status.deleted_data_volumes {
        let data = observed.data_volumes.iter().find(|data| data.metadata.name.as_ref() == Some(name));
        // Only what was the VM's.
        if let Some(data) = data.filter(|data| owns(vm, data) && data.metadata.deletion_timestamp.is_none()) {
            plan.actions.push(Action::DeleteDisk { name: name.clone(), uid: data.metadata.uid.clone() });
        }
    }
    unlock(plan, observed);
    plan.status.complete = Some(true);
    plan.status.restore_time = Some(seconds(now));
    set(&mut plan.status.conditions, "Progressing", "False", "Complete", "Operation complete", now);
    set(&mut plan.status.conditions, "Ready", "True", "Complete", "Operation complete", now);
    let name = observed.restore.metadata.name.as_deref().unwrap_or_default();
    let note = format!("Successfully completed VirtualMachineRestore {name}");
    plan.actions.push(Action::RecordEvent(Event::normal("VirtualMachineRestoreComplete", note)));
    plan.requeue = None;
}

/// The VM has the rest of what it was: its instancetype and preference, what firmware and TPM keep. False while that waits: the VM
/// must not start meanwhile.
fn bring_in_rest(plan: &mut Plan, observed: &Observed, vm: &VirtualMachine, now: Timestamp) -> bool {
    let Some(content) = observed.content else {
        if vm.spec.template.spec.keeps_state() {
            let why = "the content of the snapshot was deleted before UEFI variables and TPM were restored";
            fail(plan, why, now);
            return false;
        }
        return true;
    };
    let saved = content.spec.source.virtual_machine.as_ref();
    let made = saved.map(|saved| revisions(observed.restore, saved, vm)).unwrap_or_default();
    let node = content::copied_on(content);
    if made.is_empty() && node.is_none() {
        return true;
    }
    if Lock::Restore.holder(vm) != observed.restore.metadata.name.as_deref() {
        // A VM that was created: nobody has it.
        plan.actions.push(Action::Lock);
        plan.requeue = Some(SOON);
        return false;
    }
    if observed.vmi.is_some_and(|vmi| !begin::is_over(vmi)) {
        waits(plan, "Waiting for target VM to be powered off", now);
        return false;
    }
    plan.actions.extend(made);
    let uid = vm.metadata.uid.as_deref().unwrap_or_default();
    let uuid =
        resolve::resolve(&vm.spec.template.spec, uid).domain.firmware.and_then(|firmware| firmware.uuid);
    if let (Some(node), Some(uuid)) = (node, uuid) {
        plan.actions.push(Action::LoadState { node: node.to_owned(), uuid });
        plan.actions.push(Action::PlaceState(node.to_owned()));
    }
    true
}

/// Whether the snapshot has what firmware and TPM keep, or knows that there was nothing.
fn has_state(content: &VirtualMachineSnapshotContent) -> bool {
    annotation(content, STATE_ANNOTATION).is_some()
}

/// The ControllerRevisions of the VM.
fn revisions(restore: &VirtualMachineRestore, saved: &SavedMachine, vm: &VirtualMachine) -> Vec<Action> {
    let owner = vm.controller_owner_ref(&());
    let (namespace, target) = (restore.metadata.namespace.as_deref(), &restore.spec.target.name);
    let made = revisions::of_target(saved, namespace, target, owner.as_ref());
    made.into_iter().map(|revision| Action::CreateRevision(Box::new(revision))).collect()
}

/// The restore is being deleted. Claims that the VM does not have are its dependents; DataVolumes are the VM's.
fn end(plan: &mut Plan, observed: &Observed) {
    if let Some(vm) = observed.vm.filter(|vm| !machine::is_restored(observed.restore, *vm)) {
        let used = |name: &String| {
            vm.spec.data_volume_templates.iter().any(|template| template.metadata.name == *name)
        };
        for name in plan.status.restores.iter().filter_map(|volume| volume.data_volume_name.as_ref()) {
            let data = observed.data_volumes.iter().find(|data| data.metadata.name.as_ref() == Some(name));
            if let Some(data) = data.filter(|data| owns(vm, data) && !used(name)) {
                plan.actions.push(Action::DeleteDisk { name: name.clone(), uid: data.metadata.uid.clone() });
            }
        }
    }
    unlock(plan, observed);
    plan.actions.push(Action::RemoveFinalizer);
}

fn unlock(plan: &mut Plan, observed: &Observed) {
    let name = observed.restore.metadata.name.as_deref();
    if observed.vm.is_some_and(|vm| name.is_some() && Lock::Restore.holder(vm) == name) {
        plan.actions.push(Action::Unlock);
    }
}

/// What a volume is made from, once its snapshot is found.
fn origin<'a>(
    observed: &Observed<'a>,
    found: &Found<'a>,
    restores: &[VolumeRestore],
    name: &str,
) -> Option<Origin<'a>> {
    let restored = restores.iter().find(|volume| volume.volume_name == name)?;
    let backup = found.content.spec.volume_backups.iter().find(|backup| backup.volume_name == name)?;
    let snapshot = observed
        .volumes
        .iter()
        .find(|volume| volume.metadata.name.as_ref() == Some(&restored.volume_snapshot_name))?;
    Some(Origin { backup, snapshot })
}

fn claim<'a>(observed: &Observed<'a>, volume: &VolumeRestore) -> Option<&'a PersistentVolumeClaim> {
    let name = Some(&volume.persistent_volume_claim);
    observed.claims.iter().find(|claim| claim.metadata.name.as_ref() == name)
}

fn is_bound(observed: &Observed, volume: &VolumeRestore) -> bool {
    let claim = claim(observed, volume).filter(|claim| machine::is_restored(observed.restore, *claim));
    let phase = claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref());
    phase == Some("Bound")
}

fn owns(vm: &VirtualMachine, data: &DataVolume) -> bool {
    data.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == vm.metadata.uid.as_ref())
}

/// Whether the claim that a volume is restored from was its VM's.
fn owned(content: &VirtualMachineSnapshotContent, volume: &VolumeRestore) -> bool {
    let vm = content.spec.source.virtual_machine.as_ref().and_then(|machine| machine.metadata.uid.as_ref());
    let backup = content.spec.volume_backups.iter().find(|backup| backup.volume_name == volume.volume_name);
    let owners = backup.and_then(|backup| backup.persistent_volume_claim.metadata.owner_references.as_ref());
    owners.into_iter().flatten().any(|owner| Some(&owner.uid) == vm)
}

fn waits(plan: &mut Plan, why: &str, now: Timestamp) {
    if progress(plan, false, "Waiting", why, now) {
        plan.actions.push(Action::RecordEvent(Event::warning("VirtualMachineRestoreError", why)));
    }
    plan.requeue = Some(WAIT);
}

fn fail(plan: &mut Plan, why: &str, now: Timestamp) {
    progress(plan, false, "Failed", why, now);
    // KubeVirt has the sentence as the reason; a reason is one word here, and kubectl shows the message.
    set(&mut plan.status.conditions, "Failure", "True", "Failed", why, now);
    plan.actions.push(Action::RecordEvent(Event::warning("VirtualMachineRestoreFailed", why)));
    plan.requeue = None;
}

/// How it goes on; true if that is another sentence than before.
fn progress(plan: &mut Plan, goes_on: bool, reason: &str, why: &str, now: Timestamp) -> bool {
    let before = find(&plan.status.conditions, "Progressing");
    let changed = before.and_then(|before| before.message.as_deref()) != Some(why);
    let status = if goes_on { "True" } else { "False" };
    set(&mut plan.status.conditions, "Progressing", status, reason, why, now);
    set(&mut plan.status.conditions, "Ready", "False", reason, why, now);
    changed
}

#[cfg(test)]
mod tests;
