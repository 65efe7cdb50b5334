//! Objects that the tests of this room begin with.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};
use sheaf_api::storage::{LocalVolume, StoragePool};

/// 2³⁰ bytes.
pub const GIB: u64 = 1 << 30;
/// UID of the claim that [`claim`] makes.
pub const UID: &str = "11112222-3333-4444-5555-666677778888";

/// A ready pool `default` of `total` bytes, all of them free.
pub fn pool(node: &str, total: u64) -> StoragePool {
    serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": format!("default.{node}")},
        "spec": {"nodeName": node, "pool": "default"},
        "status": {"phase": "Ready", "totalBytes": total, "freeBytes": total},
    }))
    .unwrap()
}

/// A blank volume of that pool, that its node has not seen yet.
pub fn volume(name: &str, node: &str, bytes: u64) -> LocalVolume {
    serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume",
        "metadata": {"name": name, "uid": format!("uid-of-{name}")},
        "spec": {"nodeName": node, "pool": "default", "sizeBytes": bytes, "kind": "Volume", "source": {"blank": {}}},
    }))
    .unwrap()
}

/// `volume`, in `phase` for `reason`.
pub fn in_phase(mut volume: LocalVolume, phase: &str, reason: &str) -> LocalVolume {
    let bytes = volume.spec.size_bytes;
    volume.status = Some(
        serde_json::from_value(json!({
            "phase": phase, "sizeBytes": bytes,
            "conditions": [{"type": "Ready", "status": if phase == "Ready" { "True" } else { "False" },
                            "reason": reason, "message": "the node's words"}],
        }))
        .unwrap(),
    );
    volume
}

/// The class of a new cluster.
pub fn class() -> StorageClass {
    serde_json::from_value(super::class::storage_class()).unwrap()
}

/// A claim `shop/disk` of 4 GiB in that class, with further fields of metadata and spec.
pub fn claim(metadata: Value, spec: Value) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {"name": "disk", "namespace": "shop", "uid": UID, "resourceVersion": "7"},
        "spec": {"storageClassName": "sheaf", "accessModes": ["ReadWriteOnce"],
                 "resources": {"requests": {"storage": "4Gi"}}},
        "status": {"phase": "Pending"},
    });
    for (part, with) in [("metadata", metadata), ("spec", spec)] {
        for (key, value) in with.as_object().into_iter().flatten() {
            claim[part][key] = value.clone();
        }
    }
    serde_json::from_value(claim).unwrap()
}

/// The same, for which the scheduler chose `node`.
pub fn placed(node: &str, spec: Value) -> PersistentVolumeClaim {
    claim(json!({"annotations": {"volume.kubernetes.io/selected-node": node}}), spec)
}

/// The PersistentVolume of a LocalVolume, in `phase`.
pub fn persistent(name: &str, phase: &str, policy: &str) -> PersistentVolume {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": format!("pv-of-{name}"), "finalizers": ["sheaf.dev/persistent-volume"]},
        "spec": {"capacity": {"storage": "4Gi"}, "persistentVolumeReclaimPolicy": policy,
                 "csi": {"driver": "lvm.sheaf.dev", "volumeHandle": name},
                 "claimRef": {"namespace": "shop", "name": "disk", "uid": UID}},
        "status": {"phase": phase},
    }))
    .unwrap()
}
