//! The placeholder Pod: what an instance is for the scheduler, and the letter to the node that gets it.
//!
//! Why here: node authorizer and quota know Pods alone, so everything that the VM uses must be in the Pod: CPU,
//! memory with QEMU's share, /dev/kvm, ports of bridges, Secrets, claims. Route in: the instance, its resolved spec,
//! what its networks mean.
//! Route out: a Pod that satisfies the `restricted` Pod security standard.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sheaf_api::{
    Amount, VirtualMachineInstance,
    domain::Cpu,
    host_disk::{HostDiskPlace, place},
    names::{
        APP_LABEL, COMPUTE_CONTAINER, CREATED_BY_LABEL, IMAGE_PRESENT, KUBEVIRT_API_VERSION, KVM_RESOURCE,
        LAUNCHER, PLACEHOLDER_IMAGE, RUNTIME_CLASS, VM_NAME_LABEL, VMI_ANNOTATION, bridge_resource,
        image_label, vlan_resource,
    },
    placeholder::PlacedVmi,
    vmi::VirtualMachineInstanceSpec,
};

use crate::{
    networks::{self, Networks},
    overhead,
    resolve::resolve,
};

/// CPU requested for each virtual CPU unless the VM says otherwise, in thousandths; KubeVirt's ratio of ten.
const MILLI_PER_CPU: u64 = 100;

/// Name of the Pod of an instance: always the same, so that it can not be made twice.
pub fn name(vmi: &VirtualMachineInstance) -> String {
    let uid: String = vmi.metadata.uid.as_deref().unwrap_or_default().chars().filter(|c| *c != '-').collect();
    let suffix = &uid[..uid.len().min(8)];
    format!("{LAUNCHER}-{}-{suffix}", vmi.metadata.name.as_deref().unwrap_or_default())
}

/// The Pod of an instance.
pub fn pod(vmi: &VirtualMachineInstance, networks: &Networks) -> Result<Pod, serde_json::Error> {
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    let vmi_name = vmi.metadata.name.clone().unwrap_or_default();
    let namespace = vmi.metadata.namespace.clone().unwrap_or_default();
    let spec = resolve(&vmi.spec, &uid);
    let mut labels = vmi.metadata.labels.clone().unwrap_or_default();
    labels.insert(APP_LABEL.into(), LAUNCHER.into());
    labels.insert(CREATED_BY_LABEL.into(), uid.clone());
    labels.insert(VM_NAME_LABEL.into(), vmi_name.clone());
    let placed = PlacedVmi {
        name: vmi_name.clone(),
        namespace: namespace.clone(),
        uid: uid.clone(),
        spec,
        attachments: networks.attachments.clone(),
        addresses: networks.addresses.clone(),
    };
    let spec = &placed.spec;
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(vmi),
            "namespace": namespace,
            "labels": labels,
            "annotations": {VMI_ANNOTATION: placed.to_annotation()},
            "ownerReferences": [{
                "apiVersion": KUBEVIRT_API_VERSION, "kind": "VirtualMachineInstance",
                "name": vmi_name, "uid": uid, "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "runtimeClassName": RUNTIME_CLASS,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": spec.termination_grace_period_seconds,
            "priorityClassName": spec.priority_class_name,
            "nodeSelector": node_selector(spec),
            "affinity": spec.affinity,
            "tolerations": spec.tolerations,
            "topologySpreadConstraints": spec.topology_spread_constraints,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": COMPUTE_CONTAINER,
                "image": PLACEHOLDER_IMAGE,
                "imagePullPolicy": "Never",
                "resources": resources(spec, networks),
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
            "volumes": volumes(spec),
        },
    }))
}

