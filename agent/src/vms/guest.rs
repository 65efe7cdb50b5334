//! A virtual machine as this node will run it: every default filled in, every path checked, nothing left to decide.
//!
//! Route in: [`super::admission`] makes it from a Pod. Route out: [`super::files`] makes its files,
//! [`super::domain_xml`] its domain.

mod contents;
mod hardware;

pub use contents::{DataSource, Files, Keys, Object, Seed, Text};
pub use hardware::{Blocks, DiskOptions, Firmware, Hardware, Kernel, Lifetime, state_folder};

use super::cpus::Placement;
use super::filters::Port;
use super::host_devices::HostDevice;
use sheaf_api::devices::{Cache, DiskBus, InterfaceModel};
use std::path::{Path, PathBuf};

/// One virtual machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    /// Whose it is.
    pub id: Identity,
    /// UUID of the domain, also the one its firmware shows.
    pub uuid: String,
    /// Seconds from the power button to the end of QEMU.
    pub grace_seconds: i64,
    /// Priority of its Pod: VMs of lower priority are stopped first when the machine goes down.
    pub priority: i32,
    /// Memory of the guest, in bytes.
    pub memory: u64,
    /// Sockets, cores per socket, threads per core.
    pub topology: (u32, u32, u32),
    /// Model of the processors.
    pub cpu: CpuModel,
    /// The node's processors that it runs on.
    pub placement: Placement,
    /// Machine type, `q35`.
    pub machine: String,
    /// Disks and drives, in the order of the spec.
    pub disks: Vec<Disk>,
    /// Bytes below /data that its files may grow to.
    pub space: u64,
    /// Network interfaces, in the order of the spec.
    pub interfaces: Vec<Nic>,
    /// PCI devices of the node that it has to itself.
    pub host_devices: Vec<HostDevice>,
    /// A source of entropy.
    pub rng: bool,
    /// A VGA adapter, shown over VNC on a unix socket that libvirt makes.
    pub graphics: bool,
    /// A serial port, reachable on a unix socket.
    pub serial: bool,
    /// Everything else.
    pub hardware: Hardware,
}

impl Guest {
    /// Volumes of pools that it writes.
    pub fn devices(&self) -> impl Iterator<Item = &Path> {
        self.disks.iter().filter_map(|disk| match &disk.source {
            Source::Device(device) => Some(device.as_path()),
            _ => None,
        })
    }

    /// Volumes of pools that it only reads, below overlays.
    pub fn bases(&self) -> impl Iterator<Item = &Path> {
        self.disks.iter().filter_map(|disk| match &disk.source {
            Source::DeviceOverlay { device, .. } => Some(device.as_path()),
            _ => None,
        })
    }
}

/// Whose virtual machine it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// UID of the Pod that stands for it: what domains and files are found by.
    pub pod_uid: String,
    /// Name of that Pod.
    pub pod: String,
    /// Namespace of Pod and VMI.
    pub namespace: String,
    /// Name of the VMI.
    pub vmi: String,
    /// UID of the VMI: names its folder.
    pub vmi_uid: String,
}

impl Identity {
    /// Name of the domain.
    pub fn domain(&self) -> String {
        format!("{}_{}", self.namespace, self.vmi)
    }
}

/// Model of virtual processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuModel {
    /// The nearest model that libvirt knows.
    HostModel,
    /// The processor as it is.
    HostPassthrough,
    /// A model by its name.
    Named(String),
}

/// One disk or drive.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Name in the spec; names its file.
    pub name: String,
    /// A read-only CD-ROM drive.
    pub cdrom: bool,
    /// What it hangs on.
    pub bus: DiskBus,
    /// What is on it.
    pub source: Source,
    /// Place in the boot order.
    pub boot_order: Option<u32>,
    /// Serial number.
    pub serial: Option<String>,
    /// Caching of the node.
    pub cache: Option<Cache>,
    /// What a VM may ask for beside.
    pub options: DiskOptions,
}

