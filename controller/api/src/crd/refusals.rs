//! Why fields of KubeVirt's are refused that people have in their manifests.
//!
//! Why here: who meets a refusal must learn what to do instead. Route in: KubeVirt's type and the field. Route out: the
//! sentence that the API server answers ([`super::refuse`]).

/// Type, field, sentence.
const REASONS: &[(&str, &str, &str)] = &[
    (
        "CPU",
        "realtime",
        "not supported by Sheaf yet: the kernel of a node is no real-time kernel; use dedicatedCpuPlacement alone",
    ),
    ("Devices", "sound", "not supported by Sheaf: VNC, by which a screen is shown, has no sound; remove it"),
    (
        "Devices",
        "clientPassthrough",
        "not supported by Sheaf yet: USB devices of clients are not redirected; remove it",
    ),
    (
        "Devices",
        "filesystems",
        "not supported by Sheaf yet: a VM has no file systems of its node; use a disk (the volumes secret, configMap and \
         downwardAPI are disks)",
    ),
    ("Devices", "autoattachVSOCK", "not supported by Sheaf yet: a VM has no vsock to its node; remove it"),
    (
        "GPU",
        "virtualGPUOptions",
        "not supported by Sheaf yet: a GPU is given to a VM as a whole, and its screen is not shown; remove it",
    ),
    (
        "Disk",
        "shareable",
        "not supported by Sheaf: a volume is on one node, and two VMs that write to one file system destroy it; remove it",
    ),
    (
        "Disk",
        "lun",
        "not supported by Sheaf: a volume is no SCSI device that takes a guest's commands; use disk with the bus scsi",
    ),
    (
        "Volume",
        "serviceAccount",
        "not supported by Sheaf: a token on a disk of the VM is not renewed; put a token that lasts into a Secret, and use \
         the volume secret",
    ),
    (
        "Volume",
        "downwardMetrics",
        "not supported by Sheaf yet: metrics of a node are not given to VMs; remove it",
    ),
    (
        "core.DownwardAPIVolumeFile",
        "mode",
        "not supported by Sheaf: every file of a read-only disk can be read; remove it",
    ),
    (
        "core.DownwardAPIVolumeFile",
        "resourceFieldRef",
        "not supported by Sheaf: a guest reads its processors and memory from its hardware; use fieldRef",
    ),
    ("DomainSpec", "ioThreads", "not supported by Sheaf yet: ioThreadsPolicy is auto or shared; remove it"),
    (
        "pool.VirtualMachinePoolSpec",
        "autohealing",
        "not supported by Sheaf yet: a VM that fails to start is started again, each time later; remove it",
    ),
    (
        "pool.VirtualMachinePoolSelectionPolicy",
        "selectors",
        "not supported by Sheaf yet: VMs are chosen only by their order; use sortPolicy",
    ),
    (
        "VirtualMachineInstanceSpec",
        "readinessProbe",
        "not supported by Sheaf yet: a VM is Ready while QEMU runs; remove it",
    ),
    (
        "VirtualMachineInstanceSpec",
        "livenessProbe",
        "not supported by Sheaf yet: use domain.devices.watchdog, which resets a guest that hangs",
    ),
];

/// Why `field` of KubeVirt's type `of` is refused, if there is more to say than that it is.
pub fn reason(of: &str, field: &str) -> Option<&'static str> {
    REASONS.iter().find(|(type_, name, _)| (*type_, *name) == (of, field)).map(|(.., sentence)| *sentence)
}
