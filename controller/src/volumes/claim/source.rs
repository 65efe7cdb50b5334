//! What is in a claim's volume at first, and where that binds it to.
//!
//! Why here: a copy is made where its origin lies, so the origin chooses the node, not the scheduler. Route in: the claim's
//! dataSourceRef, or its annotation `sheaf.dev/source` (which a DataVolume puts there) or CDI's of an upload, then the
//! objects it names.
//! Route out: the LocalVolume's source, with node and least size; or the sentence that says why there is none.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use sheaf_api::{
    names::{
        CONTENT_TYPE_ANNOTATION, KUBEVIRT_CONTENT, SOURCE_ANNOTATION, UPLOAD_TARGET_ANNOTATION, VOLUME_DRIVER,
    },
    snapshot::{self, VolumeSnapshot},
    storage::{
        LocalVolume,
        local_volume::{Origin, Upload, VolumeSource},
    },
    strict,
};

use crate::volumes::{annotation, handle, room, snapshot::plan::name_for as snapshot_name};

/// What a claim asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Something that any node can bring in: zeros, an image from a server or from a client.
    Anywhere(Box<VolumeSource>),
    /// A copy of the claim of that name.
    Claim(String),
    /// A copy of the VolumeSnapshot of that name.
    Snapshot(String),
}

/// What was found of an origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What the LocalVolume is made from.
    pub source: VolumeSource,
    /// Where the origin lies.
    pub node: String,
    /// In which of the node's pools.
    pub pool: String,
    /// How large a copy is at least.
    pub bytes: u64,
}

/// What `claim` asks for; a sentence if it cannot be had.
pub fn wanted(claim: &PersistentVolumeClaim) -> Result<Wanted, String> {
    let spec = claim.spec.clone().unwrap_or_default();
    let noted = annotation(claim, SOURCE_ANNOTATION);
    let is_upload = annotation(claim, UPLOAD_TARGET_ANNOTATION).is_some();
    let is_copy = spec.data_source_ref.is_some() || spec.data_source.is_some();
    if [is_copy, noted.is_some(), is_upload].iter().filter(|is| **is).count() > 1 {
        return Err(format!(
            "it has more than one of dataSource, annotation {SOURCE_ANNOTATION} and annotation \
             {UPLOAD_TARGET_ANNOTATION}; keep one of them"
        ));
    }
    if is_upload {
        return upload(claim);
    }
    if let Some(text) = noted {
        return from_annotation(text);
    }
    let own = claim.metadata.namespace.as_deref();
    match (spec.data_source_ref, spec.data_source) {
        (Some(reference), _) => match reference.namespace.as_deref() {
            Some(namespace) if Some(namespace) != own => Err(format!(
                "dataSourceRef.namespace is {namespace}; the source of a copy must be in the namespace of the claim"
            )),
            _ => named(reference.api_group.as_deref(), &reference.kind, &reference.name),
        },
        (None, Some(source)) => named(source.api_group.as_deref(), &source.kind, &source.name),
        (None, None) => {
            let blank = VolumeSource { blank: Some(Default::default()), ..Default::default() };
            Ok(Wanted::Anywhere(Box::new(blank)))
        }
    }
}

/// An image of a disk, which a client sends.
fn upload(claim: &PersistentVolumeClaim) -> Result<Wanted, String> {
    match annotation(claim, CONTENT_TYPE_ANNOTATION) {
        None | Some("" | KUBEVIRT_CONTENT) => {
            let upload = VolumeSource { upload: Some(Upload {}), ..Default::default() };
            Ok(Wanted::Anywhere(Box::new(upload)))
        }
        Some(other) => Err(format!(
            "annotation {CONTENT_TYPE_ANNOTATION} is {other}; only images of disks are taken: set it to {KUBEVIRT_CONTENT}"
        )),
    }
}

fn named(group: Option<&str>, kind: &str, name: &str) -> Result<Wanted, String> {
    match (group.unwrap_or_default(), kind) {
        ("", "PersistentVolumeClaim") => Ok(Wanted::Claim(name.into())),
        (snapshot::GROUP, "VolumeSnapshot") => Ok(Wanted::Snapshot(name.into())),
        _ => Err(format!(
            "dataSourceRef is a {kind}; {VOLUME_DRIVER} copies PersistentVolumeClaims and VolumeSnapshots"
        )),
    }
}

fn from_annotation(text: &str) -> Result<Wanted, String> {
    let source: VolumeSource =
        strict::from_json(text).map_err(|error| format!("annotation {SOURCE_ANNOTATION}: {error}"))?;
    let VolumeSource { blank, http, registry, upload, .. } = &source;
    let anywhere = [blank.is_some(), http.is_some(), registry.is_some(), upload.is_some()];
    let copies = source.volume.is_some() || source.snapshot.is_some();
    if copies || anywhere.iter().filter(|is| **is).count() != 1 {
        return Err(format!(
            "annotation {SOURCE_ANNOTATION} has exactly one of blank, http, registry and upload"
        ));
    }
    Ok(Wanted::Anywhere(Box::new(source)))
}

/// The origin of a copy of the claim `name`; a sentence if it is not there yet.
pub fn of_claim(
    name: &str,
    origin: Option<&PersistentVolumeClaim>,
    persistent: Option<&PersistentVolume>,
    volume: Option<&LocalVolume>,
) -> Result<Found, String> {
    let origin = origin
        .ok_or_else(|| format!("the PersistentVolumeClaim {name} that is to be copied does not exist"))?;
    let bound = origin.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let (true, Some(persistent)) = (bound, persistent) else {
        return Err(format!("the PersistentVolumeClaim {name} that is to be copied is not bound"));
    };
    let handle = handle(persistent).ok_or_else(|| {
        format!("the PersistentVolumeClaim {name} that is to be copied is not of {VOLUME_DRIVER}")
    })?;
    found(handle, volume, |origin| VolumeSource { volume: Some(origin), ..VolumeSource::default() })
}

