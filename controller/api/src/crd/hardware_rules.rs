//! The rules between fields of a VM's virtual hardware: firmware, features, clock, CPU, memory, options of disks.
//!
//! Why here: [`super::rules`] has those of disks with volumes and of interfaces with networks. Every rule has a bad manifest
//! in tests/manifests/bad. Route in: nothing. Route out: [`super::rule`].

use super::rule::{Reason, Rule};

/// A feature of Hyper-V that works only with another one, which is set when it is not named.
macro_rules! requires {
    ($feature:literal, $other:literal) => {
        Rule {
            at: "domain.features.hyperv",
            rule: concat!(
                "!(has(self.",
                $feature,
                ") && self.",
                $feature,
                ".?enabled.orValue(true)) || !has(self.",
                $other,
                ") || self.",
                $other,
                ".?enabled.orValue(true)"
            ),
            says: concat!("'", $feature, "' requires '", $other, "', which was disabled; remove one of them"),
            field: concat!(".", $feature),
            reason: Reason::Invalid,
        }
    };
}

/// A file in the image of a kernel.
macro_rules! path {
    ($path:literal) => {
        Rule {
            at: "domain.firmware.kernelBoot.container",
            rule: concat!(
                "self.?",
                $path,
                ".orValue('') == '' || self.",
                $path,
                ".matches('^(/[^/]+)+$') && !self.",
                $path,
                ".matches('/[.][.]?(/|$)')"
            ),
            says: concat!($path, " must be an absolute path to a file without relative components"),
            field: concat!(".", $path),
            reason: Reason::Invalid,
        }
    };
}

/// Dedicated CPUs are not given in parts.
macro_rules! whole_cpus {
    ($of:literal) => {
        Rule {
            at: "domain",
            rule: concat!(
                "!has(self.cpu) || !self.cpu.?dedicatedCpuPlacement.orValue(false) || !has(self.resources) || ",
                "!has(self.resources.",
                $of,
                ") || !('cpu' in self.resources.",
                $of,
                ") || !isQuantity(string(self.resources.",
                $of,
                "['cpu'])) || quantity(string(self.resources.",
                $of,
                "['cpu'])).isInteger()"
            ),
            says: concat!("resources.", $of, ".cpu is not a whole number, which cpu.dedicatedCpuPlacement requires"),
            field: ".resources",
            reason: Reason::Invalid,
        }
    };
}

/// The CPUs that are set aside for dedicated placement are those that the guest has.
macro_rules! all_cpus {
    ($of:literal) => {
        Rule {
            at: "domain",
            rule: concat!(
                "!has(self.cpu) || !self.cpu.?dedicatedCpuPlacement.orValue(false) || !has(self.resources) || ",
                "!(has(self.cpu.sockets) || has(self.cpu.cores) || has(self.cpu.threads)) || !has(self.resources.",
                $of,
                ") || !('cpu' in self.resources.",
                $of,
                ") || !isQuantity(string(self.resources.",
                $of,
                "['cpu'])) || !quantity(string(self.resources.",
                $of,
                "['cpu'])).isInteger() || quantity(string(self.resources.",
                $of,
                // No text of a product: the API server estimates the costs of its length, which has no bound.
                "['cpu'])).asInteger() == self.cpu.?sockets.orValue(1) * self.cpu.?cores.orValue(1) * ",
                "self.cpu.?threads.orValue(1)"
            ),
            says: concat!(
                "resources.",
                $of,
                ".cpu is not the number of CPUs that cpu has, which cpu.dedicatedCpuPlacement requires; remove it"
            ),
            field: ".resources",
            reason: Reason::Invalid,
        }
    };
}

/// A device is of a kind, or of a claim.
macro_rules! device {
    ($of:literal) => {
        Rule {
            at: concat!("domain.devices.", $of, "[]"),
            rule: "has(self.deviceName) ? !has(self.claimName) && !has(self.requestName) : \
                   has(self.claimName) && has(self.requestName)",
            says: "a device has either deviceName, or claimName and requestName",
            field: ".deviceName",
            reason: Reason::Invalid,
        }
    };
}

/// A claim is one of the VM's.
macro_rules! claim {
    ($of:literal) => {
        Rule {
            at: "",
            rule: concat!(
                "!has(self.domain.devices.",
                $of,
                ") || self.domain.devices.",
                $of,
                ".filter(d, has(d.claimName)).all(d, has(self.resourceClaims) && \
                 self.resourceClaims.exists(c, c.name == d.claimName))"
            ),
            says: concat!($of, " has a claimName that resourceClaims does not have"),
            field: concat!(".domain.devices.", $of),
            reason: Reason::Invalid,
        }
    };
}

