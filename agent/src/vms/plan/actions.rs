//! The steps that a plan is made of.
//!
//! Why here: the list that [`super::plan()`] chooses from, and that [`crate::vms::apply`] carries out without a decision of its own.
//! Route in: what `plan` decided. Route out: calls of libvirt and the API server.

use crate::vms::credentials::Wanted;
use crate::vms::guest::{Disk, Guest, Identity, Nic};
use crate::vms::record::Record;
use crate::vms::report::Report;
use sheaf_host::cpus::CpuSet;
use std::path::PathBuf;
use std::sync::Arc;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make its files and start it.
    Start(Box<Guest>),
    /// Write the record of a domain that has none, or that has other ports.
    Adopt(Record),
    /// Patch the Pod's status.
    Report(Report),
    /// Press the power button of domain `uuid`.
    PressPowerButton(String),
    /// Let the processors of domain `uuid` run again: its disks may have space by now.
    Resume(String),
    /// Notify the guest that a disk has grown.
    ResizeDisk {
        /// The domain.
        uuid: String,
        /// The disk, `vda`.
        disk: String,
        /// Its size now.
        bytes: u64,
    },
    /// Add a disk to domain `uuid`.
    Attach {
        /// The domain.
        uuid: String,
        /// UID of the attachment Pod.
        attachment: String,
        /// The disk.
        disk: Box<Disk>,
        /// The name that it is to have, `sda`.
        target: String,
    },
    /// Ask the guest to release a disk that was added.
    Detach {
        /// The domain.
        uuid: String,
        /// The volume.
        volume: String,
        /// The name of the disk, `sda`.
        target: String,
        /// Its device.
        device: PathBuf,
    },
    /// Add a NIC to domain `uuid`, behind its packet filter.
    AttachNic {
        /// The domain.
        uuid: String,
        /// UID of the attachment Pod.
        attachment: String,
        /// The NIC.
        nic: Box<Nic>,
        /// Queues that it is to have, if more than one.
        queues: Option<u32>,
        /// The record of the VM with its port, by which a later agent knows it.
        record: Box<Record>,
    },
    /// Ask the guest to release a NIC.
    DetachNic {
        /// The domain.
        uuid: String,
        /// The interface.
        interface: String,
        /// Its tap.
        tap: String,
    },
    /// Set the link of a NIC up or down.
    SetLink {
        /// The domain.
        uuid: String,
        /// Its tap.
        tap: String,
        /// Down, or up.
        down: bool,
    },
    /// Put a medium into a CD-ROM drive of domain `uuid`.
    Insert {
        /// The domain.
        uuid: String,
        /// UID of the attachment Pod.
        attachment: String,
        /// The drive with its medium.
        drive: Box<Disk>,
        /// The name of the drive, `sda`.
        target: String,
    },
    /// Take the medium out of a CD-ROM drive.
    Eject {
        /// The domain.
        uuid: String,
        /// UID of the attachment Pod.
        attachment: String,
        /// The drive without its medium.
        drive: Box<Disk>,
        /// The name of the drive, `sda`.
        target: String,
        /// Although the guest has locked the tray.
        force: bool,
    },
    /// Change what the guest of domain `uuid` has of memory and processors.
    SetSize {
        /// The domain.
        uuid: String,
        /// Bytes of its memory device that are offered, if they change.
        memory: Option<u64>,
        /// Its virtual CPUs, if they change.
        cpus: Option<u32>,
        /// What QEMU may take of the node's memory by then, in bytes.
        limit: u64,
    },
    /// Let all threads of domain `uuid` run on these processors and on no others.
    Pin {
        /// The domain.
        uuid: String,
        /// The processors.
        cpus: CpuSet,
    },
    /// Have the agent in domain `uuid` set credentials.
    SetCredentials {
        /// The domain.
        uuid: String,
        /// What its users are to have.
        wanted: Arc<Wanted>,
    },
    /// End QEMU of domain `uuid`.
    Destroy(String),
    /// Ask the API server whether the Pod is gone.
    ConfirmGone(Identity),
    /// Delete the Pod object: everything of it is gone.
    DeletePod,
    /// Remove the folder of a VM whose Pod is gone, and QEMU's log.
    RemoveFolder(Record),
    /// Change the packet filter.
    Filter(Vec<serde_json::Value>),
}
