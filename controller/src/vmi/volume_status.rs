//! What the status of an instance reports of its volumes.
//!
//! Why here: pure, so that each step of a disk that is added is a test. Names of disks are what the node reports of the
//! domain; the steps are those of the attachment Pod. Route in: the instance, its Pods, its claims. Route out: `volumeStatus`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerState, PersistentVolumeClaim, Pod};
use sheaf_api::{
    VirtualMachineInstance,
    attachment::{Attachment, is_to_detach},
    names::DISKS_ANNOTATION,
    placeholder::domain_is_gone,
    volume_status::{ClaimInfo, HotplugVolume, VolumePhase, VolumeStatus},
    volumes::Volume,
};

use super::volumes::Volumes;
use crate::placeholder::{attachment, end};

/// Most characters of a message: a node writes it.
const MOST_MESSAGE: usize = 1024;

/// Of each volume of the spec, and of those that are being removed.
pub fn of(vmi: &VirtualMachineInstance, launcher: Option<&Pod>, volumes: &Volumes) -> Vec<VolumeStatus> {
    let annotation = launcher.and_then(|pod| pod.metadata.annotations.as_ref()?.get(DISKS_ANNOTATION));
    let disks: BTreeMap<String, String> =
        annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let target = |volume: &str| disks.get(volume).cloned().unwrap_or_default();
    let mut all = Vec::new();
    for volume in &vmi.spec.volumes {
        let mut status = VolumeStatus {
            name: volume.name.clone(),
            target: target(&volume.name),
            ..VolumeStatus::default()
        };
        status.persistent_volume_claim_info = volume.claim().and_then(|claim| info(vmi, claim, volumes));
        if volume.is_hotpluggable() {
            let name = attachment::name(vmi, &volume.name);
            let pod = volumes.attachments.iter().find(|pod| pod.metadata.name.as_ref() == Some(&name));
            hotplugged(&mut status, pod, volume);
        }
        all.push(status);
    }
    for pod in &volumes.attachments {
        let Some(Attachment { volume, .. }) = Attachment::of(pod) else { continue };
        if vmi.spec.volume(&volume.name).is_none() {
            let name = volume.name.clone();
            // Why it is still there: a guest may lock the tray of a drive.
            let waiting = state(pod).and_then(|state| state.waiting.as_ref());
            all.push(VolumeStatus {
                target: target(&name),
                name,
                phase: Some(VolumePhase::Detaching),
                reason: waiting.and_then(|waiting| waiting.reason.as_deref()).map(short),
                message: waiting.and_then(|waiting| waiting.message.as_deref()).map(short),
                hotplug_volume: Some(by(pod)),
                ..VolumeStatus::default()
            });
        }
    }
    all
}

