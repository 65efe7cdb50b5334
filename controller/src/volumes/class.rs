//! What a cluster has for volumes from the start: the driver, and the classes called `sheaf`.
//!
//! Why here: without a CSIDriver of that name kube-scheduler does not ask for space, and without a class there is nothing
//! to claim. The classes are made once and then belong to the operator, who may make another the default. Route in:
//! nothing. Route out: objects that [`crate::install`] applies or, where `once`, creates.

use serde_json::{Value, json};
use sheaf_api::{
    names::{DEFAULT_POOL, POOL_PARAMETER, STORAGE_CLASS, TRUE, VOLUME_DRIVER},
    snapshot::DEFAULT_CLASS_ANNOTATION,
};

/// Annotation of the StorageClass for claims that name none.
pub const DEFAULT_ANNOTATION: &str = "storageclass.kubernetes.io/is-default-class";

/// The driver: nothing is attached or mounted, and space is the scheduler's business.
pub fn driver() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": VOLUME_DRIVER},
        "spec": {
            "storageCapacity": true,
            "attachRequired": false,
            "podInfoOnMount": false,
            "volumeLifecycleModes": ["Persistent"],
        },
    })
}

/// The class of volumes in the pool `default`.
pub fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {DEFAULT_ANNOTATION: TRUE}},
        "provisioner": VOLUME_DRIVER,
        "parameters": {POOL_PARAMETER: DEFAULT_POOL},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    })
}

/// The class of snapshots.
pub fn snapshot_class() -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {DEFAULT_CLASS_ANNOTATION: TRUE}},
        "driver": VOLUME_DRIVER,
        "deletionPolicy": "Delete",
    })
}
