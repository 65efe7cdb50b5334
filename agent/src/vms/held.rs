//! How much of /data is taken by what no VM's Pod counts: base images, snapshots of etcd, disks that outlive their VMs, state of
//! firmware and TPMs that does.
//!
//! Why here: what a VM's own files may grow to is its Pod's `ephemeral-storage`. A disk below /data/disks stays when its VM is
//! gone, sparse and able to grow when another VM uses it; were it not counted, a tenant could make one after the other and
//! fill /data. So a node offers that much less (`allocatable`). Nothing removes such a disk or state but an administrator: decisions 24 and 27.
//! Route in: the folders below /data, Pods of this node. Route out: bytes.

use super::admission;
use super::report;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::host_disk::{HostDiskPlace, place};
use sheaf_api::names::VMI_ANNOTATION;
use sheaf_api::placeholder::PlacedVmi;
use sheaf_api::volumes::HostDiskType;
use sheaf_host::qcow2;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Reported in steps of this many bytes, so that a download does not change the Node object in every round.
const STEP: u64 = 256 << 20;
/// Folders below a folder of disks that are looked into: a path has 255 bytes, so 127 at most.
const DEEPEST: usize = 128;

/// Bytes that `data` has to keep for what lies outside the folders of VMs.
pub fn bytes<'a>(data: &Path, pods: impl Iterator<Item = &'a Pod>) -> u64 {
    let disks = data.join("disks");
    let counted: BTreeSet<PathBuf> = pods.flat_map(made_by).map(|relative| disks.join(relative)).collect();
    let of_disk = |path: &Path, length: u64| match counted.contains(path) {
        true => 0,
        false => length.max(if is_qcow2(path) { qcow2::virtual_size(path).unwrap_or(0) } else { 0 }),
    };
    let of_file = |path: &str| sum(&data.join(path), DEEPEST, &|_, length| length);
    // Container disks that no VM uses are removed when space is short; a VM that uses one has a link to it.
    let pulled = sum(&data.join("container-disks"), 0, &|path, length| {
        let links = fs::metadata(path).map_or(0, |meta| meta.nlink());
        if links > 1 { length } else { 0 }
    });
    let own = [of_file("images"), of_file("state"), of_file("etcd-snapshots")];
    let sum = own.into_iter().chain([pulled, sum(&disks, DEEPEST, &of_disk)]);
    let sum = sum.fold(0, u64::saturating_add);
    sum.checked_next_multiple_of(STEP).unwrap_or(u64::MAX)
}

/// Disks whose capacity is part of what `pod` asks for, below /data/disks.
fn made_by(pod: &Pod) -> Vec<String> {
    if !admission::is_vm(pod) || report::is_terminal(pod) {
        return Vec::new();
    }
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(VMI_ANNOTATION));
    let Some(placed) = annotation.and_then(|text| PlacedVmi::from_annotation(text).ok()) else {
        return Vec::new();
    };
    let disks = placed.spec.volumes.iter().filter_map(|volume| volume.host_disk.as_ref());
    let made = disks.filter(|disk| disk.type_ == HostDiskType::DiskOrCreate && disk.capacity.is_some());
    made.filter_map(|disk| match place(&disk.path, &placed.namespace) {
        Ok(HostDiskPlace::Disk { relative }) => Some(relative),
        _ => None,
    })
    .collect()
}

fn is_qcow2(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "qcow2")
}

/// The sum of what `of` says of each file below `folder`. What cannot be read counts as nothing: DiskPressure still sees it.
fn sum(folder: &Path, depth: usize, of: &dyn Fn(&Path, u64) -> u64) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() && depth > 0 => sum(&entry.path(), depth - 1, of),
        Ok(meta) if meta.is_file() => of(&entry.path(), meta.len()),
        _ => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::testing::pod_of;
    use serde_json::json;

    const GIB: u64 = 1 << 30;

    struct Data(PathBuf);

    impl Data {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("sheaf-held-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            Self(root)
        }

        fn sparse(&self, path: &str, bytes: u64) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap().set_len(bytes).unwrap();
        }

        fn bytes(&self, pods: &[&Pod]) -> u64 {
            bytes(&self.0, pods.iter().copied())
        }
    }

    impl Drop for Data {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn making(path: &str, kind: &str) -> Pod {
        let disk = json!({"path": path, "type": kind, "capacity": "3Gi"});
        pod_of(
            "p1",
            json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "volumes": [{"name": "a", "hostDisk": disk}]}),
        )
    }

    #[test]
    fn disks_that_a_tenant_made_and_whose_vms_are_gone_are_taken_off_what_the_node_offers() {
        let data = Data::new("gone");
        assert_eq!(data.bytes(&[]), 0);
        for index in 0..10 {
            data.sparse(&format!("disks/default/team/{index}.raw"), 3 * GIB);
        }
        data.sparse("vms/uid/a.raw", 5 * GIB);
        assert_eq!(data.bytes(&[]), 30 * GIB, "sparse ones, in full; files of VMs are counted by their Pods");
    }

    #[test]
    fn state_of_firmware_and_tpms_is_counted() {
        let data = Data::new("state");
        data.sparse("state/default/libvirt-u/nvram.fd", 528 << 10);
        data.sparse("state/default/libvirt-u/tpm/tpm2-00.permall", 8 << 10);
        assert_eq!(data.bytes(&[]), STEP);
    }

    #[test]
    fn container_disks_are_counted_while_a_vm_uses_them() {
        let data = Data::new("pulled");
        data.sparse("container-disks/a.img", 3 * GIB);
        data.sparse("container-disks/parts/b", 3 * GIB);
        assert_eq!(data.bytes(&[]), 0);
        fs::create_dir_all(data.0.join("vms/uid")).unwrap();
        fs::hard_link(data.0.join("container-disks/a.img"), data.0.join("vms/uid/disk.base")).unwrap();
        assert_eq!(data.bytes(&[]), 3 * GIB);
    }

    #[test]
    fn a_disk_is_counted_once_while_the_pod_asks_for_it_and_again_when_that_has_ended() {
        let data = Data::new("once");
        data.sparse("disks/default/a.raw", 3 * GIB);
        let mut pod = making("/data/disks/default/a.raw", "DiskOrCreate");
        assert_eq!(data.bytes(&[&pod]), 0);
        assert_eq!(
            data.bytes(&[&making("/data/disks/default/a.raw", "Disk")]),
            3 * GIB,
            "it asks for nothing"
        );
        assert_eq!(data.bytes(&[&making("/data/disks/default/b.raw", "DiskOrCreate")]), 3 * GIB);
        pod.status.as_mut().unwrap().phase = Some("Succeeded".into());
        assert_eq!(data.bytes(&[&pod]), 3 * GIB);
    }

    #[test]
    fn a_qcow2_disk_counts_with_the_size_that_its_guest_sees_and_images_with_their_files() {
        let data = Data::new("qcow2");
        let mut header = vec![0; 512];
        header[..4].copy_from_slice(b"QFI\xfb");
        header[24..32].copy_from_slice(&(7 * GIB).to_be_bytes());
        for file in ["disks/default/a.qcow2", "images/base.qcow2", "disks/default/b.raw"] {
            data.sparse(file, 0);
            fs::write(data.0.join(file), &header).unwrap();
        }
        // What a guest wrote into its raw disk is not believed.
        assert_eq!(data.bytes(&[]), 7 * GIB + STEP);
    }
}
