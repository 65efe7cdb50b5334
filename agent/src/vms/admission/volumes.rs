//! What lies behind a disk, as far as this node allows it.
//!
//! Why here: paths and claims are where an annotation could reach beyond its VM; [`contents`] has Secrets. Pure.
//! Route in: a volume of the annotation, its Pod, files that were observed. Route out: a [`Source`].

use super::{Check, Verdict, contents, invalid, reject, wait};
use crate::channels::{ContainerDisk, Usable};
use crate::vms::facts::{ClaimFact, Facts, FileFact};
use crate::vms::guest::{DataSource, Format, Source};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::Amount;
use sheaf_api::ephemeral;
use sheaf_api::host_disk::{HostDiskPlace, place};
use sheaf_api::names::VOLUME_DRIVER;
use sheaf_api::placeholder::PlacedVmi;
use sheaf_api::volumes::{HostDisk, HostDiskType, SOURCES, Volume, VolumeSource};

/// The source of `volume`.
pub(super) fn source(volume: &Volume, placed: &PlacedVmi, pod: &Pod, facts: &Facts) -> Check<Source> {
    let seed = |source, cloud_init| contents::seed(&volume.name, source, cloud_init, placed, pod);
    match volume.source() {
        Some(VolumeSource::Claim(name)) => {
            Ok(Source::Device(claimed(&volume.name, name, pod, facts)?.device.clone()))
        }
        Some(VolumeSource::HostDisk(disk)) => host_disk(&volume.name, disk, &placed.namespace, facts),
        Some(VolumeSource::EmptyDisk(empty)) => Ok(Source::Empty(bytes(&volume.name, &empty.capacity)?)),
        Some(VolumeSource::ContainerDisk(_)) => container_disk(&volume.name, pod, facts),
        Some(VolumeSource::CloudInitNoCloud(cloud_init)) => seed(DataSource::NoCloud, cloud_init),
        Some(VolumeSource::CloudInitConfigDrive(cloud_init)) => seed(DataSource::ConfigDrive, cloud_init),
        Some(VolumeSource::Secret(secret)) => contents::secret(&volume.name, secret, pod),
        Some(VolumeSource::ConfigMap(config_map)) => contents::config_map(&volume.name, config_map, pod),
        Some(VolumeSource::DownwardApi(fields)) => contents::downward(&volume.name, fields, placed, pod),
        Some(VolumeSource::Sysprep(sysprep)) => contents::sysprep(&volume.name, sysprep, pod),
        Some(VolumeSource::Ephemeral(claim)) => {
            let usable = claimed(&volume.name, claim, pod, facts)?;
            let bytes = ephemeral::overlay(None, usable.bytes);
            Ok(Source::DeviceOverlay { device: usable.device.clone(), bytes })
        }
        None => Err(invalid(format!("volume {}: it has not exactly one of {SOURCES}", volume.name))),
    }
}

/// Whether `pod` itself refers to the claim `name`: only then is it bound for this Pod, and protected while it runs.
pub fn names_claim(pod: &Pod, name: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.any(|claim| claim.claim_name == name)
}

/// The volume of a pool that a claim is bound to.
pub(super) fn claimed<'a>(volume: &str, name: &str, pod: &Pod, facts: &'a Facts) -> Check<&'a Usable> {
    if !names_claim(pod, name) {
        return Err(invalid(format!(
            "volume {volume}: the Pod does not refer to PersistentVolumeClaim {name}"
        )));
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let handle = match facts.claims.get(&(namespace, name.to_owned())) {
        Some(ClaimFact::Volume(handle)) => handle,
        Some(ClaimFact::Foreign(driver)) => {
            return Err(reject(
                "VolumeNotSupported",
                format!(
                    "volume {volume}: claim {name} is bound to a volume of {driver}; a VM takes those of {VOLUME_DRIVER}"
                ),
            ));
        }
        Some(ClaimFact::NotBound) => {
            return Err(wait("VolumeNotReady", format!("volume {volume}: claim {name} is not bound yet")));
        }
        Some(ClaimFact::Unreadable(why)) => {
            return Err(wait("VolumeNotReady", format!("volume {volume}: claim {name}: {why}")));
        }
        None => return Err(Verdict::Unknown),
    };
    let not_ready = |why: &str| wait("VolumeNotReady", format!("volume {volume}: claim {name}: {why}"));
    let Some(volumes) = &facts.volumes else {
        return Err(not_ready("this node does not know its volumes yet"));
    };
    match volumes.get(handle) {
        Some(usable) if usable.ready => Ok(usable),
        Some(usable) => Err(not_ready(usable.problem.as_deref().unwrap_or("it is not ready"))),
        None => Err(not_ready(&format!("LocalVolume {handle} is not of this node"))),
    }
}

