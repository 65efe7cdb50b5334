//! Decides when a volume that no claim uses is removed.
//!
//! Why here: pure, so that no order of deletions leaks a volume or takes one that is in use. The LocalVolume goes before its
//! PersistentVolume, and the PersistentVolume's finalizer waits for it. Route in: the objects as they are, read from the API server.
//! Route out: steps.

use std::borrow::Borrow;

use k8s_openapi::api::core::v1::PersistentVolume;
use sheaf_api::{
    names::{RETAINED_LABEL, TRUE, VOLUME_FINALIZER},
    storage::{LocalVolume, local_volume::VolumeKind},
};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete the LocalVolume.
    DeleteVolume,
    /// Mark it as kept, because that was asked for.
    Retain,
    /// Delete the PersistentVolume.
    DeletePersistent,
    /// Take our finalizer off the PersistentVolume.
    Release,
    /// Look again after a while: what is waited for is not watched.
    Wait,
}

/// What becomes of a PersistentVolume of ours and of `volume` behind it.
pub fn of_persistent<V: Borrow<LocalVolume>>(
    persistent: &PersistentVolume,
    volume: Option<&LocalVolume>,
    volumes: &[V],
) -> Vec<Step> {
    let held = persistent.metadata.finalizers.iter().flatten().any(|held| held == VOLUME_FINALIZER);
    let deleting = persistent.metadata.deletion_timestamp.is_some();
    let phase = persistent.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let delete = persistent
        .spec
        .as_ref()
        .is_some_and(|spec| spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete"));
    let released = matches!(phase, "Released" | "Failed");
    if deleting && !delete && phase != "Bound" {
        let kept = volume.is_none_or(is_retained);
        return if kept { release(held) } else { vec![Step::Retain] };
    }
    if !delete || !(released || deleting && phase != "Bound") {
        return Vec::new();
    }
    match volume {
        Some(volume) => remove(volume, volumes),
        None if deleting => release(held),
        None => {
            let mut steps = vec![Step::DeletePersistent];
            steps.extend(release(held));
            steps
        }
    }
}

/// What becomes of a LocalVolume of a claim that has no PersistentVolume, or none yet.
pub fn of_orphan<V: Borrow<LocalVolume>>(volume: &LocalVolume, claimed: bool, volumes: &[V]) -> Vec<Step> {
    if claimed || is_retained(volume) || volume.spec.kind == VolumeKind::Snapshot {
        return Vec::new();
    }
    remove(volume, volumes)
}

/// Deletes it, unless something is still being made from it.
pub fn remove<V: Borrow<LocalVolume>>(volume: &LocalVolume, volumes: &[V]) -> Vec<Step> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Vec::new(); // its going is a change
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let copied =
        volumes.iter().map(Borrow::borrow).any(|other| !other.is_ready() && origin(other) == Some(name));
    vec![if copied { Step::Wait } else { Step::DeleteVolume }]
}

/// Name of the LocalVolume that `volume` is made from.
fn origin(volume: &LocalVolume) -> Option<&str> {
    let source = &volume.spec.source;
    source.volume.as_ref().or(source.snapshot.as_ref()).map(|origin| origin.name.as_str())
}

fn is_retained(volume: &LocalVolume) -> bool {
    let labels = volume.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(RETAINED_LABEL)).is_some_and(|value| value == TRUE)
}

fn release(held: bool) -> Vec<Step> {
    if held { vec![Step::Release] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::{
        conditions::seconds,
        volumes::testing::{GIB, in_phase, persistent, volume},
    };

    const NONE: &[LocalVolume] = &[];

    fn deleting<K: kube::Resource>(mut object: K) -> K {
        object.meta_mut().deletion_timestamp = Some(seconds(Timestamp::UNIX_EPOCH));
        object
    }

    fn retained(mut volume: LocalVolume) -> LocalVolume {
        volume.metadata.labels = Some([(RETAINED_LABEL.into(), TRUE.into())].into());
        volume
    }

    #[test]
    fn a_released_volume_goes_node_first() {
        let (released, volume) = (persistent("pvc-a", "Released", "Delete"), volume("pvc-a", "n1", GIB));
        assert_eq!(of_persistent(&released, Some(&volume), NONE), [Step::DeleteVolume]);
        assert_eq!(of_persistent(&released, Some(&deleting(volume)), NONE), []);
        assert_eq!(of_persistent(&released, None, NONE), [Step::DeletePersistent, Step::Release]);
        assert_eq!(of_persistent(&deleting(released), None, NONE), [Step::Release]);
    }

    #[test]
    fn what_is_bound_stays_even_if_somebody_deleted_its_persistent_volume() {
        let volume = volume("pvc-a", "n1", GIB);
        for phase in ["Bound", "Available", "Pending"] {
            assert_eq!(
                of_persistent(&persistent("pvc-a", phase, "Delete"), Some(&volume), NONE),
                [],
                "{phase}"
            );
        }
        assert_eq!(of_persistent(&deleting(persistent("pvc-a", "Bound", "Delete")), Some(&volume), NONE), []);
    }

    #[test]
    fn a_persistent_volume_deleted_by_hand_takes_its_volume_with_it() {
        let gone = deleting(persistent("pvc-a", "Available", "Delete"));
        assert_eq!(of_persistent(&gone, Some(&volume("pvc-a", "n1", GIB)), NONE), [Step::DeleteVolume]);
    }

    #[test]
    fn what_is_to_be_retained_is_marked_first_and_then_let_go() {
        let released = persistent("pvc-a", "Released", "Retain");
        let volume = volume("pvc-a", "n1", GIB);
        assert_eq!(of_persistent(&released, Some(&volume), NONE), []);
        let gone = deleting(released);
        assert_eq!(of_persistent(&gone, Some(&volume), NONE), [Step::Retain]);
        assert_eq!(of_persistent(&gone, Some(&retained(volume.clone())), NONE), [Step::Release]);
        assert_eq!(of_orphan(&retained(volume), false, NONE), []);
    }

    #[test]
    fn a_volume_whose_claim_went_before_it_was_bound_goes_too() {
        let volume = volume("pvc-a", "n1", GIB);
        assert_eq!(of_orphan(&volume, false, NONE), [Step::DeleteVolume]);
        assert_eq!(of_orphan(&volume, true, NONE), []);
    }

    #[test]
    fn what_is_being_copied_waits() {
        let origin = volume("pvc-a", "n1", GIB);
        let mut copy = volume("pvc-b", "n1", GIB);
        copy.spec.source = serde_json::from_value(serde_json::json!({"volume": {"name": "pvc-a"}})).unwrap();
        assert_eq!(of_orphan(&origin, false, &[copy.clone()]), [Step::Wait]);
        let ready = in_phase(copy, "Ready", "Ready");
        assert_eq!(of_orphan(&origin, false, &[ready]), [Step::DeleteVolume]);
    }
}