/// What is on a disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Writes go to an overlay; the base is never written.
    Overlay {
        /// The base.
        base: PathBuf,
        /// Its format.
        format: Format,
        /// Size that the guest sees: the base's, or more.
        bytes: u64,
        /// Others may remove the base: the folder keeps a link of its own to it.
        linked: bool,
    },
    /// A file that is written in place and outlives the VM.
    InPlace {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// Made with this size when it is not there.
        create: Option<u64>,
    },
    /// A volume of a pool: a block device of the node that outlives the VM.
    Device(PathBuf),
    /// Writes go to an overlay; the volume of a pool below it is never written.
    DeviceOverlay {
        /// The volume.
        device: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A CD-ROM drive without a medium.
    NoMedium {
        /// An attachment Pod brings one before the VM starts.
        awaited: bool,
    },
    /// An empty disk of so many bytes, lost with the VM.
    Empty(u64),
    /// A cloud-init seed.
    Seed(Seed),
    /// Read-only files.
    Files(Files),
}

impl Source {
    /// Whether the agent makes it as an image that is never written.
    pub fn is_image(&self) -> bool {
        matches!(self, Self::Seed(_) | Self::Files(_))
    }
}

/// Format of a disk file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Format {
    Raw,
    Qcow2,
}

impl Format {
    /// As libvirt and qemu-img call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// The port it is connected to.
    pub port: Port,
    /// The NIC that the guest sees.
    pub model: InterfaceModel,
    /// Its link is down.
    pub down: bool,
}

/// Folder of one virtual machine, and what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// The folder of VMI `vmi_uid` under `vms`.
    pub fn of(vms: &Path, vmi_uid: &str) -> Self {
        Self(vms.join(vmi_uid))
    }

    /// Log of the serial port.
    pub fn console_log(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// Socket of the serial port.
    pub fn console_socket(&self) -> PathBuf {
        self.0.join("console.sock")
    }

    /// The kernel that boots the guest. No disk has such a name: theirs have an extension.
    pub fn kernel(&self) -> PathBuf {
        self.0.join("kernel")
    }

    /// Its initrd.
    pub fn initrd(&self) -> PathBuf {
        self.0.join("initrd")
    }

    /// File or device behind a disk and its format.
    pub fn disk(&self, disk: &Disk) -> (PathBuf, Format) {
        match &disk.source {
            Source::Overlay { .. } | Source::DeviceOverlay { .. } => {
                (self.0.join(format!("{}.qcow2", disk.name)), Format::Qcow2)
            }
            Source::InPlace { path, format, .. } => (path.clone(), *format),
            Source::Device(path) => (path.clone(), Format::Raw),
            // There is no file: the domain's XML has no source.
            Source::NoMedium { .. } => (PathBuf::new(), Format::Raw),
            Source::Empty(_) => (self.0.join(format!("{}.raw", disk.name)), Format::Raw),
            Source::Seed(_) | Source::Files(_) => (self.0.join(format!("{}.iso", disk.name)), Format::Raw),
        }
    }

    /// What an overlay lies over, where the VM finds it.
    pub fn base(&self, disk: &Disk) -> Option<PathBuf> {
        match &disk.source {
            Source::Overlay { linked: true, .. } => Some(self.0.join(format!("{}.base", disk.name))),
            Source::Overlay { base, .. } => Some(base.clone()),
            Source::DeviceOverlay { device, .. } => Some(device.clone()),
            _ => None,
        }
    }

    /// Folder of state of `guest`'s firmware and TPM that lives so long.
    pub fn state(&self, guest: &Guest, lifetime: Lifetime) -> PathBuf {
        match lifetime {
            Lifetime::Instance => state_folder(&self.0, &guest.uuid),
            Lifetime::Machine => guest.hardware.state.clone(),
        }
    }

    /// Who owns the folder, and since when its VM runs: see [`super::record`].
    pub fn record(&self) -> PathBuf {
        self.0.join("vm.json")
    }
}
