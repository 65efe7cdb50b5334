//! Devices of a VM: disks, network interfaces, entropy, graphics, serial console.
//!
//! Why here: names and meanings are KubeVirt's. A disk is the guest's half of a volume of the same name
//! ([`crate::volumes`]), an interface the guest's half of a network of the same name ([`crate::vmi`]).
//! Route in: `spec.domain.devices` of a VMI. Route out: the agent's domain XML.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    disk_options::{BlockSize, DiskIo, ErrorPolicy},
    peripherals::{Input, Tpm, Watchdog},
    ports::Port,
};

/// What the guest finds on its buses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Devices {
    /// Disks, one for each volume, and empty CD-ROM drives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub disks: Vec<Disk>,
    /// Network interfaces, one for each network. Default: one, `default`, with masquerade.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub interfaces: Vec<Interface>,
    /// A virtio source of entropy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rng: Option<Rng>,
    /// False for a VM without any network interface. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoattach_pod_interface: Option<bool>,
    /// A VGA adapter with VNC. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoattach_graphics_device: Option<bool>,
    /// A serial port, logged on the node. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoattach_serial_console: Option<bool>,
    /// Logs the serial port on the node. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_serial_console: Option<bool>,
    /// A balloon by which the guest gives back free memory. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoattach_mem_balloon: Option<bool>,
    /// A tablet on USB, unless inputs has a device. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoattach_input_device: Option<bool>,
    /// Input devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub inputs: Vec<Input>,
    /// A TPM 2.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<Tpm>,
    /// A watchdog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Watchdog>,
    /// One queue for each virtual CPU on virtio disks. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_multi_queue: Option<bool>,
    /// One queue for each virtual CPU on virtio interfaces. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_multiqueue: Option<bool>,
    /// virtio devices that guests of before virtio 1.0 know too, for example CentOS 6. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_virtio_transitional: Option<bool>,
    /// The VM has no controller and no free ports for disks that are added while it runs. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_hotplug: Option<bool>,
    /// PCI devices of the node that the VM has to itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub host_devices: Vec<HostDevice>,
    /// The same, of GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub gpus: Vec<HostDevice>,
}

impl Devices {
    /// Devices of the node: hostDevices, then gpus.
    pub fn of_node(&self) -> impl Iterator<Item = &HostDevice> {
        self.host_devices.iter().chain(&self.gpus)
    }

    /// Whether the VM has PCI devices of its node, which read and write its memory.
    pub fn has_devices_of_node(&self) -> bool {
        self.of_node().next().is_some() || self.interfaces.iter().any(|interface| interface.sriov.is_some())
    }
}

/// A PCI device of the node that the VM has to itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostDevice {
    /// Its name in this VM.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// A resourceName that permittedHostDevices of ClusterConfig cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 127),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
    )]
    pub device_name: Option<String>,
    /// In place of deviceName: one of resourceClaims, by its name in this VM. The VM waits until a driver for dynamic resource
    /// allocation has allocated it; nodes of Sheaf have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub claim_name: Option<String>,
    /// The request of that claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub request_name: Option<String>,
}

/// A disk as the guest sees it; exactly one of disk and cdrom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Name of the volume behind it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// A hard disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskTarget>,
    /// A CD-ROM drive, read-only. It is empty while no volume has its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cdrom: Option<CdromTarget>,
    /// Place in the boot order: 1 is tried first; unset is not tried if any device sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub boot_order: Option<u32>,
    /// Serial number that the guest reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.+-]{1,20}$"))]
    pub serial: Option<String>,
    /// The node's caching of this disk. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// How QEMU does its I/O; native needs cache none. Default: native for volumes, threads for files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<DiskIo>,
    /// A thread of its own for its I/O; on the virtio bus. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "dedicatedIOThread")]
    pub dedicated_io_thread: Option<bool>,
    /// Block sizes that the guest sees. Default: 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<BlockSize>,
    /// What happens when a read or a write fails. Default: the guest is paused when there is no space, and told of any
    /// other error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_policy: Option<ErrorPolicy>,
}

impl Disk {
    /// Whether it is a CD-ROM drive, which may have no medium.
    pub fn is_drive(&self) -> bool {
        self.cdrom.is_some()
    }
}

/// A hard disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskTarget {
    /// Default: virtio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<DiskBus>,
    /// The guest cannot write to it; not on sata. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
}

/// A CD-ROM drive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CdromTarget {
    /// Default: sata. virtio is refused: no firmware or guest knows a virtio CD-ROM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<DiskBus>,
    /// true, as every CD-ROM is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
}

/// The bus that a disk is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// virtio-blk.
    Virtio,
    /// AHCI.
    Sata,
    /// virtio-scsi.
    Scsi,
    /// USB mass storage.
    Usb,
}

/// How the node caches writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Past the page cache.
    None,
    /// Through the page cache, written at once.
    Writethrough,
    /// In the page cache until the guest flushes.
    Writeback,
}

/// A network interface as the guest sees it; exactly one of bridge, masquerade and sriov.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Name of the network behind it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// Connects the interface to the bridge of its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
    /// Connects the interface to a private network of its node: an address by DHCP, and the way out behind the
    /// node's own address. The guest cannot be reached from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<Masquerade>,
    /// Gives the guest a virtual function of a NIC of the node, of those that the resource of its multus network counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sriov: Option<Sriov>,
    /// Default: virtio. With sriov it is what the NIC is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<InterfaceModel>,
    /// A unicast hardware address. Default: derived from the VM's UID and the interface's name, the same at
    /// every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 17), regex(pattern = r"^[0-9a-fA-F][02468aceACE]([:-][0-9a-fA-F]{2}){5}$"))]
    pub mac_address: Option<String>,
    /// Ports that the guest listens on. Nothing is opened or closed by them: a guest with masquerade cannot be reached from
    /// outside, one with bridge is reached on all its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub ports: Vec<Port>,
    /// The link, also while the VM runs: up (default), down; absent removes the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<InterfaceState>,
}

impl Interface {
    /// Whether it is to be removed.
    pub fn is_absent(&self) -> bool {
        self.state == Some(InterfaceState::Absent)
    }

    /// Whether its link is to be down.
    pub fn is_down(&self) -> bool {
        self.state == Some(InterfaceState::Down)
    }
}

/// What is wanted of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceState {
    /// Its link is up.
    Up,
    /// Its link is down: the guest sees a cable that is unplugged.
    Down,
    /// It is removed, also from a VM that runs; only of a multus network.
    Absent,
}

/// Binding of an interface to a bridge; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bridge {}

/// Binding of an interface to the node's private network; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Masquerade {}

/// Binding of an interface to a virtual function of a NIC; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sriov {}

/// A virtio source of entropy; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rng {}

/// The NIC that the guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceModel {
    /// virtio-net.
    Virtio,
    /// Intel 82540EM.
    E1000,
    /// Intel 82574L.
    E1000e,
}
