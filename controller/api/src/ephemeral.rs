//! How much of a node's /data a VM may come to fill: what its Pod asks for as `ephemeral-storage`.
//!
//! Why here: one function decides for all: the controller asks the scheduler for it, the agent of the node counts it, and makes
//! each file of the size that is counted. Volumes of pools do not count, they have their own accounting; a disk that
//! exists below /data/disks is taken off what its node offers (`agent/src/vms/held.rs`). Route in: the resolved spec, how
//! large base images and claims below overlays are. Route out: bytes.

use crate::{
    firmware::BOOT_FILE_BYTES,
    host_disk::image_name,
    quantity::Amount,
    vmi::VirtualMachineInstanceSpec,
    volumes::{HostDisk, HostDiskType, Volume, VolumeSource},
};

/// What is below an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base<'a> {
    /// A base image, by its name.
    Image(&'a str),
    /// A claim of the VM's namespace, by its name.
    Claim(&'a str),
    /// A container disk: the volume's name and the image as the VM names it.
    ContainerDisk(&'a str, &'a str),
}

/// What an overlay counts with while it is not known how large its base is. No node runs such a VM then; the one that
/// does later counts the true size.
pub const UNKNOWN_BASE_BYTES: u64 = 1 << 30;
/// Files that every VM has: its record, cloud-init seed, UEFI variables, TPM and serial log (`/data/vms/<uid>`; two logs of 2 MiB and QEMU's own).
pub const FIXED_BYTES: u64 = 16 << 20;
/// The largest image of a read-only disk that a node makes: of a Secret, a ConfigMap, metadata, cloud-init. An object has at
/// most 1 MiB, and each of its keys takes a block of 2 KiB at least.
pub const IMAGE_BYTES: u64 = 4 << 20;
/// Disks are made in whole MiB.
const MIB: u64 = 1 << 20;
/// `qemu-img` makes overlays in whole sectors.
const SECTOR: u64 = 512;

/// Bytes below /data that a VM of this spec may come to fill; `base` knows how many bytes a guest sees of what is below an
/// overlay.
pub fn bytes(spec: &VirtualMachineInstanceSpec, base: impl Fn(Base<'_>) -> Option<u64>) -> u64 {
    let boot = spec.domain.kernel_container().map_or(0, |container| container.files().count() as u64);
    let fixed = FIXED_BYTES.saturating_add(boot.saturating_mul(BOOT_FILE_BYTES));
    spec.volumes.iter().map(|volume| of_volume(volume, &base)).fold(fixed, u64::saturating_add)
}

/// Size of a disk that is made with this capacity.
pub fn disk(capacity: &Amount) -> u64 {
    let bytes = capacity.units().unwrap_or(u64::MAX).max(1);
    bytes.checked_next_multiple_of(MIB).unwrap_or(u64::MAX)
}

/// Size of an overlay over something that shows its guest `base` bytes: all of it may be written again.
pub fn overlay(capacity: Option<&Amount>, base: u64) -> u64 {
    let bytes = capacity.map_or(0, disk).max(base);
    bytes.checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX)
}

fn of_volume(volume: &Volume, base: impl Fn(Base<'_>) -> Option<u64>) -> u64 {
    match volume.source() {
        Some(VolumeSource::EmptyDisk(empty)) => disk(&empty.capacity),
        Some(VolumeSource::HostDisk(host)) => of_host_disk(host, base),
        Some(VolumeSource::ContainerDisk(disk)) => {
            over(None, base(Base::ContainerDisk(&volume.name, &disk.image)))
        }
        Some(VolumeSource::Ephemeral(claim)) => over(None, base(Base::Claim(claim))),
        Some(
            VolumeSource::Secret(_)
            | VolumeSource::ConfigMap(_)
            | VolumeSource::DownwardApi(_)
            | VolumeSource::Sysprep(_),
        ) => IMAGE_BYTES,
        // One seed is among the files that every VM has.
        Some(VolumeSource::CloudInitNoCloud(_) | VolumeSource::CloudInitConfigDrive(_)) => 0,
        Some(VolumeSource::Claim(_)) | None => 0,
    }
}

/// An overlay over something of `base` bytes, if that is known.
fn over(capacity: Option<&Amount>, base: Option<u64>) -> u64 {
    overlay(capacity, base.unwrap_or(UNKNOWN_BASE_BYTES))
}

fn of_host_disk(host: &HostDisk, base: impl Fn(Base<'_>) -> Option<u64>) -> u64 {
    let capacity = host.capacity.as_ref();
    match (image_name(&host.path), host.type_) {
        (Some(name), _) => over(capacity, base(Base::Image(name))),
        (None, HostDiskType::DiskOrCreate) => capacity.map_or(0, disk),
        (None, HostDiskType::Disk) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn every_file_that_a_vm_may_fill_counts_and_volumes_of_pools_do_not() {
        let of = |volumes| {
            let spec = json!({"domain": {"devices": {}}, "volumes": volumes});
            let base = |base: Base<'_>| match base {
                Base::Image("debian") => Some(5 * GIB + 1),
                Base::ContainerDisk(_, "quay.io/a:1") => Some(5 * GIB + 1),
                Base::Claim("c") => Some(7 * GIB),
                _ => None,
            };
            bytes(&serde_json::from_value(spec).unwrap(), base) - FIXED_BYTES
        };
        let host = |path: &str, kind: &str, capacity| json!([{"name": "a", "hostDisk": {"path": path, "type": kind, "capacity": capacity}}]);
        assert_eq!(of(json!([])), 0);
        assert_eq!(of(json!([{"name": "a", "emptyDisk": {"capacity": "2Gi"}}])), 2 * GIB);
        assert_eq!(of(json!([{"name": "a", "emptyDisk": {"capacity": "1"}}])), MIB);
        assert_eq!(of(json!([{"name": "a", "persistentVolumeClaim": {"claimName": "c"}}])), 0);
        assert_eq!(of(host("/data/disks/shop/a", "DiskOrCreate", json!("3Gi"))), 3 * GIB);
        assert_eq!(of(host("/data/disks/shop/a", "Disk", json!(null))), 0);
        // An overlay: with or without capacity the whole disk that the guest sees.
        assert_eq!(of(host("/data/images/debian", "Disk", json!(null))), 5 * GIB + SECTOR);
        assert_eq!(of(host("/data/images/debian", "Disk", json!("1Gi"))), 5 * GIB + SECTOR);
        assert_eq!(of(host("/data/images/debian", "Disk", json!("8Gi"))), 8 * GIB);
        assert_eq!(
            of(json!([{"name": "a", "ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}}])),
            7 * GIB
        );
        let container = |image: &str| of(json!([{"name": "a", "containerDisk": {"image": image}}]));
        assert_eq!(container("quay.io/a:1"), 5 * GIB + SECTOR);
        assert_eq!(container("quay.io/a:2"), UNKNOWN_BASE_BYTES);
        // Files of read-only disks.
        assert_eq!(of(json!([{"name": "a", "secret": {"secretName": "s"}}])), IMAGE_BYTES);
        assert_eq!(of(json!([{"name": "a", "cloudInitNoCloud": {"userData": "u"}}])), 0);
        assert_eq!(of(host("/data/images/unknown", "Disk", json!(null))), UNKNOWN_BASE_BYTES);
    }

    #[test]
    fn a_kernel_and_an_initrd_count_with_the_most_that_they_can_have() {
        let of = |container| {
            let firmware = json!({"kernelBoot": {"container": container}});
            let spec = json!({"domain": {"devices": {}, "firmware": firmware}});
            bytes(&serde_json::from_value(spec).unwrap(), |_| None) - FIXED_BYTES
        };
        assert_eq!(of(json!({"image": "a", "kernelPath": "/k"})), BOOT_FILE_BYTES);
        assert_eq!(of(json!({"image": "a", "kernelPath": "/k", "initrdPath": "/i"})), 2 * BOOT_FILE_BYTES);
    }

    #[test]
    fn no_capacity_overflows() {
        let most = |capacity: &str| serde_json::from_value(json!(capacity)).unwrap();
        let large: Amount = most("18446744073709551615");
        assert_eq!((disk(&large), overlay(Some(&large), 1)), (u64::MAX, u64::MAX));
        assert_eq!(overlay(None, u64::MAX), u64::MAX);
    }
}
