//! What a claim into which a client sends an image says of it, in CDI's words.
//!
//! Why here: `virtctl image-upload` knows no other signs: it sends once `storage.pod.ready` is true, and has finished when
//! `storage.pod.phase` is Succeeded. There is no such Pod; the node itself takes the image. Pure. Route in: a claim and its
//! volume. Route out: the annotations that it lacks.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use sheaf_api::{
    names::{POD_PHASE_ANNOTATION, POD_READY_ANNOTATION, UPLOAD_TARGET_ANNOTATION},
    storage::{LocalVolume, local_volume::VolumePhase},
};

use crate::volumes::annotation;

/// The annotations of `claim` that are to change.
pub fn changes(
    claim: &PersistentVolumeClaim,
    volume: Option<&LocalVolume>,
) -> BTreeMap<&'static str, &'static str> {
    let is_target = annotation(claim, UPLOAD_TARGET_ANNOTATION).is_some();
    let Some(volume) = volume.filter(|volume| is_target && volume.spec.source.upload.is_some()) else {
        return BTreeMap::new();
    };
    let (phase, ready) = of(volume);
    [(POD_PHASE_ANNOTATION, phase), (POD_READY_ANNOTATION, ready)]
        .into_iter()
        .filter(|(name, value)| annotation(claim, name) != Some(value))
        .collect()
}

/// Phase of CDI's Pod, and whether it takes an image.
fn of(volume: &LocalVolume) -> (&'static str, &'static str) {
    let status = volume.status.as_ref();
    // A volume that was filled once stays so, also while its pool is away.
    if status.is_some_and(|status| status.size_bytes.is_some()) {
        return ("Succeeded", "false");
    }
    match status.and_then(|status| status.phase) {
        Some(VolumePhase::Ready) => ("Succeeded", "false"),
        Some(VolumePhase::Populating) => ("Running", "true"),
        Some(VolumePhase::Failed) => ("Failed", "false"),
        Some(VolumePhase::Pending | VolumePhase::Creating) | None => ("Pending", "false"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::volumes::testing::{GIB, claim, in_phase, volume};

    fn upload() -> LocalVolume {
        let mut volume = volume("pvc-a", "n1", GIB);
        volume.spec.source = serde_json::from_value(json!({"upload": {}})).unwrap();
        volume
    }

    fn words(volume: &LocalVolume) -> (&'static str, &'static str) {
        let target = claim(json!({"annotations": {"cdi.kubevirt.io/storage.upload.target": ""}}), json!({}));
        let changes = changes(&target, Some(volume));
        (changes[POD_PHASE_ANNOTATION], changes[POD_READY_ANNOTATION])
    }

    #[test]
    fn virtctl_may_send_while_the_node_waits_and_has_finished_when_the_volume_is_filled() {
        assert_eq!(words(&upload()), ("Pending", "false"));
        let unfilled = |phase: &str| {
            let mut volume = in_phase(upload(), phase, "Populating");
            volume.status.as_mut().unwrap().size_bytes = None;
            volume
        };
        assert_eq!(words(&unfilled("Creating")), ("Pending", "false"));
        assert_eq!(words(&unfilled("Populating")), ("Running", "true"));
        assert_eq!(words(&unfilled("Failed")), ("Failed", "false"));
        assert_eq!(words(&in_phase(upload(), "Ready", "Ready")), ("Succeeded", "false"));
        assert_eq!(words(&in_phase(upload(), "Pending", "PoolNotFound")), ("Succeeded", "false"));
    }

    #[test]
    fn a_claim_that_says_so_already_and_one_that_is_no_target_are_left_alone() {
        let filled = in_phase(upload(), "Ready", "Ready");
        let annotations = json!({"cdi.kubevirt.io/storage.upload.target": "",
            "cdi.kubevirt.io/storage.pod.phase": "Succeeded", "cdi.kubevirt.io/storage.pod.ready": "false"});
        assert!(changes(&claim(json!({"annotations": annotations}), json!({})), Some(&filled)).is_empty());
        assert!(changes(&claim(json!({}), json!({})), Some(&filled)).is_empty());
        let target = claim(json!({"annotations": {"cdi.kubevirt.io/storage.upload.target": ""}}), json!({}));
        assert!(changes(&target, Some(&volume("pvc-a", "n1", GIB))).is_empty());
        assert!(changes(&target, None).is_empty());
    }
}
