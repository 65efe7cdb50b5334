//! The claim that a DataVolume becomes.
//!
//! Why here: it holds all that the claim's controller needs, so that the DataVolume may go when it is done, as CDI's may.
//! Route in: the DataVolume, and how large its origin is. Route out: a PersistentVolumeClaim of its name, owned by it.

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, apimachinery::pkg::api::resource::Quantity};
use kube::Resource;
use serde_json::json;
use sheaf_api::{
    cdi::{AccessMode, DataVolume, RegistryImage, VolumeMode},
    names::{CONTENT_TYPE_ANNOTATION, KUBEVIRT_CONTENT, SOURCE_ANNOTATION, UPLOAD_TARGET_ANNOTATION},
    snapshot,
    storage::local_volume::{HttpSource, VolumeSource},
};

/// Label of what DataVolumes make; CDI's.
const APP: (&str, &str) = ("app", "containerized-data-importer");

/// The claim; `origin` is the size of what is copied, for a copy that names none.
pub fn claim(
    data: &DataVolume,
    class: &str,
    origin: Option<Quantity>,
) -> Result<PersistentVolumeClaim, serde_json::Error> {
    let meta = &data.metadata;
    let asked = data.spec.claim();
    let source = &data.spec.source;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(APP.0.into(), APP.1.into());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    if let Some(noted) = noted(data) {
        annotations.insert(SOURCE_ANNOTATION.into(), serde_json::to_string(&noted)?);
    }
    if source.upload.is_some() {
        // CDI's own words: virtctl sends only into a claim that has them.
        annotations.insert(UPLOAD_TARGET_ANNOTATION.into(), String::new());
        annotations.insert(CONTENT_TYPE_ANNOTATION.into(), KUBEVIRT_CONTENT.into());
    }
    let copied = match (&source.pvc, &source.snapshot) {
        (Some(origin), _) => Some(json!({"kind": "PersistentVolumeClaim", "name": origin.name})),
        (_, Some(origin)) => {
            Some(json!({"apiGroup": snapshot::GROUP, "kind": "VolumeSnapshot", "name": origin.name}))
        }
        _ => None,
    };
    let modes = if asked.access_modes.is_empty() {
        vec![AccessMode::ReadWriteOnce]
    } else {
        asked.access_modes.clone()
    };
    let mode = match (asked.volume_mode, &data.spec.storage) {
        (Some(mode), _) => mode,
        (None, Some(_)) => VolumeMode::Block,
        (None, None) => VolumeMode::Filesystem,
    };
    let size = asked.size().map(Quantity::from).or(origin);
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": meta.name, "namespace": meta.namespace, "labels": labels, "annotations": annotations,
            "ownerReferences": data.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
        },
        "spec": {
            "accessModes": modes,
            "volumeMode": mode,
            "storageClassName": class,
            "resources": {"requests": {"storage": size}},
            "dataSourceRef": copied,
        },
    }))
}

/// What the node fetches. A copy and an upload are not noted here: Kubernetes and CDI have words for them.
fn noted(data: &DataVolume) -> Option<VolumeSource> {
    let source = &data.spec.source;
    let http = source.http.as_ref().map(|http| HttpSource {
        url: http.url.clone(),
        checksum: http.checksum.clone().unwrap_or_default(),
        secret_ref: http.secret_ref.clone(),
        cert_config_map: http.cert_config_map.clone(),
        secret_extra_headers: http.secret_extra_headers.clone(),
    });
    let registry = source.registry.as_ref().map(RegistryImage::to_source);
    let noted = VolumeSource { http, registry, ..VolumeSource::default() };
    noted.is_brought_in().then_some(noted)
}
