//! The disk of an attachment Pod, or the medium of a CD-ROM drive, as far as this node allows it.
//!
//! Why here: as of a VM's Pod, nothing in the annotation is trusted: a claim counts only if the Pod refers to it. Pure. Route in:
//! an attachment Pod, facts. Route out: a [`Disk`], or why there is none.

use super::{Check, bus, disk_options, invalid, is_label, volumes};
use crate::vms::facts::Facts;
use crate::vms::guest::{Disk, DiskOptions, Source};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::attachment::Attachment;
use sheaf_api::devices::DiskBus;
use sheaf_api::volumes::VolumeSource;

/// The disk that `attachment`, of `pod`, adds, or the drive with the medium that it inserts.
pub fn disk(pod: &Pod, attachment: &Attachment, facts: &Facts) -> Check<Disk> {
    let (volume, disk) = (&attachment.volume, &attachment.disk);
    let Some(VolumeSource::Claim(claim)) = volume.source() else {
        return Err(invalid(format!("volume {}: only a claim is added to a VM that runs", volume.name)));
    };
    let empty = empty(attachment)?;
    let source = Source::Device(volumes::claimed(&volume.name, claim, pod, facts)?.device.clone());
    Ok(Disk { options: disk_options::options(disk, &source, facts)?, source, ..empty })
}

/// The same without what is on it: a drive as it is without its medium, whatever became of the claim.
pub fn empty(attachment: &Attachment) -> Check<Disk> {
    let (volume, disk) = (&attachment.volume, &attachment.disk);
    // The name becomes part of an alias, which has no other underscore.
    if !is_label(&volume.name) || disk.name != volume.name {
        return Err(invalid(format!("disk {}: the name is not a DNS label, or not its volume's", disk.name)));
    }
    let bus = bus(disk)?;
    if !disk.is_drive() && !matches!(bus, DiskBus::Scsi | DiskBus::Virtio) {
        return Err(invalid(format!("disk {}: only a disk on scsi or virtio is added", disk.name)));
    }
    Ok(Disk {
        name: disk.name.clone(),
        cdrom: disk.is_drive(),
        bus,
        options: DiskOptions { io: disk.io, error_policy: disk.error_policy, ..DiskOptions::default() },
        source: Source::NoMedium { awaited: false },
        boot_order: disk.boot_order,
        serial: disk.serial.clone(),
        cache: disk.cache,
    })
}
