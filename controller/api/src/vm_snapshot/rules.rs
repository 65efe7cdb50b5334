//! The rules of snapshots and restores, as the API server will check them (CEL), each with its sentence.
//!
//! Why here: beside the types they are about. Every rule has a bad object in tests/manifests/bad. Route in: nothing. Route
//! out: [`crate::crd`].

use crate::crd::rule::{Reason, Rule};

/// Of a VirtualMachineSnapshot.
pub const SNAPSHOT: &[Rule] = &[
    Rule {
        at: "spec.source",
        rule: "has(self.apiGroup) && self.apiGroup == 'kubevirt.io' && self.kind == 'VirtualMachine'",
        says: "a snapshot is of a VM: set apiGroup: kubevirt.io and kind: VirtualMachine",
        field: ".kind",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self == oldSelf",
        says: "a VirtualMachineSnapshot cannot be changed; create another",
        field: "",
        reason: Reason::Forbidden,
    },
];

/// Of a VirtualMachineRestore.
pub const RESTORE: &[Rule] = &[
    Rule {
        at: "spec.target",
        rule: "has(self.apiGroup) && self.apiGroup == 'kubevirt.io' && self.kind == 'VirtualMachine'",
        says: "a restore is of a VM: set apiGroup: kubevirt.io and kind: VirtualMachine",
        field: ".kind",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "!has(self.volumeRestorePolicy) || self.volumeRestorePolicy == 'RandomizeNames'",
        says: "only RandomizeNames is supported by Sheaf: a restored volume has a name of its own; remove it, or set \
               restoreName in volumeRestoreOverrides",
        field: ".volumeRestorePolicy",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec.volumeRestoreOverrides[]",
        rule: "has(self.restoreName) || has(self.labels) || has(self.annotations)",
        says: "an override has at least one of restoreName, labels and annotations",
        field: "",
        reason: Reason::Required,
    },
    Rule {
        at: "spec",
        rule: "self == oldSelf",
        says: "a VirtualMachineRestore cannot be changed; create another",
        field: "",
        reason: Reason::Forbidden,
    },
];
