//! What a machine is made of, as a value.
//!
//! Route in: a case or the demo. Route out: [`crate::arguments`] turns it into QEMU's command line.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// One machine.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name, for logs and artefacts.
    pub name: String,
    /// Memory in MiB.
    pub memory: u32,
    /// Processors.
    pub cpus: u32,
    /// What it boots with.
    pub firmware: Firmware,
    /// Its disks, in order.
    pub disks: Vec<Disk>,
    /// What is in its CD drive or USB port; booted before the disks.
    pub medium: Option<Medium>,
    /// MAC address of its first NIC.
    pub mac: String,
    /// Its further NICs, in order.
    pub nics: Vec<Nic>,
    /// Further devices, as QEMU's option -device takes them; those of the chipset first.
    pub devices: Vec<String>,
    /// Further user-mode networks, each plugged into a switch.
    pub networks: Vec<UserNetwork>,
    /// Ports of 127.0.0.1 that lead to ports of machines on its network.
    pub forwards: Vec<Forward>,
    /// The cable to another machine.
    pub lan: Lan,
    /// A root shell for the harness, given to the node through SMBIOS (see [`crate::shell`]).
    pub shell: bool,
    /// Someone types on its serial line: [`crate::Machine::line`].
    pub typed: bool,
    /// State of a running machine to continue from, written by [`crate::Machine::save`].
    pub restore: Option<PathBuf>,
}

impl Spec {
    /// A machine with UEFI and nothing to boot from yet. `vars` is its own, writable copy of the variables.
    pub fn new(name: &str, vars: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            memory: 4096,
            cpus: 2,
            firmware: Firmware::Uefi { vars: vars.into() },
            disks: Vec::new(),
            medium: None,
            mac: "52:54:00:5e:af:01".into(),
            nics: Vec::new(),
            devices: Vec::new(),
            networks: Vec::new(),
            forwards: Vec::new(),
            lan: Lan::Alone,
            shell: false,
            typed: false,
            restore: None,
        }
    }

    /// The files it writes to.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let vars = match &mut self.firmware {
            Firmware::Uefi { vars } => Some(vars),
            Firmware::Bios => None,
        };
        vars.into_iter().chain(self.disks.iter_mut().map(|disk| &mut disk.path))
    }
}

/// What starts the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF without Secure Boot.
    Uefi {
        /// qcow2 file with this machine's variables.
        vars: PathBuf,
    },
}

/// One disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// How the file is written.
    pub format: Format,
    /// How it is attached.
    pub bus: DiskBus,
    /// Serial number that the machine sees, at most 20 characters; empty for none, which NVMe does not have.
    pub serial: String,
    /// Options of QEMU's blkdebug filter, `inject-error.0.event=write_aio,inject-error.0.errno=5`; raw files only.
    pub faults: Option<String>,
    /// An empty file that gets every write, discard and flush of the machine, in the format of dm-log-writes
    /// (QEMU's blklogwrites); not together with faults.
    pub log_writes: Option<PathBuf>,
}

impl Disk {
    /// A virtio disk in a qcow2 file.
    pub fn qcow2(path: impl Into<PathBuf>, serial: &str) -> Self {
        let (format, bus) = (Format::Qcow2, DiskBus::Virtio);
        Self { path: path.into(), format, bus, serial: serial.into(), faults: None, log_writes: None }
    }

    /// A virtio disk in a raw file.
    pub fn raw(path: impl Into<PathBuf>, serial: &str) -> Self {
        Self { format: Format::Raw, ..Self::qcow2(path, serial) }
    }
}

/// How a disk's file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Format {
    Raw,
    Qcow2,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum DiskBus {
    Virtio,
    Nvme,
    Sata,
}

/// A boot medium.
#[derive(Clone, Debug)]
pub enum Medium {
    /// In the CD drive.
    Cd(PathBuf),
    /// As a USB stick.
    Usb(PathBuf),
    /// None: the NIC's own PXE, told by DHCP to start this.
    Pxe {
        /// A file for TFTP, or (QEMU's BIOS NICs have iPXE) a URL.
        bootfile: String,
        /// Folder served by TFTP.
        tftp: Option<PathBuf>,
    },
}

/// A further NIC. The kernel finds the first of them at [`Nic::place`] 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its MAC address.
    pub mac: String,
    /// The [`crate::switch::Switch`] that its cable leads to; without one its cable ends at a socket in the wall, where
    /// nobody is.
    pub switch: Option<PathBuf>,
}

impl Nic {
    /// A NIC whose cable leads nowhere.
    pub fn new(mac: &str) -> Self {
        Self { mac: mac.into(), switch: None }
    }

    /// Where udev says that the NIC `index` is (`ID_PATH`).
    pub fn place(index: usize) -> String {
        format!("pci-0000:00:{:02x}.0", Self::slot(index))
    }

    /// Its slot of the first bus: above those that QEMU gives out by itself.
    pub(crate) fn slot(index: usize) -> usize {
        0x18 + index
    }
}

/// A user-mode network beside that of [`Lan`]: gateway .2, DNS .3, DHCP from .15, no IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserNetwork {
    /// The first three bytes of its addresses.
    pub prefix: [u8; 3],
    /// The socket of the switch that it is plugged into.
    pub switch: PathBuf,
}

/// A port of 127.0.0.1 that leads to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Port here.
    pub host: u16,
    /// Address there.
    pub guest: Ipv4Addr,
    /// Port there.
    pub port: u16,
}

/// How a machine is cabled. User-mode network (10.0.2.0/24, gateway .2, DNS .3, DHCP from .15) hangs on it, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lan {
    /// Only the user-mode network.
    Alone,
    /// A cable to the [`crate::switch::Switch`] at this socket, and another one from the user-mode network to it.
    Gateway(PathBuf),
    /// A cable to the switch alone.
    Cable(PathBuf),
}
