//! How large base images and claims below overlays are: what an overlay over one may grow to.
//!
//! Why here: the scheduler must count what the node will ([`sheaf_api::ephemeral`]), and nodes report their images in
//! `status.images` with the bytes that a guest sees. Pure. Route in: Nodes, claims. Route out: bytes by name.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use serde_json::json;
use sheaf_api::{
    Amount,
    ephemeral::Base,
    host_disk::image_name,
    vmi::VirtualMachineInstanceSpec,
    volumes::{Ephemeral, VolumeSource},
};

/// What the agent puts before an image's name in the status of its Node.
const PREFIX: &str = "sheaf.dev/";

/// Bytes that a guest sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of base images and container disks, by the names that nodes report.
    pub images: BTreeMap<String, u64>,
    /// Of claims of the VM's namespace, by name.
    pub claims: BTreeMap<String, u64>,
}

impl Sizes {
    /// Of what is below an overlay.
    pub fn of(&self, base: Base<'_>) -> Option<u64> {
        match base {
            Base::Image(name) => self.images.get(&format!("{PREFIX}{name}")),
            Base::ContainerDisk(_, image) => self.images.get(image),
            Base::Claim(name) => self.claims.get(name),
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
pub fn sizes<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    let statuses = nodes.into_iter().filter_map(|node| node.status.as_ref());
    for image in statuses.flat_map(|status| status.images.iter().flatten()) {
        let bytes = image.size_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        for name in image.names.iter().flatten() {
            let Some(bytes) = bytes else { continue };
            sizes.entry(name.clone()).and_modify(|known| *known = bytes.min(*known)).or_insert(bytes);
        }
    }
    sizes
}

/// Names of the claims that a VM of this spec has below overlays.
pub fn claims(spec: &VirtualMachineInstanceSpec) -> BTreeSet<&str> {
    spec.volumes.iter().filter_map(|volume| volume.ephemeral.as_ref()).map(Ephemeral::claim).collect()
}

/// What a claim has, or asks for while it is not bound.
pub fn claim_bytes(claim: &PersistentVolumeClaim) -> Option<u64> {
    let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    let asked = || claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage");
    let amount: Amount = serde_json::from_value(json!(capacity.or_else(asked)?)).ok()?;
    amount.units().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_counts_with_what_it_has_and_before_with_what_it_asks_for() {
        let claim = |status: serde_json::Value| -> PersistentVolumeClaim {
            let spec = json!({"resources": {"requests": {"storage": "1Gi"}}});
            serde_json::from_value(json!({"spec": spec, "status": status})).unwrap()
        };
        assert_eq!(claim_bytes(&claim(json!({"phase": "Pending"}))), Some(1 << 30));
        assert_eq!(claim_bytes(&claim(json!({"capacity": {"storage": "2Gi"}}))), Some(2 << 30));
        assert_eq!(claim_bytes(&PersistentVolumeClaim::default()), None);
    }

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
        let sizes = Sizes { images: sizes(&nodes), ..Sizes::default() };
        assert_eq!(sizes.of(Base::Image("debian")), Some(5));
        assert_eq!(sizes.of(Base::ContainerDisk("disk", "quay.io/a:1")), Some(7));
        assert_eq!(
            (sizes.of(Base::Image("none")), sizes.of(Base::ContainerDisk("disk", "debian"))),
            (None, None)
        );
    }
}
