//! Whether a snapshot may have its VM.
//!
//! Why here: everything that a snapshot needs is asked before anything is made. Pure. Route in: what was observed. Route out:
//! nothing, or the sentence that says what it waits for.

use sheaf_api::VirtualMachine;

use super::plan::Observed;
use crate::vm::lock::Lock;

/// Whether the snapshot called `name` may have `vm`; a sentence if not.
pub fn may(observed: &Observed, vm: &VirtualMachine, name: &str) -> Result<(), String> {
    if vm.metadata.deletion_timestamp.is_some() {
        return Err("the VM is being deleted".into());
    }
    if observed.class.is_none() {
        return Err("no VolumeSnapshotClass is of lvm.sheaf.dev; create one".into());
    }
    if let Some(restore) = Lock::Restore.holder(vm) {
        return Err(format!("restore {restore} in progress"));
    }
    match Lock::Snapshot.holder(vm) {
        Some(holder) if holder != name && observed.holder_exists => {
            return Err(format!("snapshot {holder} in progress"));
        }
        _ => {}
    }
    for claim in vm.spec.template.spec.volumes.iter().filter_map(|volume| volume.claim()) {
        let found = observed.claims.iter().find(|found| found.metadata.name.as_deref() == Some(claim));
        let found = found.ok_or_else(|| format!("the PersistentVolumeClaim {claim} does not exist"))?;
        if found.metadata.deletion_timestamp.is_some() {
            return Err(format!("the PersistentVolumeClaim {claim} is being deleted"));
        }
        if found.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
            return Err(format!(
                "the PersistentVolumeClaim {claim} is not bound, so there is nothing in it yet"
            ));
        }
    }
    Ok(())
}
