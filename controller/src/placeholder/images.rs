//! How large base images are: what an overlay over one may grow to.
//!
//! Why here: the scheduler must count what the node will ([`sheaf_api::ephemeral`]), and nodes report their images in
//! `status.images` with the bytes that a guest sees. Pure. Route in: Nodes. Route out: bytes by the image's name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use sheaf_api::{
    ephemeral::Base, host_disk::image_name, vmi::VirtualMachineInstanceSpec, volumes::VolumeSource,
};

/// What the agent puts before an image's name in the status of its Node.
const PREFIX: &str = "sheaf.dev/";

/// Bytes that a guest sees, by the name that nodes report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes(pub BTreeMap<String, u64>);

impl Sizes {
    /// Of a base image, if a node has reported it.
    pub fn of(&self, base: Base<'_>) -> Option<u64> {
        match base {
            Base::Image(name) => self.0.get(&format!("{PREFIX}{name}")),
            Base::ContainerDisk(_, image) => self.0.get(image),
        }
        .copied()
    }
}

/// Whether a VM of this spec writes to overlays over base images.
pub fn are_used(spec: &VirtualMachineInstanceSpec) -> bool {
    spec.volumes.iter().any(|volume| match volume.source() {
        Some(VolumeSource::HostDisk(disk)) => image_name(&disk.path).is_some(),
        Some(VolumeSource::ContainerDisk(_)) => true,
        _ => false,
    })
}

/// What `nodes` report. Of several sizes the smallest counts: a node that exaggerates keeps no VM from the others, and each
/// node counts its own image again before it starts a VM.
pub fn sizes<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Sizes {
    let mut sizes = BTreeMap::<String, u64>::new();
    let statuses = nodes.into_iter().filter_map(|node| node.status.as_ref());
    for image in statuses.flat_map(|status| status.images.iter().flatten()) {
        let bytes = image.size_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        for name in image.names.iter().flatten() {
            let Some(bytes) = bytes else { continue };
            sizes.entry(name.clone()).and_modify(|known| *known = bytes.min(*known)).or_insert(bytes);
        }
    }
    Sizes(sizes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_smallest_size_that_a_node_reports_counts() {
        let node = |images: serde_json::Value| -> Node {
            serde_json::from_value(json!({"status": {"images": images}})).unwrap()
        };
        let nodes = [
            node(
                json!([{"names": ["sheaf.dev/debian"], "sizeBytes": 5}, {"names": ["quay.io/a:1"], "sizeBytes": 7}]),
            ),
            node(json!([{"names": ["sheaf.dev/debian"], "sizeBytes": i64::MAX}])),
            node(json!([{"names": ["sheaf.dev/negative"], "sizeBytes": -1}, {"names": ["sheaf.dev/none"]}])),
        ];
        let sizes = sizes(&nodes);
        assert_eq!(sizes.of(Base::Image("debian")), Some(5));
        assert_eq!(sizes.of(Base::ContainerDisk("disk", "quay.io/a:1")), Some(7));
        assert_eq!(
            (sizes.of(Base::Image("none")), sizes.of(Base::ContainerDisk("disk", "debian"))),
            (None, None)
        );
    }
}
