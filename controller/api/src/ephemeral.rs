//! How much of a node's /data a VM may come to fill: what its Pod asks for as `ephemeral-storage`.
//!
//! Why here: one function decides for all: the controller asks the scheduler for it, the agent of the node counts it, and makes
//! each file of the size that is counted. Volumes of pools do not count, they have their own accounting; a disk that
//! exists below /data/disks is taken off what its node offers (`agent/src/vms/held.rs`). Route in: the resolved spec, how
//! large base images are. Route out: bytes.

use crate::{
    host_disk::image_name,
    quantity::Amount,
    vmi::VirtualMachineInstanceSpec,
    volumes::{HostDisk, HostDiskType, Volume, VolumeSource},
};

/// What an overlay counts with while no node reports how large its base image is. No node runs such a VM then; the one that
/// does later counts the true size.
pub const UNKNOWN_IMAGE_BYTES: u64 = 1 << 30;
/// Files that every VM has: its record, cloud-init seed, UEFI variables, TPM and serial log (`/data/vms/<uid>`; two logs of 2 MiB and QEMU's own).
pub const FIXED_BYTES: u64 = 16 << 20;
/// Disks are made in whole MiB.
const MIB: u64 = 1 << 20;
/// `qemu-img` makes overlays in whole sectors.
const SECTOR: u64 = 512;

/// What an overlay lies over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base<'a> {
    /// A base image of the node, by its name.
    Image(&'a str),
    /// A container disk: the volume's name and the image as the VM names it.
    ContainerDisk(&'a str, &'a str),
}

/// Bytes below /data that a VM of this spec may come to fill; `image` knows how many bytes a guest sees of a base image.
pub fn bytes(spec: &VirtualMachineInstanceSpec, image: impl Fn(Base<'_>) -> Option<u64>) -> u64 {
    let of = |base: Base<'_>| overlay(None, image(base).unwrap_or(UNKNOWN_IMAGE_BYTES));
    let of_volume = |volume: &Volume| match volume.source() {
        Some(VolumeSource::EmptyDisk(empty)) => disk(&empty.capacity),
        Some(VolumeSource::HostDisk(host)) => of_host_disk(host, &image),
        Some(VolumeSource::ContainerDisk(disk)) => of(Base::ContainerDisk(&volume.name, &disk.image)),
        _ => 0,
    };
    spec.volumes.iter().map(of_volume).fold(FIXED_BYTES, u64::saturating_add)
}

/// Size of a disk that is made with this capacity.
pub fn disk(capacity: &Amount) -> u64 {
    let bytes = capacity.units().unwrap_or(u64::MAX).max(1);
    bytes.checked_next_multiple_of(MIB).unwrap_or(u64::MAX)
}

/// Size of an overlay over a base image that shows its guest `image` bytes: all of it may be written again.
pub fn overlay(capacity: Option<&Amount>, image: u64) -> u64 {
    let bytes = capacity.map_or(0, disk).max(image);
    bytes.checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX)
}

fn of_host_disk(host: &HostDisk, image: impl Fn(Base<'_>) -> Option<u64>) -> u64 {
    let capacity = host.capacity.as_ref();
    match (image_name(&host.path), host.type_) {
        (Some(name), _) => overlay(capacity, image(Base::Image(name)).unwrap_or(UNKNOWN_IMAGE_BYTES)),
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
            let image = |base: Base<'_>| match base {
                Base::Image("debian") | Base::ContainerDisk(_, "quay.io/a:1") => Some(5 * GIB + 1),
                _ => None,
            };
            bytes(&serde_json::from_value(spec).unwrap(), image) - FIXED_BYTES
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
        let container = |image: &str| of(json!([{"name": "a", "containerDisk": {"image": image}}]));
        assert_eq!(
            (container("quay.io/a:1"), container("quay.io/a:2")),
            (5 * GIB + SECTOR, UNKNOWN_IMAGE_BYTES)
        );
        assert_eq!(of(host("/data/images/unknown", "Disk", json!(null))), UNKNOWN_IMAGE_BYTES);
    }

    #[test]
    fn no_capacity_overflows() {
        let most = |capacity: &str| serde_json::from_value(json!(capacity)).unwrap();
        let large: Amount = most("18446744073709551615");
        assert_eq!((disk(&large), overlay(Some(&large), 1)), (u64::MAX, u64::MAX));
        assert_eq!(overlay(None, u64::MAX), u64::MAX);
    }
}