/// The origin of a copy of the VolumeSnapshot `name`; a sentence if it is not there yet.
pub fn of_snapshot(
    name: &str,
    origin: Option<&VolumeSnapshot>,
    volume: Option<&LocalVolume>,
) -> Result<Found, String> {
    let origin =
        origin.ok_or_else(|| format!("the VolumeSnapshot {name} that is to be copied does not exist"))?;
    if origin.status.as_ref().and_then(|status| status.ready_to_use) != Some(true) {
        return Err(format!("the VolumeSnapshot {name} that is to be copied is not ready"));
    }
    let of = |origin| VolumeSource { snapshot: Some(origin), ..VolumeSource::default() };
    found(&snapshot_name(origin), volume, of)
}

fn found(
    handle: &str,
    volume: Option<&LocalVolume>,
    source: impl FnOnce(Origin) -> VolumeSource,
) -> Result<Found, String> {
    let volume = volume
        .filter(|volume| volume.metadata.name.as_deref() == Some(handle))
        .filter(|volume| volume.metadata.deletion_timestamp.is_none())
        .ok_or_else(|| format!("the LocalVolume {handle} that is to be copied does not exist"))?;
    if !volume.is_ready() {
        return Err(format!("the LocalVolume {handle} that is to be copied is not ready"));
    }
    Ok(Found {
        source: source(Origin { name: handle.into() }),
        node: volume.spec.node_name.clone(),
        pool: volume.spec.pool.clone(),
        bytes: room::size(volume),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::volumes::testing::{GIB, claim, in_phase, persistent, volume};

    #[test]
    fn a_claim_without_a_source_is_blank() {
        let Ok(Wanted::Anywhere(source)) = wanted(&claim(json!({}), json!({}))) else { panic!() };
        assert!(source.blank.is_some());
    }

    #[test]
    fn kubernetes_own_sources_are_copies() {
        let of = |kind: &str, group: &str| {
            wanted(&claim(
                json!({}),
                json!({"dataSourceRef": {"apiGroup": group, "kind": kind, "name": "a"}}),
            ))
        };
        assert_eq!(of("PersistentVolumeClaim", ""), Ok(Wanted::Claim("a".into())));
        assert_eq!(of("VolumeSnapshot", "snapshot.storage.k8s.io"), Ok(Wanted::Snapshot("a".into())));
        assert_eq!(
            of("VolumeImportSource", "cdi.kubevirt.io").unwrap_err(),
            "dataSourceRef is a VolumeImportSource; lvm.sheaf.dev copies PersistentVolumeClaims and VolumeSnapshots"
        );
    }

    #[test]
    fn the_annotation_is_read_strictly_and_never_names_another_volume() {
        let of = |text: &str| wanted(&claim(json!({"annotations": {"sheaf.dev/source": text}}), json!({})));
        assert!(matches!(of(r#"{"upload":{}}"#), Ok(Wanted::Anywhere(source)) if source.upload.is_some()));
        for (text, says) in [
            (r#"{"volume":{"name":"pvc-of-others"}}"#, "has exactly one of blank, http, registry and upload"),
            ("{}", "has exactly one of blank, http, registry and upload"),
            (r#"{"blank":{},"s3":{"url":"x"}}"#, "s3: unknown field"),
            ("nonsense", "expected ident"),
        ] {
            let refused = of(text).unwrap_err();
            assert!(refused.contains(says) && refused.contains("sheaf.dev/source"), "{text}: {refused}");
        }
    }

    #[test]
    fn a_claim_with_cdis_annotation_takes_the_image_of_a_disk_and_no_archive() {
        let of = |annotations: Value| wanted(&claim(json!({"annotations": annotations}), json!({})));
        let target = "cdi.kubevirt.io/storage.upload.target";
        let content = "cdi.kubevirt.io/storage.contentType";
        for annotations in [json!({target: ""}), json!({target: "", content: "kubevirt"})] {
            assert!(matches!(of(annotations), Ok(Wanted::Anywhere(source)) if source.upload.is_some()));
        }
        assert_eq!(
            of(json!({target: "", content: "archive"})).unwrap_err(),
            "annotation cdi.kubevirt.io/storage.contentType is archive; only images of disks are taken: set it to kubevirt"
        );
        assert!(
            of(json!({target: "", "sheaf.dev/source": r#"{"blank":{}}"#}))
                .unwrap_err()
                .contains("more than one")
        );
    }

    #[test]
    fn the_origin_of_a_copy_says_where_it_is_made_and_how_large() {
        let volume = in_phase(volume("pvc-a", "n2", 4 * GIB), "Ready", "Ready");
        let mut origin = claim(json!({"name": "a"}), json!({}));
        let bound = persistent("pvc-a", "Bound", "Delete");
        assert_eq!(
            of_claim("a", Some(&origin), Some(&bound), Some(&volume)).unwrap_err(),
            "the PersistentVolumeClaim a that is to be copied is not bound"
        );
        origin.status.as_mut().unwrap().phase = Some("Bound".into());
        let found = of_claim("a", Some(&origin), Some(&bound), Some(&volume)).unwrap();
        assert_eq!((found.node.as_str(), found.bytes), ("n2", 4 * GIB));
        assert_eq!(found.source.volume.unwrap().name, "pvc-a");
        assert!(of_claim("a", Some(&origin), Some(&bound), None).unwrap_err().contains("does not exist"));
    }
}