/// Size of the disk of that capacity, as it is counted.
fn bytes(volume: &str, capacity: &Amount) -> Check<u64> {
    capacity.units().map_err(|error| invalid(format!("volume {volume}: capacity: {error}")))?;
    Ok(ephemeral::disk(capacity))
}

fn host_disk(volume: &str, disk: &HostDisk, namespace: &str, facts: &Facts) -> Check<Source> {
    let place = place(&disk.path, namespace).map_err(|error| invalid(format!("volume {volume}: {error}")))?;
    let capacity = disk.capacity.as_ref().map(|capacity| bytes(volume, capacity)).transpose()?;
    let file = facts.files.get(&disk.path).cloned().unwrap_or(FileFact::Missing);
    if let FileFact::Elsewhere(real) = &file {
        return Err(invalid(format!(
            "volume {volume}: {} leads to {}, out of its folder",
            disk.path,
            real.display()
        )));
    }
    match (place, file) {
        (HostDiskPlace::Image { name }, file) => match (file, facts.images.get(&name)) {
            (FileFact::File { path, format, .. }, Some(image)) => {
                let bytes = ephemeral::overlay(disk.capacity.as_ref(), *image);
                Ok(Source::Overlay { base: path, format, bytes, linked: false })
            }
            (_, known) if known.is_some() || facts.expected_images.contains(&name) => Err(wait(
                "ImageNotReady",
                format!("volume {volume}: image {name} is not complete on this node yet"),
            )),
            _ => Err(reject(
                "ImageNotPresent",
                format!("volume {volume}: image {name} is not on this node; add [[image]] to its node.toml"),
            )),
        },
        (HostDiskPlace::Disk { .. }, FileFact::File { path, format, .. }) => {
            Ok(Source::InPlace { path, format, create: None })
        }
        (HostDiskPlace::Disk { relative }, FileFact::Missing) => match (disk.type_, capacity) {
            (HostDiskType::DiskOrCreate, Some(capacity)) => {
                let format = if relative.ends_with(".qcow2") { Format::Qcow2 } else { Format::Raw };
                Ok(Source::InPlace { path: facts.disks.join(relative), format, create: Some(capacity) })
            }
            (HostDiskType::DiskOrCreate, None) => Err(invalid(format!(
                "volume {volume}: {} is not there; creating it needs a capacity",
                disk.path
            ))),
            (HostDiskType::Disk, _) => {
                Err(reject("DiskNotPresent", format!("volume {volume}: {} is not on this node", disk.path)))
            }
        },
        (HostDiskPlace::Disk { .. }, _) => {
            Err(invalid(format!("volume {volume}: {} is not a file", disk.path)))
        }
    }
}

/// The disk that this node pulled for this Pod: another one's policy or login may be another.
fn container_disk(volume: &str, pod: &Pod, facts: &Facts) -> Check<Source> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    match facts.container_disks.get(&(uid, volume.to_owned())) {
        Some(ContainerDisk::Ready { path, format, bytes }) => Ok(Source::Overlay {
            base: path.clone(),
            format: *format,
            bytes: ephemeral::overlay(None, *bytes),
            linked: true,
        }),
        Some(ContainerDisk::NotReady { reason, message }) => Err(wait(reason, message.clone())),
        None => Err(Verdict::Unknown),
    }
}
