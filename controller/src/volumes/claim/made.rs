//! The objects that a claim becomes: its LocalVolume, and the PersistentVolume that binds it.
//!
//! Why here: what is in them is one thing, when they are made another ([`super::plan`]). Route in: the claim, its class, the
//! node and what is in it at first. Route out: the objects.

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use serde_json::json;
use sheaf_api::{
    names::{CLAIM_ANNOTATION, HOSTNAME_LABEL, POOL_PARAMETER, VOLUME_DRIVER, VOLUME_FINALIZER},
    storage::{
        LocalVolume, LocalVolumeSpec,
        local_volume::{FINALIZER, VolumeKind, VolumeSource},
    },
};

use crate::volumes::{name_for, pool_of, room};

/// Annotation by which Kubernetes knows that deleting is left to us.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// The volume of `claim` on `node`. It is born with the agent's finalizer: between its making and the node's first look
/// it could otherwise go while the node makes it.
pub fn volume(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &str,
    bytes: u64,
    source: VolumeSource,
) -> LocalVolume {
    let mut volume = LocalVolume::new(
        &name_for(claim),
        LocalVolumeSpec {
            node_name: node.into(),
            pool: pool_of(class).into(),
            size_bytes: bytes,
            kind: VolumeKind::Volume,
            source,
        },
    );
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    volume.metadata.annotations = Some([(CLAIM_ANNOTATION.into(), format!("{namespace}/{name}"))].into());
    volume.metadata.finalizers = Some(vec![FINALIZER.into()]);
    volume
}

/// The PersistentVolume of `claim`, whose LocalVolume is ready.
pub fn persistent(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    volume: &LocalVolume,
) -> Result<PersistentVolume, serde_json::Error> {
    let spec = claim.spec.clone().unwrap_or_default();
    let name = volume.metadata.name.clone().unwrap_or_default();
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: VOLUME_DRIVER},
            "finalizers": [VOLUME_FINALIZER],
        },
        "spec": {
            "capacity": {"storage": room::quantity(room::size(volume))},
            "accessModes": spec.access_modes,
            "volumeMode": spec.volume_mode,
            "storageClassName": class.metadata.name,
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.metadata.namespace, "name": claim.metadata.name, "uid": claim.metadata.uid,
            },
            "csi": {
                "driver": VOLUME_DRIVER,
                "volumeHandle": name,
                "volumeAttributes": {POOL_PARAMETER: volume.spec.pool},
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": HOSTNAME_LABEL, "operator": "In", "values": [volume.spec.node_name]},
            ]}]}},
        },
    }))
}
