//! Preferences: what a VM has when it does not say otherwise.
//!
//! Why here: names, meanings and the values that are accepted but deprecated are KubeVirt's. Route in: a manifest. Route out: a
//! VM's spec, put together by the controller.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    clock::{Timers, Utc},
    devices::{Cache, DiskBus, InterfaceModel, Masquerade, Rng},
    disk_options::{BlockSize, DiskIo},
    domain::CpuFeature,
    features::{Apic, FeatureState, HyperV, Kvm},
    firmware::Efi,
    peripherals::{InputBus, InputType, Tpm},
    quantity::Amount,
};

/// What a VM has when it does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "instancetype.kubevirt.io",
    version = "v1beta1",
    kind = "VirtualMachinePreference",
    plural = "virtualmachinepreferences",
    category = "all",
    namespaced,
    derive = "PartialEq",
    doc = "What virtual machines of a namespace that name it have when they do not say otherwise."
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachinePreferenceSpec {
    /// Clock and timers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockPreferences>,
    /// What the CPUs of an instancetype are, and their features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuPreferences>,
    /// Devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<DevicePreferences>,
    /// Features of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeaturePreferences>,
    /// Firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwarePreferences>,
    /// Machine type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachinePreferences>,
    /// What a VM must have at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
    /// Seconds from pressing the power button until the VM is destroyed when it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub preferred_termination_grace_period_seconds: Option<i64>,
    /// Cores per socket of the topology spread. Default: 2. Deprecated in favour of cpu.spreadOptions.ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub prefer_spread_socket_to_core_ratio: Option<u32>,
    /// amd64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_architecture: Option<Architecture>,
    /// Annotations of the instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An architecture that nodes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
}

/// Clock and timers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClockPreferences {
    /// UTC or a time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_clock_offset: Option<ClockOffset>,
    /// Timers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_timer: Option<Timers>,
}

/// At most one of utc and timezone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClockOffset {
    /// UTC, or so many seconds beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc: Option<Utc>,
    /// A time zone by its name in the IANA database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"))]
    pub timezone: Option<String>,
}

/// What the CPUs of an instancetype are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuPreferences {
    /// Default: sockets.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "preferredCPUTopology")]
    pub preferred_cpu_topology: Option<Topology>,
    /// Of the topology spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_options: Option<SpreadOptions>,
    /// Features of the CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "preferredCPUFeatures")]
    #[schemars(length(max = 64))]
    pub preferred_cpu_features: Vec<CpuFeature>,
}

/// What virtual CPUs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the names say it
pub enum Topology {
    Sockets,
    Cores,
    Threads,
    Spread,
    Any,
    PreferSockets,
    PreferCores,
    PreferThreads,
    PreferSpread,
    PreferAny,
}

/// How virtual CPUs are spread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpreadOptions {
    /// Default: SocketsCores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub across: Option<Across>,
    /// Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512))]
    pub ratio: Option<u32>,
}

/// Over what virtual CPUs are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names say it
pub enum Across {
    #[default]
    SocketsCores,
    CoresThreads,
    SocketsCoresThreads,
}

/// Devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DevicePreferences {
    /// A VGA adapter with VNC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_autoattach_graphics_device: Option<bool>,
    /// A balloon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_autoattach_mem_balloon: Option<bool>,
    /// A network interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_autoattach_pod_interface: Option<bool>,
    /// A serial port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_autoattach_serial_console: Option<bool>,
    /// A tablet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_autoattach_input_device: Option<bool>,
    /// Accepted; disks are not added to a VM that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_disable_hotplug: Option<bool>,
    /// virtio devices for old guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_use_virtio_transitional: Option<bool>,
    /// Bus of input devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_input_bus: Option<InputBus>,
    /// Kind of input devices; tablet is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_input_type: Option<InputType>,
    /// Bus of hard disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_disk_bus: Option<DiskBus>,
    /// Bus of CD-ROM drives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_cdrom_bus: Option<DiskBus>,
    /// A thread of its own for each virtio disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_disk_dedicated_io_thread: Option<bool>,
    /// Caching of hard disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_disk_cache: Option<Cache>,
    /// How QEMU does the I/O of hard disks.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "preferredDiskIO")]
    pub preferred_disk_io: Option<DiskIo>,
    /// Block sizes of hard disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_disk_block_size: Option<BlockSize>,
    /// NIC that the guest sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_interface_model: Option<InterfaceModel>,
    /// masquerade for the interface of the pod network without a binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_interface_masquerade: Option<Masquerade>,
    /// A source of entropy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_rng: Option<Rng>,
    /// A TPM.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "preferredTPM")]
    pub preferred_tpm: Option<Tpm>,
    /// One queue for each virtual CPU on virtio disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_block_multi_queue: Option<bool>,
    /// One queue for each virtual CPU on virtio interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_network_interface_multi_queue: Option<bool>,
}

/// Features of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeaturePreferences {
    /// ACPI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_acpi: Option<FeatureState>,
    /// APIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_apic: Option<Apic>,
    /// Features of Hyper-V.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_hyperv: Option<HyperV>,
    /// How the guest sees KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_kvm: Option<Kvm>,
    /// Paravirtual spinlocks of KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_pvspinlock: Option<FeatureState>,
    /// System Management Mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_smm: Option<FeatureState>,
}

/// Firmware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirmwarePreferences {
    /// SeaBIOS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_use_bios: Option<bool>,
    /// Sends the output of the BIOS to the serial port too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_use_bios_serial: Option<bool>,
    /// UEFI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_efi: Option<Efi>,
    /// Deprecated in favour of preferredEfi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_use_efi: Option<bool>,
    /// Deprecated in favour of preferredEfi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_use_secure_boot: Option<bool>,
}

/// Machine type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MachinePreferences {
    /// q35, or a version of it such as pc-q35-10.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(q35|pc-q35-[0-9]{1,2}\.[0-9]{1,2}(\.[0-9]{1,2})?)$"))]
    pub preferred_machine_type: Option<String>,
}

/// What a VM must have at least.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Requirements {
    /// Virtual CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuRequirement>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryRequirement>,
    /// amd64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
}

/// The least number of virtual CPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuRequirement {
    /// How many.
    #[schemars(range(min = 1, max = 512))]
    pub guest: u32,
}

/// The least memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryRequirement {
    /// How much.
    pub guest: Amount,
}
