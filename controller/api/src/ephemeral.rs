//! How much of a node's /data a VM may come to fill: what its Pod asks for as `ephemeral-storage`.
//!
//! Why here: the controller asks the scheduler for it, and the agent of the node counts and bounds the same. Volumes of
//! pools do not count, they have their own accounting. Route in: the resolved spec. Route out: bytes.

use crate::{
    quantity::Amount,
    vmi::VirtualMachineInstanceSpec,
    volumes::{HostDisk, HostDiskType, Volume},
};

/// What an overlay over a base image counts with if the volume names no capacity: the node alone knows how large the image
/// is, and few guests rewrite more than this of theirs.
pub const OVERLAY_BYTES: u64 = 1 << 30;
/// Files that every VM has: its record, cloud-init seed and serial log (`/data/vms/<uid>`; two logs of 2 MiB and QEMU's own).
pub const FIXED_BYTES: u64 = 16 << 20;

/// Bytes below /data that a VM of this spec may come to fill.
pub fn bytes(spec: &VirtualMachineInstanceSpec) -> u64 {
    spec.volumes.iter().map(of_volume).fold(FIXED_BYTES, u64::saturating_add)
}

fn of_volume(volume: &Volume) -> u64 {
    let bytes = |capacity: &Amount| capacity.units().unwrap_or(u64::MAX);
    let empty = volume.empty_disk.as_ref().map_or(0, |disk| bytes(&disk.capacity));
    empty.saturating_add(match &volume.host_disk {
        // The file is there already and counts as used.
        Some(HostDisk { type_: HostDiskType::Disk, path, .. })
            if !path.starts_with(crate::names::IMAGES_DIR) =>
        {
            0
        }
        Some(HostDisk { capacity: Some(capacity), .. }) => bytes(capacity),
        Some(_) => OVERLAY_BYTES,
        None => 0,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_file_that_a_vm_may_fill_counts_and_volumes_of_pools_do_not() {
        let of = |volumes| {
            let spec = json!({"domain": {"devices": {}}, "volumes": volumes});
            bytes(&serde_json::from_value(spec).unwrap()) - FIXED_BYTES
        };
        let host = |path: &str, kind: &str, capacity| json!([{"name": "a", "hostDisk": {"path": path, "type": kind, "capacity": capacity}}]);
        assert_eq!(of(json!([])), 0);
        assert_eq!(of(json!([{"name": "a", "emptyDisk": {"capacity": "2Gi"}}])), 2 << 30);
        assert_eq!(of(json!([{"name": "a", "persistentVolumeClaim": {"claimName": "c"}}])), 0);
        assert_eq!(of(host("/data/images/debian", "Disk", json!(null))), OVERLAY_BYTES);
        assert_eq!(of(host("/data/images/debian", "Disk", json!("8Gi"))), 8 << 30);
        assert_eq!(of(host("/data/disks/shop/a", "DiskOrCreate", json!("3Gi"))), 3 << 30);
        assert_eq!(of(host("/data/disks/shop/a", "Disk", json!(null))), 0);
    }
}