/// Adds how far a disk is that is added while the VM runs.
fn hotplugged(status: &mut VolumeStatus, pod: Option<&Pod>, volume: &Volume) {
    let is_bound = status.persistent_volume_claim_info.as_ref().is_some_and(|info| !info.capacity.is_empty());
    status.phase = Some(if is_bound { VolumePhase::Bound } else { VolumePhase::Pending });
    let Some(pod) = pod else { return };
    status.hotplug_volume = Some(by(pod));
    let of_other = Attachment::of(pod).is_some_and(|there| there.volume.claim() != volume.claim());
    let state = state(pod);
    if is_to_detach(pod) || of_other {
        status.phase = Some(VolumePhase::Detaching);
    } else if state.is_some_and(|state| state.running.is_some()) {
        let has_name = !status.target.is_empty();
        status.phase = Some(if has_name { VolumePhase::Ready } else { VolumePhase::MountedToPod });
    } else if end::node_of(pod).is_some() && !domain_is_gone(pod) {
        status.phase = Some(VolumePhase::AttachedToNode);
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut unscheduled = conditions.filter(|one| one.type_ == "PodScheduled" && one.status == "False");
    match (waiting, unscheduled.next()) {
        (Some(waiting), _) => {
            status.reason = waiting.reason.as_deref().map(short);
            status.message = waiting.message.as_deref().map(short);
        }
        (None, Some(condition)) => {
            status.reason.clone_from(&condition.reason);
            status.message.clone_from(&condition.message);
        }
        (None, None) => {}
    }
}

/// The state of the container that stands for the disk.
fn state(pod: &Pod) -> Option<&ContainerState> {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.filter_map(|container| container.state.as_ref()).next()
}

fn short(text: &str) -> String {
    text.chars().take(MOST_MESSAGE).collect()
}

fn by(pod: &Pod) -> HotplugVolume {
    HotplugVolume { attach_pod_name: pod.metadata.name.clone(), attach_pod_uid: pod.metadata.uid.clone() }
}

/// Of a claim, as it was read now or before.
fn info(vmi: &VirtualMachineInstance, name: &str, volumes: &Volumes) -> Option<ClaimInfo> {
    if let Some(claim) = volumes.claims.get(name) {
        return Some(of_claim(name, claim));
    }
    let before = vmi.status.iter().flat_map(|status| &status.volume_status);
    let mut before = before.filter_map(|status| status.persistent_volume_claim_info.as_ref());
    before.find(|info| info.claim_name == name).cloned()
}

fn of_claim(name: &str, claim: &PersistentVolumeClaim) -> ClaimInfo {
    let spec = claim.spec.clone().unwrap_or_default();
    let is_bound = |status: &&k8s_openapi::api::core::v1::PersistentVolumeClaimStatus| {
        status.phase.as_deref() == Some("Bound")
    };
    let bound = claim.status.as_ref().filter(is_bound);
    ClaimInfo {
        claim_name: name.to_owned(),
        access_modes: spec.access_modes.unwrap_or_default(),
        volume_mode: spec.volume_mode,
        capacity: bound.and_then(|status| status.capacity.clone()).unwrap_or_default(),
        requests: spec.resources.and_then(|resources| resources.requests).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn vmi(volumes: Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "uid": "0f9a1c52-1"}, "spec": {"domain": {"devices": {}}, "volumes": volumes},
        }))
        .unwrap()
    }

    fn hot() -> Value {
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "c", "hotpluggable": true}}])
    }

    fn pod(node: Option<&str>, state: Value) -> Pod {
        let attachment = json!({"vmi": "web", "podUid": "p", "volume": hot()[0], "disk": {"name": "data"}});
        serde_json::from_value(json!({
            "metadata": {"name": "hp-volume-0f9a1c52-data", "uid": "a-1",
                         "annotations": {"sheaf.dev/attachment": attachment.to_string()}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"containerStatuses": [{"name": "hotplug-disk", "image": "", "imageID": "", "ready": false,
                       "restartCount": 0, "state": state}]},
        }))
        .unwrap()
    }

    fn claim(phase: &str) -> PersistentVolumeClaim {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let status = json!({"phase": phase, "capacity": {"storage": "1Gi"}});
        serde_json::from_value(json!({"spec": spec, "status": status})).unwrap()
    }

    fn launcher(disks: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"annotations": {"sheaf.dev/disks": disks}}})).unwrap()
    }

    #[test]
    fn each_step_of_a_disk_that_is_added_is_reported() {
        let step = |claim_is: &str, attachments: Vec<Pod>, disks: &str| {
            let claims = [("c".to_owned(), claim(claim_is))].into();
            let volumes = Volumes { attachments, claims, home: None };
            let all = of(&vmi(hot()), Some(&launcher(disks)), &volumes);
            assert_eq!(all.len(), 1);
            (all[0].phase.unwrap(), all[0].target.clone(), all[0].reason.clone().unwrap_or_default())
        };
        let waits = json!({"waiting": {"reason": "VolumeNotReady", "message": "it is being filled"}});
        let none = String::new;
        assert_eq!(step("Pending", vec![], "{}"), (VolumePhase::Pending, none(), none()));
        assert_eq!(step("Bound", vec![pod(None, json!({}))], "{}"), (VolumePhase::Bound, none(), none()));
        assert_eq!(
            step("Bound", vec![pod(Some("n1"), waits)], "{}"),
            (VolumePhase::AttachedToNode, none(), "VolumeNotReady".into())
        );
        let runs = || pod(Some("n1"), json!({"running": {}}));
        assert_eq!(step("Bound", vec![runs()], "{}"), (VolumePhase::MountedToPod, none(), none()));
        let ready = (VolumePhase::Ready, "sda".to_owned(), none());
        assert_eq!(step("Bound", vec![runs()], r#"{"data": "sda"}"#), ready);
    }

    #[test]
    fn a_volume_that_left_the_spec_is_detaching_until_its_pod_is_gone() {
        let volumes =
            Volumes { attachments: vec![pod(Some("n1"), json!({"running": {}}))], ..Volumes::default() };
        let all = of(&vmi(json!([])), Some(&launcher(r#"{"data": "sda"}"#)), &volumes);
        assert_eq!((all[0].phase, all[0].target.as_str()), (Some(VolumePhase::Detaching), "sda"));
        let hotplug = all[0].hotplug_volume.clone().unwrap();
        assert_eq!(hotplug.attach_pod_uid.as_deref(), Some("a-1"));
        let locked = json!({"waiting": {"reason": "TrayLocked", "message": "timed out"}});
        let volumes = Volumes { attachments: vec![pod(Some("n1"), locked)], ..Volumes::default() };
        let all = of(&vmi(json!([])), Some(&launcher(r#"{"data": "sda"}"#)), &volumes);
        assert_eq!(
            (all[0].reason.as_deref(), all[0].message.as_deref()),
            (Some("TrayLocked"), Some("timed out"))
        );
    }

    #[test]
    fn other_volumes_have_the_name_of_their_disk_and_their_claim() {
        let volumes = json!([{"name": "root", "dataVolume": {"name": "c"}}, {"name": "seed", "emptyDisk": {"capacity": "1Gi"}}]);
        let claims = Volumes { claims: [("c".to_owned(), claim("Bound"))].into(), ..Volumes::default() };
        let all = of(&vmi(volumes), Some(&launcher(r#"{"root": "vda", "seed": "vdb"}"#)), &claims);
        let info = all[0].persistent_volume_claim_info.clone().unwrap();
        assert_eq!(
            (all[0].target.as_str(), all[0].phase, info.capacity["storage"].0.as_str()),
            ("vda", None, "1Gi")
        );
        assert_eq!((all[1].target.as_str(), &all[1].persistent_volume_claim_info), ("vdb", &None));
    }
}
