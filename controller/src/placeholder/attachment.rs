//! The attachment Pod of a volume that is added to a VM that runs: KubeVirt's `hp-volume-…`.
//!
//! Why here: a placeholder Pod cannot be changed. This Pod is for the node that the VM is on, so kube-scheduler binds the claim
//! there, and the Node authorizer lets the node's agent read it. It belongs to the placeholder Pod, and its finalizer stays
//! until the node reported that the domain has no such disk ([`super::end`]). Route in: the instance, its placeholder Pod, a
//! volume with its disk. Route out: a Pod.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachineInstance,
    attachment::Attachment,
    devices::Disk,
    names::{
        APP_LABEL, ATTACHMENT_ANNOTATION, ATTACHMENT_CONTAINER, ATTACHMENT_IMAGE, CREATED_BY_LABEL,
        HOTPLUG_DISK, POD_FINALIZER,
    },
    volumes::Volume,
};

use super::{end, idle, suffix};

/// Name of the Pod: always the same for a volume of an instance, so that it cannot be made twice.
pub fn name(vmi: &VirtualMachineInstance, volume: &str) -> String {
    format!("hp-volume-{}-{volume}", suffix(vmi))
}

/// What the Pod is to carry.
pub fn of(vmi: &VirtualMachineInstance, launcher: &Pod, volume: &Volume, disk: &Disk) -> Attachment {
    Attachment {
        vmi: vmi.metadata.name.clone().unwrap_or_default(),
        pod_uid: launcher.metadata.uid.clone().unwrap_or_default(),
        volume: volume.clone(),
        disk: disk.clone(),
    }
}

/// The Pod that carries `attachment`, on the node of `launcher`.
pub fn pod(
    vmi: &VirtualMachineInstance,
    launcher: &Pod,
    attachment: &Attachment,
) -> Result<Pod, serde_json::Error> {
    let volume = &attachment.volume;
    let claims = [json!({"name": "claim", "persistentVolumeClaim": {"claimName": volume.claim()}})];
    let spec = idle::spec(ATTACHMENT_CONTAINER, ATTACHMENT_IMAGE, &claims);
    composed(vmi, launcher, (&name(vmi, &volume.name), HOTPLUG_DISK), attachment.to_annotation(), spec)
}

/// A Pod with this name, label, annotation and spec, on the node of `launcher`.
pub(super) fn composed(
    vmi: &VirtualMachineInstance,
    launcher: &Pod,
    (name, label): (&str, &str),
    annotation: String,
    mut spec: Value,
) -> Result<Pod, serde_json::Error> {
    // By affinity, as a DaemonSet's: a Pod with a nodeName passes by the scheduler, and its claim is not bound.
    let node = json!([{"key": "metadata.name", "operator": "In", "values": [end::node_of(launcher)]}]);
    spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchFields": node}]}}});
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": vmi.metadata.namespace,
            "labels": {APP_LABEL: label, CREATED_BY_LABEL: vmi.metadata.uid},
            "annotations": {ATTACHMENT_ANNOTATION: annotation},
            "finalizers": [POD_FINALIZER],
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": launcher.metadata.name,
                "uid": launcher.metadata.uid, "controller": true,
            }],
        },
        "spec": spec,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_for_the_node_of_the_vm_and_belongs_to_its_placeholder() {
        let vmi: VirtualMachineInstance = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "namespace": "shop", "uid": "0f9a1c52-1111-2222-3333-444455556666"},
            "spec": {"domain": {"devices": {}}},
        }))
        .unwrap();
        let launcher: Pod = serde_json::from_value(json!({
            "metadata": {"name": "virt-launcher-web-0f9a1c52", "uid": "p"}, "spec": {"nodeName": "n1", "containers": []},
        }))
        .unwrap();
        let volume: Volume = serde_json::from_value(
            json!({"name": "data", "dataVolume": {"name": "d", "hotpluggable": true}}),
        )
        .unwrap();
        let disk = Disk { name: "data".into(), ..Disk::default() };
        let made = pod(&vmi, &launcher, &of(&vmi, &launcher, &volume, &disk)).unwrap();
        assert_eq!(made.metadata.name.as_deref(), Some("hp-volume-0f9a1c52-data"));
        assert_eq!(made.metadata.owner_references.as_ref().unwrap()[0].uid, "p");
        assert_eq!(Attachment::of(&made).unwrap().volume, volume);
        let spec = serde_json::to_value(made.spec.unwrap()).unwrap();
        assert_eq!(spec["volumes"][0]["persistentVolumeClaim"]["claimName"], "d");
        assert!(spec["nodeName"].is_null(), "the scheduler binds it, and so the claim");
        let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchFields"][0]["values"], json!(["n1"]));
    }
}
