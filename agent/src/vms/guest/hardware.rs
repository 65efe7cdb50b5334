//! The virtual hardware of a VM apart from its disks and NICs, as this node will run it.
//!
//! Why here: values of the API stand where the domain's XML says the same in other words; what a VM only may ask for is decided.
//! Route in: [`crate::vms::admission`]. Route out: [`crate::vms::domain_xml`], [`crate::vms::files`].

use crate::vms::cpus::Wanted;
use crate::vms::host_devices::Wanted as Device;
use sheaf_api::clock::Clock;
use sheaf_api::disk_options::{DiskIo, ErrorPolicy};
use sheaf_api::domain::{CpuFeature, PageSize};
use sheaf_api::features::Features;
use sheaf_api::firmware::Chassis;
use sheaf_api::peripherals::{Input, WatchdogAction};
use sheaf_api::size::Size;
use std::path::{Path, PathBuf};

/// What the guest finds beside its disks and NICs.
#[derive(Clone, Debug, PartialEq)]
pub struct Hardware {
    /// What boots it.
    pub firmware: Firmware,
    /// A kernel that the firmware starts.
    pub kernel: Option<Kernel>,
    /// Serial number of the system in SMBIOS.
    pub serial: Option<String>,
    /// The chassis that SMBIOS describes.
    pub chassis: Option<Chassis>,
    /// Features that are on or off.
    pub features: Features,
    /// Clock and timers; nothing for Sheaf's own.
    pub clock: Option<Clock>,
    /// Features of the CPU beside those of its model.
    pub cpu_features: Vec<CpuFeature>,
    /// Size of the huge pages that its memory is on.
    pub page_size: Option<PageSize>,
    /// Processors of the node that it is to have to itself.
    pub own_cpus: Option<Wanted>,
    /// PCI devices of the node that it is to have to itself.
    pub host_devices: Vec<Device>,
    /// Threads for the I/O of disks, numbered from 1.
    pub io_threads: u32,
    /// Input devices.
    pub inputs: Vec<Input>,
    /// A TPM, and how long its state lives.
    pub tpm: Option<Lifetime>,
    /// A watchdog: its name and what it does.
    pub watchdog: Option<(String, WatchdogAction)>,
    /// A balloon.
    pub balloon: bool,
    /// The serial port is logged.
    pub serial_log: bool,
    /// Queues of each virtio disk.
    pub disk_queues: Option<u32>,
    /// Queues of each virtio NIC.
    pub nic_queues: Option<u32>,
    /// virtio devices that guests of before virtio 1.0 know too.
    pub transitional: bool,
    /// It has a controller and free ports for disks that are added while it runs.
    pub hotplug: bool,
    /// Its processors wait until somebody resumes it.
    pub paused: bool,
    /// Folder of its state that outlives this instance.
    pub state: PathBuf,
    /// What it can grow to while it runs, if it can.
    pub most: Option<Size>,
}

impl Default for Hardware {
    /// A VM that asks for nothing.
    fn default() -> Self {
        Self {
            firmware: Firmware::Bios { serial: false },
            kernel: None,
            serial: None,
            chassis: None,
            features: Features::default(),
            clock: None,
            cpu_features: Vec::new(),
            page_size: None,
            own_cpus: None,
            host_devices: Vec::new(),
            io_threads: 0,
            inputs: Vec::new(),
            tpm: None,
            watchdog: None,
            balloon: true,
            serial_log: true,
            disk_queues: None,
            nic_queues: None,
            transitional: false,
            hotplug: true,
            paused: false,
            state: PathBuf::new(),
            most: None,
        }
    }
}

impl Hardware {
    /// Lifetimes of the state that it has.
    pub fn lifetimes(&self) -> impl Iterator<Item = Lifetime> {
        let variables = match self.firmware {
            Firmware::Bios { .. } => None,
            Firmware::Efi { variables, .. } => Some(variables),
        };
        variables.into_iter().chain(self.tpm)
    }
}

/// What boots the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios {
        /// Its output goes to the serial port too.
        serial: bool,
    },
    /// OVMF.
    Efi {
        /// Only what Microsoft's keys signed boots.
        secure: bool,
        /// How long its variables live.
        variables: Lifetime,
    },
}

/// A kernel that boots the guest in the place of a boot loader. The VM has files of its own, so that libvirt may give them to QEMU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel on this node, which is never changed.
    pub image: PathBuf,
    /// The initrd, likewise.
    pub initrd: Option<PathBuf>,
    /// Arguments.
    pub arguments: String,
}

/// How long state of firmware or TPM lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the instance.
    Instance,
    /// Until an administrator removes it from the node.
    Machine,
}

/// Options of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskOptions {
    /// The guest cannot write to it.
    pub readonly: bool,
    /// How QEMU does its I/O.
    pub io: Option<DiskIo>,
    /// Number of the thread that does it.
    pub thread: Option<u32>,
    /// Block sizes that the guest sees.
    pub blocks: Option<Blocks>,
    /// What happens when a read or a write fails.
    pub error_policy: Option<ErrorPolicy>,
}

/// Block sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// The smallest that can be read or written.
    pub logical: u32,
    /// The one that is best read or written.
    pub physical: u32,
    /// The smallest that can be discarded.
    pub discard: Option<u32>,
}

/// Folder of state of the domain `uuid` below `folder`. It is named as libvirt names the domain's AppArmor profile, whose
/// rule for the TPM's state is by that name (`abstractions/libvirt-qemu.d/sheaf`).
pub fn state_folder(folder: &Path, uuid: &str) -> PathBuf {
    folder.join(format!("libvirt-{uuid}"))
}
