//! The rules of a pool that types cannot state, each with the sentence that the API server answers.
//!
//! Why here: beside the types they are about. Every rule has a bad manifest in tests/manifests/bad. Route in: nothing. Route
//! out: [`crate::crd`].

use crate::{
    crd::rule::{Reason, Rule},
    selector,
};

/// Of a pool.
pub(crate) const POOL: &[Rule] = &[Rule {
    at: "",
    rule: "size(self.metadata.name) <= 52",
    says: "metadata.name is longer than 52 characters; the names of its VMs have a number after it",
    field: "",
    reason: Reason::Invalid,
}];

/// Of its selector and template.
pub(crate) const SELECTOR: &[Rule] = selector::rules!("virtualMachineTemplate");

/// Of its spec.
pub(crate) const SPEC: &[Rule] = &[
    Rule {
        at: "",
        rule: "!has(self.maxUnavailable) || (type(self.maxUnavailable) == int ? self.maxUnavailable > 0 : \
               self.maxUnavailable.matches('^([1-9][0-9]?|100)%$'))",
        says: "maxUnavailable is a number of VMs, at least 1, or a share from 1% to 100%",
        field: ".maxUnavailable",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.scaleInStrategy) || [has(self.scaleInStrategy.unmanaged), has(self.scaleInStrategy.opportunistic), \
               has(self.scaleInStrategy.proactive)].filter(x, x).size() == 1",
        says: "set exactly one of unmanaged, opportunistic and proactive",
        field: ".scaleInStrategy",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.updateStrategy) || [has(self.updateStrategy.unmanaged), has(self.updateStrategy.opportunistic), \
               has(self.updateStrategy.proactive)].filter(x, x).size() == 1",
        says: "set exactly one of unmanaged, opportunistic and proactive",
        field: ".updateStrategy",
        reason: Reason::Invalid,
    },
    Rule {
        at: "virtualMachineTemplate.spec",
        rule: "has(self.dataVolumeTemplates) == has(oldSelf.dataVolumeTemplates) && \
               (!has(self.dataVolumeTemplates) || self.dataVolumeTemplates == oldSelf.dataVolumeTemplates)",
        says: "the VMs of the pool have these disks, and would lose them; create another pool",
        field: ".dataVolumeTemplates",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "virtualMachineTemplate.spec",
        rule: "!has(self.template.spec.volumes) || self.template.spec.volumes.all(v, \
               (!has(v.hostDisk) || v.hostDisk.path.startsWith('/data/images/')) && \
               (!has(v.dataVolume) || has(self.dataVolumeTemplates) && \
               self.dataVolumeTemplates.exists(t, t.metadata.name == v.dataVolume.name)) && \
               (!has(v.persistentVolumeClaim) || has(self.dataVolumeTemplates) && \
               self.dataVolumeTemplates.exists(t, t.metadata.name == v.persistentVolumeClaim.claimName)))",
        says: "all VMs would write to one disk; give each its own with dataVolumeTemplates",
        field: ".template.spec.volumes",
        reason: Reason::Forbidden,
    },
];
