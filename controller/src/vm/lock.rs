//! Patches of the two fields by which a snapshot or a restore has a VM for itself.
//!
//! Why here: as requests ([`super::requests`]) they are in the VM's status and are not the VM controller's: a patch tests what
//! it replaces, so that two that want a VM do not both get it. Pure. Route in: a VM as it was read. Route out: a JSON patch of
//! its status; the API server answers 422 when another was first.

use serde_json::json;
use sheaf_api::VirtualMachine;

use super::requests::{patch, same_vm};

/// By what a VM is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// A VirtualMachineSnapshot.
    Snapshot,
    /// A VirtualMachineRestore: the VM does not start meanwhile.
    Restore,
}

impl Lock {
    /// Name of the object that has `vm`.
    pub fn holder(self, vm: &VirtualMachine) -> Option<&str> {
        let status = vm.status.as_ref()?;
        match self {
            Self::Snapshot => status.snapshot_in_progress.as_deref(),
            Self::Restore => status.restore_in_progress.as_deref(),
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshotInProgress",
            Self::Restore => "restoreInProgress",
        }
    }

    /// Gives `vm` to the object called `name`, instead of the one that it was read with.
    pub fn take(self, vm: &VirtualMachine, name: &str) -> json_patch::Patch {
        let mut steps = same_vm(vm);
        match &vm.status {
            None => steps.push(json!({"op": "add", "path": "/status", "value": {self.field(): name}})),
            Some(_) => {
                let path = format!("/status/{}", self.field());
                // null is what a missing field is tested for.
                steps.push(json!({"op": "test", "path": path, "value": self.holder(vm)}));
                steps.push(json!({"op": "add", "path": path, "value": name}));
            }
        }
        patch(steps)
    }

    /// Releases `vm` from the object called `name`.
    pub fn release(self, vm: &VirtualMachine, name: &str) -> json_patch::Patch {
        let path = format!("/status/{}", self.field());
        let mut steps = same_vm(vm);
        steps.push(json!({"op": "test", "path": path, "value": name}));
        steps.push(json!({"op": "remove", "path": path}));
        patch(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vm(status: Value) -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "uid": "u"},
            "spec": {"runStrategy": "Manual", "template": {"spec": {"domain": {"devices": {}}}}}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_vm_is_taken_once_and_released_by_who_has_it() {
        let free = vm(json!(null));
        let mut now = serde_json::to_value(&free).unwrap();
        json_patch::patch(&mut now, &Lock::Snapshot.take(&free, "nightly")).unwrap();
        let taken: VirtualMachine = serde_json::from_value(now.clone()).unwrap();
        assert_eq!(Lock::Snapshot.holder(&taken), Some("nightly"));
        assert_eq!(Lock::Restore.holder(&taken), None);
        // Another read it as free of a snapshot.
        let read = vm(json!({"created": true}));
        let late = Lock::Snapshot.take(&read, "weekly");
        assert!(json_patch::patch(&mut now.clone(), &late).is_err());
        assert!(json_patch::patch(&mut now.clone(), &Lock::Snapshot.release(&taken, "weekly")).is_err());
        json_patch::patch(&mut now, &Lock::Snapshot.release(&taken, "nightly")).unwrap();
        assert_eq!(now["status"], json!({}));
    }
}