/// Requests and limits of the Pod.
fn resources(spec: &VirtualMachineInstanceSpec, networks: &Networks) -> Value {
    let cpus = spec.domain.cpu.as_ref().map_or(1, Cpu::count);
    let asked = spec.domain.resources.clone().unwrap_or_default();
    let bytes = |amount: Option<&Amount>| amount.and_then(|amount| amount.units().ok());
    let guest =
        bytes(spec.domain.memory.as_ref().and_then(|memory| memory.guest.as_ref())).unwrap_or_default();
    let overhead = overhead::bytes(spec, guest, cpus);
    let memory = bytes(asked.requests.get("memory")).unwrap_or(guest);

    let mut requests = BTreeMap::new();
    let mut limits = BTreeMap::new();
    let cpu = asked.requests.get("cpu").cloned();
    requests
        .insert("cpu".to_string(), cpu.unwrap_or_else(|| Amount::of_milli(u64::from(cpus) * MILLI_PER_CPU)));
    requests.insert("memory".to_string(), Amount::of_bytes(memory.saturating_add(overhead)));
    if let Some(cpu) = asked.limits.get("cpu") {
        limits.insert("cpu".to_string(), cpu.clone());
    }
    if let Some(memory) = bytes(asked.limits.get("memory")) {
        limits.insert("memory".to_string(), Amount::of_bytes(memory.saturating_add(overhead)));
    }
    // Extended resources are not overcommitted: request and limit must agree.
    let mut ports: BTreeMap<String, u64> = BTreeMap::from([(KVM_RESOURCE.to_string(), 1)]);
    for interface in &spec.domain.devices.interfaces {
        if let Some((bridge, has_vlans)) = networks::port(spec, networks, interface) {
            *ports.entry(bridge_resource(bridge)).or_default() += 1;
            // A bridge without VLANs would let its guest into the untagged network.
            if has_vlans {
                *ports.entry(vlan_resource(bridge)).or_default() += 1;
            }
        }
    }
    for (name, count) in ports {
        requests.insert(name.clone(), Amount::of_milli(count * 1000));
        limits.insert(name, Amount::of_milli(count * 1000));
    }
    json!({"requests": requests, "limits": limits})
}

/// The user's selector, and one label for each base image the node must have.
fn node_selector(spec: &VirtualMachineInstanceSpec) -> BTreeMap<String, String> {
    let mut selector = spec.node_selector.clone();
    for disk in spec.volumes.iter().filter_map(|volume| volume.host_disk.as_ref()) {
        if let Ok(HostDiskPlace::Image { name }) = place(&disk.path) {
            selector.insert(image_label(&name), IMAGE_PRESENT.into());
        }
    }
    selector
}

/// Every Secret and every claim that the VM uses: a node may read only those that a Pod bound to it names, and the
/// scheduler binds the claims. The container mounts none of them: a claim is a raw disk of the VM, whatever its mode.
fn volumes(spec: &VirtualMachineInstanceSpec) -> Vec<Value> {
    let claims = spec.volumes.iter().filter_map(|volume| volume.claim()).enumerate().map(
        |(index, claim)| json!({"name": format!("claim-{index}"), "persistentVolumeClaim": {"claimName": claim}}),
    );
    secrets(spec).into_iter().chain(claims).collect()
}