/// Of the spec of an instance, in a VirtualMachine's template or by itself.
pub const HARDWARE: &[Rule] = &[
    // Firmware.
    Rule {
        at: "domain.firmware.bootloader",
        rule: "!(has(self.bios) && has(self.efi))",
        says: "bios and efi are mutually exclusive; remove one of them",
        field: ".efi",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "domain",
        rule: "!has(self.firmware) || !has(self.firmware.bootloader) || !has(self.firmware.bootloader.efi) || \
               !self.firmware.bootloader.efi.?secureBoot.orValue(true) || \
               has(self.features) && has(self.features.smm) && self.features.smm.?enabled.orValue(true)",
        says: "efi has SecureBoot enabled. SecureBoot requires SMM, which is currently disabled; set features.smm: {} or \
               efi.secureBoot: false",
        field: ".firmware",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain",
        rule: "!has(self.firmware) || !has(self.firmware.bootloader) || !has(self.firmware.bootloader.efi) || \
               !has(self.features) || !has(self.features.acpi) || self.features.acpi.?enabled.orValue(true)",
        says: "efi requires ACPI; remove features.acpi.enabled: false",
        field: ".firmware",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain",
        rule: "!has(self.firmware) || !has(self.firmware.bootloader) || !has(self.firmware.bootloader.bios) || \
               !self.firmware.bootloader.bios.?useSerial.orValue(false) || \
               self.devices.?autoattachSerialConsole.orValue(true)",
        says: "bios.useSerial requires the serial port; remove autoattachSerialConsole: false",
        field: ".firmware",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.firmware.kernelBoot",
        rule: "has(self.container) || self.?kernelArgs.orValue('') == ''",
        says: "kernel arguments cannot be provided without an external kernel; set container",
        field: ".kernelArgs",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.firmware.kernelBoot.container",
        rule: "self.?kernelPath.orValue('') != '' || self.?initrdPath.orValue('') != ''",
        says: "a container must be defined with at least one of the following: kernelPath, initrdPath",
        field: "",
        reason: Reason::Required,
    },
    Rule {
        at: "domain.firmware.kernelBoot.container",
        rule: "self.?kernelPath.orValue('') != '' || self.?initrdPath.orValue('') == ''",
        says: "an initrd boots only with a kernel; set kernelPath",
        field: ".kernelPath",
        reason: Reason::Required,
    },
    path!("kernelPath"),
    path!("initrdPath"),
    // Features.
    Rule {
        at: "domain.features",
        rule: "!(has(self.hyperv) && has(self.hypervPassthrough))",
        says: "hyperv cannot be combined with hypervPassthrough; remove one of them",
        field: ".hypervPassthrough",
        reason: Reason::Forbidden,
    },
    requires!("evmcs", "vapic"),
    requires!("ipi", "vpindex"),
    requires!("synic", "vpindex"),
    requires!("synictimer", "synic"),
    requires!("synictimer", "vpindex"),
    requires!("tlbflush", "vpindex"),
    Rule {
        at: "domain.features.hyperv",
        rule: "!has(self.vendorid) || !self.vendorid.?enabled.orValue(true) || has(self.vendorid.vendorid)",
        says: "set vendorid.vendorid, the name of the hypervisor that the guest reads",
        field: ".vendorid",
        reason: Reason::Required,
    },
    Rule {
        at: "domain",
        rule: "!has(self.features) || !has(self.features.hyperv) || !has(self.features.hyperv.evmcs) || \
               !self.features.hyperv.evmcs.?enabled.orValue(true) || !has(self.cpu) || !has(self.cpu.features) || \
               self.cpu.features.all(f, f.name != 'vmx' || f.?policy.orValue('require') == 'require')",
        says: "hyperv.evmcs requires the CPU feature vmx with policy require",
        field: ".cpu",
        reason: Reason::Invalid,
    },
    // Clock.
    Rule {
        at: "domain.clock",
        rule: "!(has(self.utc) && has(self.timezone))",
        says: "a clock has either utc or timezone; remove one of them",
        field: ".timezone",
        reason: Reason::Forbidden,
    },
    // CPU and memory.
    Rule {
        at: "domain.cpu",
        rule: "!has(self.maxSockets) || self.?sockets.orValue(1) <= self.maxSockets",
        says: "the number of sockets is greater than maxSockets",
        field: ".maxSockets",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.cpu",
        rule: "!self.?isolateEmulatorThread.orValue(false) || self.?dedicatedCpuPlacement.orValue(false)",
        says: "isolateEmulatorThread requires dedicatedCpuPlacement: true",
        field: ".isolateEmulatorThread",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.cpu",
        rule: "!self.?dedicatedCpuPlacement.orValue(false) || self.?threads.orValue(1) <= 2",
        says: "a core has at most two threads with dedicatedCpuPlacement",
        field: ".threads",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.cpu",
        rule: "!has(self.numa) || !has(self.numa.guestMappingPassthrough) || \
               self.?dedicatedCpuPlacement.orValue(false)",
        says: "numa.guestMappingPassthrough requires dedicatedCpuPlacement: true",
        field: ".numa",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain",
        rule: "!has(self.cpu) || !has(self.cpu.numa) || !has(self.cpu.numa.guestMappingPassthrough) || \
               has(self.memory) && has(self.memory.hugepages)",
        says: "cpu.numa.guestMappingPassthrough requires memory.hugepages",
        field: ".cpu",
        reason: Reason::Invalid,
    },
    whole_cpus!("requests"),
    whole_cpus!("limits"),
    Rule {
        at: "domain",
        rule: "!has(self.cpu) || !self.cpu.?dedicatedCpuPlacement.orValue(false) || !has(self.resources) || \
               !has(self.resources.requests) || !has(self.resources.limits) || \
               ['cpu', 'memory'].all(name, !(name in self.resources.requests) || !(name in self.resources.limits) || \
               !isQuantity(string(self.resources.requests[name])) || !isQuantity(string(self.resources.limits[name])) || \
               quantity(string(self.resources.requests[name])).compareTo(quantity(string(self.resources.limits[name]))) == 0)",
        says: "resources.requests and resources.limits are not equal, which cpu.dedicatedCpuPlacement requires",
        field: ".resources",
        reason: Reason::Invalid,
    },
    all_cpus!("requests"),
    all_cpus!("limits"),
    Rule {
        at: "domain.memory",
        rule: "!has(self.maxGuest) || !has(self.guest) || !isQuantity(string(self.maxGuest)) || \
               !isQuantity(string(self.guest)) || \
               quantity(string(self.maxGuest)).compareTo(quantity(string(self.guest))) >= 0",
        says: "maxGuest is less than guest",
        field: ".maxGuest",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.memory",
        rule: "!has(self.hugepages) || !has(self.guest) || !isQuantity(string(self.guest)) || \
               quantity(string(self.guest)).isInteger() && quantity(string(self.guest)).asInteger() % \
               (self.hugepages.pageSize == '1Gi' ? 1073741824 : 2097152) == 0",
        says: "guest is not a multiple of hugepages.pageSize",
        field: ".guest",
        reason: Reason::Invalid,
    },
    // Devices of the node.
    Rule {
        at: "domain.devices",
        rule: "!has(self.hostDevices) || self.hostDevices.all(d, self.hostDevices.exists_one(e, e.name == d.name))",
        says: "two of hostDevices have the same name",
        field: ".hostDevices",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices",
        rule: "!has(self.gpus) || self.gpus.all(d, self.gpus.exists_one(e, e.name == d.name))",
        says: "two of gpus have the same name",
        field: ".gpus",
        reason: Reason::Invalid,
    },
    device!("hostDevices"),
    device!("gpus"),
    claim!("hostDevices"),
    claim!("gpus"),
    Rule {
        at: "resourceClaims[]",
        rule: "has(self.resourceClaimName) != has(self.resourceClaimTemplateName)",
        says: "a claim has either resourceClaimName or resourceClaimTemplateName",
        field: "",
        reason: Reason::Invalid,
    },
    // Disks.
    Rule {
        at: "domain.devices.disks[]",
        rule: "!has(self.cdrom) || self.cdrom.?readonly.orValue(true)",
        says: "a cdrom is read-only; remove readonly: false",
        field: ".cdrom",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices.disks[]",
        rule: "!has(self.disk) || !self.disk.?readonly.orValue(false) || self.disk.?bus.orValue('virtio') != 'sata'",
        says: "sata hard disks do not support readonly; use virtio, scsi or usb",
        field: ".disk",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices.disks[]",
        rule: "!self.?dedicatedIOThread.orValue(false) || !has(self.cdrom) && \
               (!has(self.disk) || self.disk.?bus.orValue('virtio') == 'virtio')",
        says: "a dedicated I/O thread is supported for disks on the virtio bus only",
        field: ".dedicatedIOThread",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices.disks[]",
        rule: "!has(self.io) || self.io != 'native' || !has(self.cache) || self.cache == 'none'",
        says: "io: native requires cache: none",
        field: ".io",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices.disks[]",
        rule: "!has(self.blockSize) || !has(self.cdrom)",
        says: "a cdrom has blocks of 2048 bytes; remove blockSize",
        field: ".blockSize",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices.disks[].blockSize",
        rule: "has(self.custom) != has(self.matchVolume)",
        says: "a block size has exactly one of custom and matchVolume",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices.disks[].blockSize.custom",
        rule: "[self.logical, self.physical].all(size, size in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, \
               131072, 262144, 524288, 1048576, 2097152])",
        says: "logical and physical are powers of 2 from 512 to 2097152",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices.disks[].blockSize.custom",
        rule: "self.logical <= self.physical",
        says: "logical is greater than physical",
        field: ".logical",
        reason: Reason::Invalid,
    },
    Rule {
        at: "domain.devices.disks[].blockSize.custom",
        rule: "!has(self.discardGranularity) || self.discardGranularity % self.logical == 0",
        says: "discardGranularity is not a multiple of logical",
        field: ".discardGranularity",
        reason: Reason::Invalid,
    },
];
