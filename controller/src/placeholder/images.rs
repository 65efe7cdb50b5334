//! How large base images are: what an overlay over one may grow to.
//!
//! Why here: the scheduler must count what the node will ([`sheaf_api::ephemeral`]), and nodes report their images in
//! `status.images` with the bytes that a guest sees. Pure. Route in: Nodes. Route out: bytes by the image's name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use sheaf_api::{host_disk::image_name, vmi::VirtualMachineInstanceSpec};

/// What the agent puts before an image's name in the status of its Node.
const PREFIX: &str = "sheaf.dev/";

/// Bytes that a guest sees, by the image's name.
pub type Sizes = BTreeMap<String, u64>;

/// Whether a VM of this spec writes to overlays over base images.
pub fn are_used(spec: &VirtualMachineInstanceSpec) -> bool {
    spec.volumes
        .iter()
        .filter_map(|volume| volume.host_disk.as_ref())
        .any(|disk| image_name(&disk.path).is_some())
}

/// What `nodes` report. Of several sizes the smallest counts: a node that exaggerates keeps no VM from the others, and each
/// node counts its own image again before it starts a VM.
pub fn sizes<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Sizes {
    let mut sizes = Sizes::new();
    let statuses = nodes.into_iter().filter_map(|node| node.status.as_ref());
    for image in statuses.flat_map(|status| status.images.iter().flatten()) {
        let bytes = image.size_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        for name in image.names.iter().flatten().filter_map(|name| name.strip_prefix(PREFIX)) {
            let Some(bytes) = bytes else { continue };
            sizes.entry(name.to_owned()).and_modify(|known| *known = bytes.min(*known)).or_insert(bytes);
        }
    }
    sizes
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
                json!([{"names": ["sheaf.dev/debian"], "sizeBytes": 5}, {"names": ["nginx"], "sizeBytes": 1}]),
            ),
            node(json!([{"names": ["sheaf.dev/debian"], "sizeBytes": i64::MAX}])),
            node(json!([{"names": ["sheaf.dev/negative"], "sizeBytes": -1}, {"names": ["sheaf.dev/none"]}])),
        ];
        assert_eq!(sizes(&nodes), [("debian".to_owned(), 5)].into());
    }
}
