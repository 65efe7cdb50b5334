//! Block sizes of what is behind disks, for VMs whose disks are to have the same (`blockSize.matchVolume`).
//!
//! Why here: the kernel says them of devices in `/sys`, and of files by their file system. Reads only. Route in: Pods, volumes of
//! this node. Route out: sizes for [`super::facts::Facts`].

use super::admission;
use super::guest::Blocks;
use crate::channels::Volumes;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::names::VMI_ANNOTATION;
use sheaf_api::placeholder::PlacedVmi;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Sizes of all volumes, and of the file system of `data`, if a VM of `pods` wants to know any.
pub fn observe<'a>(
    mut pods: impl Iterator<Item = &'a Pod>,
    volumes: &Volumes,
    data: &Path,
) -> BTreeMap<PathBuf, Blocks> {
    if !pods.any(wants_sizes) {
        return BTreeMap::new();
    }
    let devices = volumes.iter().flat_map(|volumes| volumes.values()).map(|volume| &volume.device);
    let sizes = devices.filter_map(|device| Some((device.clone(), of_device(Path::new("/sys"), device)?)));
    sizes.chain(of_files(data).map(|blocks| (data.to_owned(), blocks))).collect()
}

fn wants_sizes(pod: &Pod) -> bool {
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(VMI_ANNOTATION));
    let placed =
        annotation.filter(|_| admission::is_vm(pod)).and_then(|text| PlacedVmi::from_annotation(text).ok());
    let Some(placed) = placed else { return false };
    let mut sizes = placed.spec.domain.devices.disks.iter().filter_map(|disk| disk.block_size.as_ref());
    sizes.any(|size| size.matches_volume())
}

/// What the kernel says of the block device `device`, in `sys`.
fn of_device(sys: &Path, device: &Path) -> Option<Blocks> {
    let real = device.canonicalize().ok()?;
    let queue = sys.join("class/block").join(real.file_name()?).join("queue");
    let read = |name: &str| fs::read_to_string(queue.join(name)).ok()?.trim().parse::<u32>().ok();
    let (logical, physical) = (read("logical_block_size")?, read("physical_block_size")?);
    // QEMU takes whole blocks only.
    let discard = read("discard_granularity").filter(|bytes| bytes.is_multiple_of(logical.max(1)));
    Some(Blocks { logical, physical, discard: discard.or(Some(physical)) })
}

fn of_files(data: &Path) -> Option<Blocks> {
    let bytes = u32::try_from(fs::metadata(data).ok()?.blksize()).ok()?;
    Some(Blocks { logical: bytes, physical: bytes, discard: Some(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::testing::{pod, pod_of};
    use serde_json::json;

    #[test]
    fn sizes_are_read_only_for_a_vm_that_asks_and_are_the_kernels() {
        let root = std::env::temp_dir().join(format!("sheaf-blocks-{}", std::process::id()));
        let queue = root.join("sys/class/block/dm-7/queue");
        fs::create_dir_all(&queue).unwrap();
        for (name, size) in [
            ("logical_block_size", "512\n"),
            ("physical_block_size", "4096\n"),
            ("discard_granularity", "65536\n"),
        ] {
            fs::write(queue.join(name), size).unwrap();
        }
        fs::write(root.join("dm-7"), "").unwrap();
        std::os::unix::fs::symlink(root.join("dm-7"), root.join("pvc-1")).unwrap();
        let expected = Blocks { logical: 512, physical: 4096, discard: Some(65536) };
        assert_eq!(of_device(&root.join("sys"), &root.join("pvc-1")), Some(expected));
        assert_eq!(of_device(&root.join("sys"), &root.join("pvc-2")), None);

        let disk = json!({"name": "d", "blockSize": {"matchVolume": {}}});
        let asks =
            pod_of("p1", json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [disk]}}}));
        assert!(observe([&pod("p2")].into_iter(), &None, &root).is_empty());
        let sizes = observe([&asks].into_iter(), &None, &root);
        assert!(sizes[&root].logical >= 512);
        fs::remove_dir_all(root).unwrap();
    }
}
