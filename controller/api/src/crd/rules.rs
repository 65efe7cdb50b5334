//! The rules between fields, as the API server will check them (CEL), each with the sentence it answers.
//!
//! Why here: one table says all that types cannot. Every rule has a bad manifest in tests/manifests/bad.
//! Route in: nothing. Route out: [`super::rule`].

use super::rule::{Reason, Rule};

/// Every item of the list `$one` needs an item of the list `$two` with its name.
///
/// (No `orValue([])`: its result has no known length, and the API server would refuse the rule as too dear; so it
/// does with an expression that would name the culprit.)
macro_rules! partner {
    ($one_in:literal, $one:literal, $two_in:literal, $two:literal, $field:literal) => {
        Rule {
            at: "",
            rule: concat!(
                "!has(",
                $one_in,
                ".",
                $one,
                ") || ",
                $one_in,
                ".",
                $one,
                ".all(x, has(",
                $two_in,
                ".",
                $two,
                ") && ",
                $two_in,
                ".",
                $two,
                ".exists(y, y.name == x.name))"
            ),
            says: concat!("each of ", $one, " needs one of ", $two, " with the same name, and one has none"),
            field: $field,
            reason: Reason::Invalid,
        }
    };
}

/// The image at `$at` is one that a registry can have.
macro_rules! reference {
    ($at:literal) => {
        Rule {
            at: $at,
            rule: "self.image.matches('^(docker://)?([A-Za-z0-9.-]+(:[0-9]+)?/|\\\\[[0-9a-fA-F:]+\\\\](:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*\
                   (/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$')",
            says: "the image is not a reference: write it as registry.example.org/repository:tag",
            field: ".image",
            reason: Reason::Invalid,
        }
    };
}

/// Of both kinds: the name becomes the value of a label.
pub const NAME: &[Rule] = &[Rule {
    at: "",
    rule: "size(self.metadata.name) <= 63",
    says: "metadata.name is longer than 63 characters; it becomes the value of a label",
    field: "",
    reason: Reason::Invalid,
}];

/// Of a VirtualMachine's spec.
pub const MACHINE: &[Rule] = &[
    Rule {
        at: "",
        rule: "has(self.running) != has(self.runStrategy)",
        says: "set exactly one of runStrategy and running (deprecated)",
        field: ".runStrategy",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "has(self.instancetype) || has(self.template.spec.domain.memory) && has(self.template.spec.domain.memory.guest) || \
               has(self.template.spec.domain.resources) && has(self.template.spec.domain.resources.requests) && \
               'memory' in self.template.spec.domain.resources.requests",
        says: NO_MEMORY,
        field: ".template.spec.domain.memory",
        reason: Reason::Required,
    },
    Rule {
        at: "",
        rule: "!has(self.instancetype) || !has(self.instancetype.kind) || self.instancetype.kind.lowerAscii() in \
               ['virtualmachineinstancetype', 'virtualmachineinstancetypes', 'virtualmachineclusterinstancetype', \
               'virtualmachineclusterinstancetypes']",
        says: "kind is VirtualMachineInstancetype or VirtualMachineClusterInstancetype",
        field: ".instancetype.kind",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.preference) || !has(self.preference.kind) || self.preference.kind.lowerAscii() in \
               ['virtualmachinepreference', 'virtualmachinepreferences', 'virtualmachineclusterpreference', \
               'virtualmachineclusterpreferences']",
        says: "kind is VirtualMachinePreference or VirtualMachineClusterPreference",
        field: ".preference.kind",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.dataVolumeTemplates) || self.dataVolumeTemplates.all(t, \
               self.dataVolumeTemplates.filter(u, u.metadata.name == t.metadata.name).size() == 1)",
        says: "two of dataVolumeTemplates have the same name",
        field: ".dataVolumeTemplates",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.dataVolumeTemplates) || self.dataVolumeTemplates.all(t, \
               has(self.template.spec.volumes) && self.template.spec.volumes.exists(v, \
               has(v.dataVolume) && v.dataVolume.name == t.metadata.name || \
               has(v.persistentVolumeClaim) && v.persistentVolumeClaim.claimName == t.metadata.name))",
        says: "a dataVolumeTemplate is not used by any volume of the template; add a volume, or remove it",
        field: ".dataVolumeTemplates",
        reason: Reason::Invalid,
    },
];

