//! Decides which attachment Pods an instance has: one for each hotpluggable volume of its spec while it is on a node.
//!
//! Why here: pure. A volume that left the spec is removed from the guest first: its Pod is marked, then deleted, and stays until
//! the node reported that the domain has no such disk. A Pod that somebody else deletes is not marked, so the guest keeps the
//! disk until it ends. Of a volume that stays, a change of its disk has no effect: only another claim is another volume. Route
//! in: the instance, its placeholder Pod, the Pods there are. Route out: [`Action`]s.

use k8s_openapi::api::core::v1::{Node, Pod};
use sheaf_api::{
    VirtualMachineInstance,
    attachment::{Attachment, is_to_detach},
};

use super::plan::Action;
use crate::{
    placeholder::{attachment, end},
    resolve::resolve,
};

/// What is to be done; `there` are the attachment Pods of the instance.
pub fn plan(
    vmi: &VirtualMachineInstance,
    launcher: Option<&Pod>,
    node: Option<&Node>,
    there: &[Pod],
) -> Result<Vec<Action>, serde_json::Error> {
    let runs = launcher.filter(|pod| end::node_of(pod).is_some() && !end::is_over(pod, node));
    let wanted = runs.map(|launcher| wanted(vmi, launcher)).unwrap_or_default();
    let is_wanted = |pod: &Pod| wanted.iter().any(|wanted| is_for(pod, vmi, wanted));
    let mut actions = Vec::new();
    for pod in there.iter().filter(|pod| !is_wanted(pod)) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if runs.is_some() && !is_to_detach(pod) {
            actions.push(Action::MarkDetach { name: name.clone(), uid: uid.clone() });
        }
        if pod.metadata.deletion_timestamp.is_none() {
            actions.push(Action::DeletePod { name, uid });
        }
    }
    let has = |name: &str| there.iter().any(|pod| pod.metadata.name.as_deref() == Some(name));
    if let (Some(launcher), None) = (runs, &vmi.metadata.deletion_timestamp) {
        for wanted in wanted.iter().filter(|wanted| !has(&attachment::name(vmi, &wanted.volume.name))) {
            let pod = attachment::pod(vmi, launcher, wanted)?;
            actions.push(Action::CreateAttachment(Box::new(pod)));
        }
    }
    Ok(actions)
}

/// What the Pods are to carry.
fn wanted(vmi: &VirtualMachineInstance, launcher: &Pod) -> Vec<Attachment> {
    let spec = resolve(&vmi.spec, vmi.metadata.uid.as_deref().unwrap_or_default());
    let of = |volume| {
        let disk = spec.domain.devices.disks.iter().find(|disk| disk.name == volume)?;
        Some(attachment::of(vmi, launcher, spec.volume(volume)?, disk))
    };
    spec.hotpluggable().filter_map(|volume| of(&volume.name)).collect()
}

/// Whether `pod` is there for `wanted`, and is to stay. One whose annotation is of another version stays by its name.
fn is_for(pod: &Pod, vmi: &VirtualMachineInstance, wanted: &Attachment) -> bool {
    let is_same =
        |has: Attachment| has.volume.claim() == wanted.volume.claim() && has.pod_uid == wanted.pod_uid;
    pod.metadata.name.as_deref() == Some(&attachment::name(vmi, &wanted.volume.name))
        && !is_to_detach(pod)
        && Attachment::of(pod).is_none_or(is_same)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn vmi(volumes: Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "namespace": "shop", "uid": "0f9a1c52-1"},
            "spec": {"domain": {"devices": {}}, "volumes": volumes},
        }))
        .unwrap()
    }

    fn with(claim: &str) -> VirtualMachineInstance {
        vmi(json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim, "hotpluggable": true}}]))
    }

    fn launcher(node: Option<&str>) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "l", "uid": "p-1"}, "spec": {"nodeName": node, "containers": []}}),
        )
        .unwrap()
    }

    fn planned(vmi: &VirtualMachineInstance, there: &[Pod]) -> Vec<Action> {
        plan(vmi, Some(&launcher(Some("n1"))), None, there).unwrap()
    }

    /// The Pod that is made for `vmi`.
    fn made(vmi: &VirtualMachineInstance) -> Pod {
        match planned(vmi, &[]).pop() {
            Some(Action::CreateAttachment(pod)) => *pod,
            other => panic!("{other:?}"),
        }
    }

    fn gone(pod: &Pod) -> Vec<Action> {
        let (name, uid) = (pod.metadata.name.clone().unwrap(), String::new());
        vec![Action::MarkDetach { name: name.clone(), uid: uid.clone() }, Action::DeletePod { name, uid }]
    }

    #[test]
    fn a_hotpluggable_volume_has_a_pod_as_soon_as_the_vm_has_a_node_and_only_one() {
        let vmi = with("c");
        assert_eq!(plan(&vmi, Some(&launcher(None)), None, &[]).unwrap(), []);
        assert_eq!(plan(&vmi, None, None, &[]).unwrap(), []);
        let pod = made(&vmi);
        assert_eq!(
            Attachment::of(&pod).unwrap().disk.disk.unwrap().bus,
            Some(sheaf_api::devices::DiskBus::Virtio)
        );
        assert_eq!(planned(&vmi, &[pod]), []);
    }

    #[test]
    fn a_volume_that_left_the_spec_is_taken_from_the_guest_before_its_pod_goes() {
        let pod = made(&with("c"));
        assert_eq!(planned(&vmi(json!([])), std::slice::from_ref(&pod)), gone(&pod));
        let mut marked = pod.clone();
        marked.metadata.annotations.get_or_insert_default().insert("sheaf.dev/detach".into(), "true".into());
        assert_eq!(planned(&vmi(json!([])), std::slice::from_ref(&marked)), gone(&pod)[1..]);
        // It was added again meanwhile: the name is free once the Pod is gone.
        assert_eq!(planned(&with("c"), &[marked]), gone(&pod)[1..]);
    }

    #[test]
    fn a_volume_of_another_claim_is_another_volume_and_a_changed_disk_is_not() {
        let pod = made(&with("c"));
        assert_eq!(planned(&with("d"), std::slice::from_ref(&pod)), gone(&pod));
        let mut changed = with("c");
        changed.spec.domain.devices.disks =
            serde_json::from_value(json!([{"name": "data", "disk": {"bus": "scsi"}}])).unwrap();
        assert_eq!(planned(&changed, &[pod]), []);
    }

    #[test]
    fn pods_of_a_vm_that_ended_are_deleted_and_those_of_one_that_is_ending_stay() {
        let (mut vmi, pod) = (with("c"), made(&with("c")));
        assert_eq!(plan(&vmi, None, None, std::slice::from_ref(&pod)).unwrap(), gone(&pod)[1..]);
        let time = json!({"deletionTimestamp": "2027-01-15T08:00:00Z"});
        let time: kube::api::ObjectMeta = serde_json::from_value(time).unwrap();
        vmi.metadata.deletion_timestamp = time.deletion_timestamp;
        assert_eq!(planned(&vmi, &[pod]), []);
        assert_eq!(planned(&vmi, &[]), [], "and none is made");
    }
}
