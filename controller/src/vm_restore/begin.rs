//! Whether a restore may begin: its snapshot is whole, its VM is stopped and is nobody else's.
//!
//! Why here: KubeVirt's conditions and words. Pure. Route in: what was observed. Route out: what is restored, or the sentence
//! that says what the restore waits for.

use k8s_openapi::jiff::Timestamp;
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    status::Phase,
    vm_snapshot::{
        SnapshotPhase, VirtualMachineRestore, VirtualMachineSnapshotContent, content::SavedMachine,
        restore::TargetReadinessPolicy,
    },
};

use super::plan::Observed;
use crate::vm::lock::Lock;

/// How long a restore waits for its VM to be stopped, in seconds.
const GRACE: i64 = 300;

/// What is restored.
pub struct Found<'a> {
    /// The content of the snapshot.
    pub content: &'a VirtualMachineSnapshotContent,
    /// The VM in it.
    pub saved: &'a SavedMachine,
}

/// The snapshot and its content, once they can be used; a sentence if they cannot.
pub fn found<'a>(observed: &Observed<'a>) -> Result<Found<'a>, String> {
    let name = &observed.restore.spec.virtual_machine_snapshot_name;
    let snapshot = observed.snapshot.ok_or_else(|| format!("VMSnapshot {name} does not exist"))?;
    let status = snapshot.status.as_ref();
    if status.and_then(|status| status.phase) == Some(SnapshotPhase::Failed) {
        return Err(format!("VMSnapshot {name} failed and is invalid to use"));
    }
    if status.and_then(|status| status.ready_to_use) != Some(true) {
        return Err(format!("VMSnapshot {name} not ready"));
    }
    let content =
        observed.content.ok_or_else(|| format!("VMSnapshotContent of VMSnapshot {name} does not exist"))?;
    let saved = content.spec.source.virtual_machine.as_ref();
    let saved = saved.ok_or_else(|| format!("VMSnapshotContent of VMSnapshot {name} has no VM"))?;
    Ok(Found { content, saved })
}

/// Whether the VM may be changed; a sentence if not.
pub fn may(observed: &Observed, vm: &VirtualMachine) -> Result<(), String> {
    let source = observed.snapshot.and_then(|snapshot| snapshot.status.as_ref()?.source_uid.as_ref());
    if source != vm.metadata.uid.as_ref() {
        return Err(
            "restore source and restore target are different but restore target already exists".into()
        );
    }
    if vm.metadata.deletion_timestamp.is_some() {
        return Err("the VM is being deleted".into());
    }
    if let Some(snapshot) = Lock::Snapshot.holder(vm) {
        return Err(format!("vm snapshot {snapshot} in progress"));
    }
    match Lock::Restore.holder(vm) {
        Some(holder) if observed.holder_exists => Err(format!("vm restore {holder} in progress")),
        _ => Ok(()),
    }
}

/// Whether an instance is over: it has no disks any more.
pub fn is_over(vmi: &VirtualMachineInstance) -> bool {
    vmi.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_final)
}

/// What is done about a VM that runs, and how that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileRunning {
    /// The restore fails.
    Fail(&'static str),
    /// It waits.
    Wait(&'static str),
    /// The VM is stopped.
    Stop(&'static str),
}

/// What `restore` does about its VM, which runs.
pub fn while_running(restore: &VirtualMachineRestore, now: Timestamp) -> WhileRunning {
    let created = restore.metadata.creation_timestamp.as_ref().map_or(now, |created| created.0);
    let waited = now.as_second().saturating_sub(created.as_second());
    match restore.spec.target_readiness_policy.unwrap_or_default() {
        TargetReadinessPolicy::FailImmediate => {
            WhileRunning::Fail("Restore target VMI must be powered off before restore operation")
        }
        TargetReadinessPolicy::WaitGracePeriod if waited > GRACE => WhileRunning::Fail(
            "Restore target failed to be ready within 5m0s. Please power off the target VM before attempting restore",
        ),
        TargetReadinessPolicy::WaitGracePeriod => WhileRunning::Wait(
            "Waiting for target VM to be powered off. Please stop the restore target to proceed with restore, or the \
             operation will fail after 5m0s",
        ),
        TargetReadinessPolicy::WaitEventually => WhileRunning::Wait(
            "Waiting for target VM to be powered off. Please stop the restore target to proceed with restore",
        ),
        TargetReadinessPolicy::StopTarget => {
            WhileRunning::Stop("Automatically stopping restore target for restore operation")
        }
    }
}