/// Of the spec of an instance by itself. In a template an instancetype may give it.
pub const MEMORY: &[Rule] = &[Rule {
    at: "domain",
    rule: "has(self.memory) && has(self.memory.guest) || \
           has(self.resources) && has(self.resources.requests) && 'memory' in self.resources.requests",
    says: NO_MEMORY,
    field: ".memory",
    reason: Reason::Required,
}];

const NO_MEMORY: &str = "the VM has no memory: set memory.guest, for example 1Gi";

/// Of a matcher of an instancetype or a preference.
pub const MATCHER: &[Rule] = &[
    Rule {
        at: "",
        rule: "has(self.name) != has(self.inferFromVolume)",
        says: "set exactly one of name and inferFromVolume",
        field: ".name",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.revisionName) || has(self.name)",
        says: "a revisionName needs the name of what it is a revision of",
        field: ".revisionName",
        reason: Reason::Invalid,
    },
];

/// Of the spec of an instance, in a VirtualMachine's template or by itself.
pub const INSTANCE: &[Rule] = &[
    // A disk needs its volume (a volume without a disk is given one), and a drive may be empty; interfaces and networks go in
    // pairs.
    Rule {
        at: "",
        rule: "!has(self.domain.devices.disks) || self.domain.devices.disks.all(x, has(x.cdrom) || has(self.volumes) && \
               self.volumes.exists(y, y.name == x.name))",
        says: "each of disks needs one of volumes with the same name, and one has none; only a cdrom may be empty",
        field: ".domain.devices.disks",
        reason: Reason::Invalid,
    },
    partner!("self.domain.devices", "interfaces", "self", "networks", ".domain.devices.interfaces"),
    partner!("self", "networks", "self.domain.devices", "interfaces", ".networks"),
    Rule {
        at: "",
        rule: "!has(self.networks) || self.networks.filter(n, has(n.pod)).size() <= 1",
        says: "at most one network may be of type pod",
        field: ".networks",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.domain.devices.autoattachPodInterface) || self.domain.devices.autoattachPodInterface || \
               !has(self.domain.devices.interfaces) || size(self.domain.devices.interfaces) == 0",
        says: "autoattachPodInterface: false contradicts the list of interfaces; remove one of them",
        field: ".domain.devices.autoattachPodInterface",
        reason: Reason::Invalid,
    },
    Rule {
        at: "networks[]",
        rule: "has(self.pod) || has(self.multus)",
        says: "set pod: {}, which is the node's bridge br0, or multus.networkName",
        field: ".pod",
        reason: Reason::Required,
    },
    Rule {
        at: "networks[]",
        rule: "!(has(self.pod) && has(self.multus))",
        says: "a network is either pod or multus; remove one of them",
        field: ".multus",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain.devices.interfaces[]",
        rule: "has(self.bridge) || has(self.masquerade) || has(self.sriov)",
        says: "set bridge: {}, which connects the interface to the bridge of its network, masquerade: {} or sriov: {}",
        field: ".bridge",
        reason: Reason::Required,
    },
    Rule {
        at: "domain.devices.interfaces[]",
        rule: "!(has(self.bridge) && has(self.masquerade))",
        says: "an interface has either bridge or masquerade; remove one of them",
        field: ".masquerade",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain.devices.interfaces[]",
        rule: "!has(self.sriov) || !has(self.bridge) && !has(self.masquerade)",
        says: "an interface with sriov has neither bridge nor masquerade; remove them",
        field: ".sriov",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain.devices.interfaces[]",
        rule: "!has(self.sriov) || !has(self.state) && !has(self.model)",
        says: "a virtual function of a NIC is what it is, and is not changed while the VM runs; remove state and model",
        field: ".sriov",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "",
        rule: "!has(self.networks) || !has(self.domain.devices.interfaces) || \
               self.domain.devices.interfaces.filter(i, has(i.sriov)).all(i, \
               self.networks.all(n, n.name != i.name || has(n.multus)))",
        says: "sriov needs a multus network, whose NetworkAttachmentDefinition names the resource",
        field: ".domain.devices.interfaces",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.networks) || !has(self.domain.devices.interfaces) || \
               self.domain.devices.interfaces.filter(i, has(i.masquerade)).all(i, \
               self.networks.all(n, n.name != i.name || has(n.pod)))",
        says: "masquerade needs a network of type pod; use bridge: {} for a multus network",
        field: ".domain.devices.interfaces",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices",
        rule: "!has(self.interfaces) || self.interfaces.all(i, !has(i.macAddress) || self.interfaces.exists_one(j, \
               has(j.macAddress) && j.macAddress.lowerAscii() == i.macAddress.lowerAscii()))",
        says: "two interfaces have the same macAddress",
        field: ".interfaces",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices.interfaces[]",
        rule: "!has(self.ports) || self.ports.filter(p, has(p.name)).all(p, \
               self.ports.filter(q, has(q.name) && q.name == p.name).size() == 1)",
        says: "two ports have the same name",
        field: ".ports",
        reason: Reason::Invalid,
    },
    // CPU and memory.
    Rule {
        at: "domain.memory",
        rule: "!has(self.guest) || !isQuantity(string(self.guest)) || \
               quantity(string(self.guest)).compareTo(quantity('32Mi')) >= 0",
        says: "a guest has at least 32Mi of memory (a number without unit is bytes)",
        field: ".guest",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain",
        rule: "!has(self.memory) || !has(self.memory.guest) || !has(self.resources) || !has(self.resources.requests) || \
               !('memory' in self.resources.requests) || !isQuantity(string(self.memory.guest)) || \
               !isQuantity(string(self.resources.requests['memory'])) || \
               quantity(string(self.resources.requests['memory'])).compareTo(quantity(string(self.memory.guest))) >= 0",
        says: "resources.requests.memory is less than memory.guest: all of a guest's memory is set aside on its node; remove \
               the request (an administrator may set memoryOvercommitPercent in ClusterConfig cluster)",
        field: ".resources",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain",
        rule: "!has(self.memory) || !has(self.memory.guest) || !has(self.resources) || !has(self.resources.limits) || \
               !('memory' in self.resources.limits) || !isQuantity(string(self.memory.guest)) || \
               !isQuantity(string(self.resources.limits['memory'])) || \
               quantity(string(self.resources.limits['memory'])).compareTo(quantity(string(self.memory.guest))) >= 0",
        says: "resources.limits.memory is less than memory.guest: the VM would be killed; raise or remove the limit",
        field: ".resources",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.cpu",
        rule: "self.?sockets.orValue(1) * self.?cores.orValue(1) * self.?threads.orValue(1) <= 512",
        says: "sockets × cores × threads is more than 512 virtual CPUs",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.resources.requests",
        rule: "self.all(name, name in ['cpu', 'memory'])",
        says: "only cpu and memory can be requested",
        field: "",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain.resources.limits",
        rule: "self.all(name, name in ['cpu', 'memory'])",
        says: "only cpu and memory can be limited",
        field: "",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain.resources",
        rule: "!has(self.requests) || !has(self.limits) || self.limits.all(name, !(name in self.requests) || \
               !isQuantity(string(self.limits[name])) || !isQuantity(string(self.requests[name])) || \
               quantity(string(self.limits[name])).compareTo(quantity(string(self.requests[name]))) >= 0)",
        says: "a limit is smaller than the request of the same name",
        field: ".limits",
        reason: Reason::Invalid,
    },
    // Disks.
    Rule {
        at: "domain.devices.disks[]",
        rule: "!(has(self.disk) && has(self.cdrom))",
        says: "a disk is either a disk or a cdrom; remove one of them",
        field: ".cdrom",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain.devices.disks[]",
        rule: "!has(self.cdrom) || !has(self.cdrom.bus) || self.cdrom.bus in ['sata', 'scsi', 'usb']",
        says: "a cdrom cannot be on the virtio bus; use sata, scsi or usb",
        field: ".cdrom",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices",
        rule: "!has(self.disks) || self.disks.filter(d, has(d.bootOrder)).all(d, \
               self.disks.filter(e, has(e.bootOrder) && e.bootOrder == d.bootOrder).size() == 1)",
        says: "two disks have the same bootOrder",
        field: ".disks",
        reason: Reason::Invalid,
    },
    // Volumes.
    Rule {
        at: "volumes[]",
        rule: "[has(self.persistentVolumeClaim), has(self.dataVolume), has(self.hostDisk), has(self.emptyDisk), \
               has(self.containerDisk), has(self.cloudInitNoCloud), has(self.cloudInitConfigDrive), has(self.secret), has(self.configMap), has(self.downwardAPI), \
               has(self.sysprep), has(self.ephemeral)].filter(x, x).size() == 1",
        says: "a volume has exactly one of persistentVolumeClaim, dataVolume, hostDisk, emptyDisk, containerDisk, \
               cloudInitNoCloud, cloudInitConfigDrive, secret, configMap, downwardAPI, sysprep and ephemeral",
        field: "",
        reason: Reason::Required,
    },
    Rule {
        at: "volumes[].hostDisk",
        rule: "self.path.matches('^/data/(images/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?|\
               disks(/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?){2,})$') || self.type == 'DiskOrCreate' && \
               self.path.matches('^(/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)+$') && \
               !(self.path + '/').startsWith('/data/')",
        says: "use /data/images/<name> for a base image of the node or /data/disks/<namespace>/<file> for a disk that \
             is written in place; a path that is not below /data is a file below /data/disks/<namespace>, of type DiskOrCreate",
        field: ".path",
        reason: Reason::Invalid,
    },
    Rule {
        at: "volumes[].hostDisk",
        rule: "!(self.path.startsWith('/data/images/') && self.type == 'DiskOrCreate')",
        says: "a base image cannot be created by a VM; use type: Disk",
        field: ".type",
        reason: Reason::Invalid,
    },
    Rule {
        at: "volumes[].hostDisk",
        rule: "self.type != 'DiskOrCreate' || has(self.capacity)",
        says: "DiskOrCreate needs the capacity of the disk to create",
        field: ".capacity",
        reason: Reason::Required,
    },
    Rule {
        at: "volumes[].hostDisk",
        rule: "!(self.path.startsWith('/data/disks/') && self.type == 'Disk' && has(self.capacity))",
        says: "the file exists and keeps its size; remove capacity or use type: DiskOrCreate",
        field: ".capacity",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "volumes[].hostDisk",
        rule: "!has(self.capacity) || !isQuantity(string(self.capacity)) || \
               quantity(string(self.capacity)).isGreaterThan(quantity('0'))",
        says: "capacity is zero",
        field: ".capacity",
        reason: Reason::Invalid,
    },
    reference!("volumes[].containerDisk"),
    reference!("domain.firmware.kernelBoot.container"),
    Rule {
        at: "volumes[].emptyDisk",
        rule: "!isQuantity(string(self.capacity)) || quantity(string(self.capacity)).isGreaterThan(quantity('0'))",
        says: "capacity is zero",
        field: ".capacity",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.volumes) || self.volumes.filter(v, has(v.hostDisk)).all(v, \
               self.volumes.filter(w, has(w.hostDisk) && w.hostDisk.path == v.hostDisk.path).size() == 1)",
        says: "two volumes are the same hostDisk",
        field: ".volumes",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.volumes) || self.volumes.filter(v, has(v.persistentVolumeClaim)).all(v, \
               self.volumes.filter(w, has(w.persistentVolumeClaim) && w.persistentVolumeClaim.claimName == \
               v.persistentVolumeClaim.claimName || has(w.dataVolume) && w.dataVolume.name == \
               v.persistentVolumeClaim.claimName).size() == 1)",
        says: "two volumes are the same claim",
        field: ".volumes",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.volumes) || self.volumes.filter(v, has(v.dataVolume)).all(v, \
               self.volumes.filter(w, has(w.dataVolume) && w.dataVolume.name == v.dataVolume.name).size() == 1)",
        says: "two volumes are the same DataVolume",
        field: ".volumes",
        reason: Reason::Invalid,
    },
];
