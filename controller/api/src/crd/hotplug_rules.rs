//! The rules of volumes whose disks are added to a VM that runs, and of interfaces that are removed from it.
//!
//! Why here: [`super::rules`] has those of all disks. Every rule has a bad manifest in tests/manifests/bad. Route in: nothing.
//! Route out: [`super::rule`].

use super::rule::{Reason, Rule};

/// Refuses hotpluggable volumes with a disk `d` that is not `$allowed`.
macro_rules! each_disk {
    ($allowed:literal, $says:literal) => {
        Rule {
            at: "",
            rule: concat!(
                "!has(self.volumes) || !has(self.domain.devices.disks) || self.volumes.filter(v, \
                 has(v.persistentVolumeClaim) && v.persistentVolumeClaim.?hotpluggable.orValue(false) || \
                 has(v.dataVolume) && v.dataVolume.?hotpluggable.orValue(false)).all(v, \
                 self.domain.devices.disks.all(d, d.name != v.name || ",
                $allowed,
                "))"
            ),
            says: $says,
            field: ".domain.devices.disks",
            reason: Reason::Invalid,
        }
    };
}

/// Of the spec of an instance, in a VirtualMachine's template or by itself.
pub const HOTPLUG: &[Rule] = &[
    each_disk!(
        "has(d.cdrom) || !has(d.disk) || d.disk.?bus.orValue('virtio') in ['scsi', 'virtio']",
        "a hotpluggable volume needs a cdrom, or a disk on the bus scsi or virtio"
    ),
    each_disk!(
        "(has(d.cdrom) || !has(d.bootOrder)) && !has(d.blockSize) && !d.?dedicatedIOThread.orValue(false)",
        "the disk of a hotpluggable volume is added after the VM has started: remove bootOrder (which a cdrom may have), \
         blockSize and dedicatedIOThread, or hotpluggable"
    ),
    Rule {
        at: "",
        rule: "!self.domain.devices.?disableHotplug.orValue(false) || !has(self.volumes) || !self.volumes.exists(v, \
               has(v.persistentVolumeClaim) && v.persistentVolumeClaim.?hotpluggable.orValue(false) || \
               has(v.dataVolume) && v.dataVolume.?hotpluggable.orValue(false))",
        says: "disableHotplug contradicts a hotpluggable volume; remove one of them",
        field: ".domain.devices.disableHotplug",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.networks) || !has(self.domain.devices.interfaces) || \
               self.domain.devices.interfaces.filter(i, i.?state.orValue('up') == 'absent').all(i, \
               self.networks.all(n, n.name != i.name || has(n.multus)))",
        says: "state: absent is only for an interface of a multus network; the interface of the pod network stays",
        field: ".domain.devices.interfaces",
        reason: Reason::Invalid,
    },
];