fn secrets(spec: &VirtualMachineInstanceSpec) -> Vec<Value> {
    let mut names: Vec<&str> = spec
        .volumes
        .iter()
        .filter_map(|volume| volume.cloud_init_no_cloud.as_ref())
        .flat_map(|source| [&source.secret_ref, &source.network_data_secret_ref])
        .flatten()
        .map(|secret| secret.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let volume = |(index, name): (usize, &&str)| json!({"name": format!("secret-{index}"), "secret": {"secretName": name}});
    names.iter().enumerate().map(volume).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmi(spec: Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": KUBEVIRT_API_VERSION, "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "namespace": "shop", "uid": "0f9a1c52-1111-2222-3333-444455556666"},
            "spec": spec,
        }))
        .unwrap()
    }

    fn made(vmi: &VirtualMachineInstance) -> Pod {
        pod(vmi, &Networks::default()).unwrap()
    }

    #[test]
    fn the_pod_asks_for_everything_the_vm_costs() {
        let pod =
            made(&vmi(json!({"domain": {"cpu": {"cores": 2}, "memory": {"guest": "1Gi"}, "devices": {}}})));
        let spec = serde_json::to_value(pod.spec.unwrap()).unwrap();
        assert_eq!(
            spec["containers"][0]["resources"],
            // 1024 guest + 100 QEMU + 2×8 CPUs + 2 page tables + 16 graphics
            json!({"requests": {"cpu": "200m", "memory": "1158Mi", "devices.kubevirt.io/kvm": "1",
                                "bridge.sheaf.dev/br0": "1"},
                   "limits": {"devices.kubevirt.io/kvm": "1", "bridge.sheaf.dev/br0": "1"}})
        );
        assert_eq!(spec["runtimeClassName"], "sheaf-vm");
        assert_eq!(spec["automountServiceAccountToken"], false);
    }

    #[test]
    fn every_port_is_asked_for_at_the_bridge_that_its_network_means() {
        let vmi = vmi(json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"interfaces": [
                {"name": "out", "masquerade": {}}, {"name": "a", "bridge": {}}, {"name": "b", "bridge": {}},
                {"name": "plain", "bridge": {}}]}},
            "networks": [{"name": "out", "pod": {}}, {"name": "a", "multus": {"networkName": "lan"}},
                {"name": "b", "multus": {"networkName": "lan"}}, {"name": "plain", "multus": {"networkName": "p"}}],
        }));
        let to = |vlan| sheaf_api::network::Attachment { bridge: "br1".into(), vlan, trunk: Vec::new() };
        let attachments = [("a", Some(100)), ("b", Some(100)), ("plain", None)];
        let attachments = attachments.map(|(name, vlan)| (name.to_owned(), to(vlan))).into();
        let networks = Networks { attachments, ..Networks::default() };
        let pod = serde_json::to_value(pod(&vmi, &networks).unwrap()).unwrap();
        assert_eq!(
            pod["spec"]["containers"][0]["resources"]["limits"],
            json!({"bridge.sheaf.dev/br1": "3", "vlan.bridge.sheaf.dev/br1": "2", "bridge.sheaf.dev/masq0": "1",
                   "devices.kubevirt.io/kvm": "1"})
        );
        let annotation = pod["metadata"]["annotations"][VMI_ANNOTATION].as_str().unwrap();
        assert_eq!(PlacedVmi::from_annotation(annotation).unwrap().attachments, networks.attachments);
    }

    #[test]
    fn a_base_image_selects_the_nodes_that_have_it() {
        let pod = made(&vmi(json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"disks": [{"name": "root"}]}},
            "nodeSelector": {"zone": "a"},
            "volumes": [{"name": "root", "hostDisk": {"path": "/data/images/debian-13", "type": "Disk"}}],
        })));
        let selector = pod.spec.unwrap().node_selector.unwrap();
        assert_eq!(selector["image.sheaf.dev/debian-13"], "present");
        assert_eq!(selector["zone"], "a");
    }

    #[test]
    fn every_secret_is_a_volume_once() {
        let pod = made(&vmi(json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"disks": [{"name": "seed"}]}},
            "volumes": [{"name": "seed", "cloudInitNoCloud":
                {"secretRef": {"name": "s"}, "networkDataSecretRef": {"name": "s"}}}],
        })));
        let volumes = pod.spec.unwrap().volumes.unwrap();
        assert_eq!(volumes.len(), 1);
        assert_eq!(volumes[0].secret.as_ref().unwrap().secret_name.as_deref(), Some("s"));
    }

    #[test]
    fn every_claim_is_a_volume_that_no_container_mounts() {
        let pod = made(&vmi(json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"disks": [{"name": "a"}, {"name": "b"}]}},
            "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
                        {"name": "b", "dataVolume": {"name": "root"}}],
        })));
        let spec = serde_json::to_value(pod.spec.unwrap()).unwrap();
        assert_eq!(
            spec["volumes"],
            json!([{"name": "claim-0", "persistentVolumeClaim": {"claimName": "data"}},
                   {"name": "claim-1", "persistentVolumeClaim": {"claimName": "root"}}])
        );
        let container = &spec["containers"][0];
        assert!(container.get("volumeMounts").is_none() && container.get("volumeDevices").is_none());
    }

    #[test]
    fn the_annotation_is_what_the_agent_reads_strictly() {
        let vmi = vmi(json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}));
        let pod = made(&vmi);
        let placed = PlacedVmi::from_annotation(&pod.metadata.annotations.unwrap()[VMI_ANNOTATION]).unwrap();
        assert_eq!((placed.name.as_str(), placed.namespace.as_str()), ("web", "shop"));
        assert_eq!(pod.metadata.name.as_deref(), Some("virt-launcher-web-0f9a1c52"));
    }
}
