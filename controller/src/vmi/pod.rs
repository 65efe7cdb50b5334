//! The placeholder Pod of an instance: what kube-scheduler sees of a virtual machine.
//!
//! It asks for everything the machine takes from its node, names every Secret it reads (the Node authorizer lets a
//! node read only those), and passes the strictest Pod security level: nothing of it is ever run as a container.
//! Route in: an instance. Route out: a Pod whose name is derived from the instance's UID, so that it can be made only once.

use super::defaults;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sheaf_api::host_disk::{HostDiskPlace, place};
use sheaf_api::names::{
    APP_LABEL, COMPUTE_CONTAINER, CREATED_BY_LABEL, IMAGE_PRESENT, KVM_RESOURCE, LAUNCHER, PLACEHOLDER_IMAGE,
    POD_NETWORK_BRIDGE, RUNTIME_CLASS, VM_NAME_LABEL, VMI_ANNOTATION, bridge_resource, image_label,
};
use sheaf_api::placeholder::PlacedVmi;
use sheaf_api::vmi::VirtualMachineInstanceSpec;
use sheaf_api::{Amount, VirtualMachineInstance};
use std::collections::{BTreeMap, BTreeSet};

const MIB: u64 = 1 << 20;
/// What QEMU itself needs for a guest without devices, with room for its caches.
const QEMU: u64 = 96 * MIB;
/// What QEMU needs for each virtual CPU.
const QEMU_PER_CPU: u64 = 8 * MIB;
/// Memory of a VGA adapter.
const VGA: u64 = 16 * MIB;
/// Page tables of the guest's memory: one byte in so many.
const PAGE_TABLES: u64 = 512;
/// Thousandths of a core that are set aside for a virtual CPU: KubeVirt's ratio of ten to one.
const MILLI_PER_CPU: u64 = 100;
/// Seconds from the power button to the power switch: KubeVirt's default.
const GRACE_SECONDS: i64 = 180;
/// Seconds that the node has beyond that to end QEMU and to release the Pod.
const GRACE_MARGIN: i64 = 15;

/// Amounts by resource name.
type Amounts = Map<String, Value>;

/// Why an instance has no Pod.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPlaceable(pub String);

/// Name of the Pod of `instance`.
pub fn name(instance: &VirtualMachineInstance) -> String {
    let digest = Sha256::digest(instance.uid().unwrap_or_default());
    let suffix: String = digest.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    format!("{LAUNCHER}-{}-{suffix}", instance.name_any())
}

/// The Pod of `instance`.
pub fn of(instance: &VirtualMachineInstance) -> Result<Pod, NotPlaceable> {
    let uid = instance.uid().unwrap_or_default();
    let mut spec = instance.spec.clone();
    // An instance that a VM made has its identity already.
    defaults::identity(&mut spec, &uid);
    defaults::hardware(&mut spec);
    let placed = PlacedVmi {
        name: instance.name_any(),
        namespace: instance.namespace().unwrap_or_default(),
        uid: uid.clone(),
        spec: spec.clone(),
    };
    let mut labels = instance.labels().clone();
    labels.insert(APP_LABEL.into(), LAUNCHER.into());
    labels.insert(CREATED_BY_LABEL.into(), uid);
    labels.insert(VM_NAME_LABEL.into(), instance.name_any());
    let mut selector = spec.node_selector.clone();
    for image in images(&spec) {
        selector.insert(image_label(&image), IMAGE_PRESENT.into());
    }
    let (requests, limits) = resources(&spec)?;
    let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS) + GRACE_MARGIN;
    let secrets: Vec<Value> = secrets(&spec)
        .into_iter()
        .enumerate()
        .map(|(index, name)| json!({"name": format!("secret-{index}"), "secret": {"secretName": name, "optional": true}}))
        .collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name(instance), "namespace": instance.namespace(), "labels": labels,
            "annotations": {VMI_ANNOTATION: placed.to_annotation()},
            "ownerReferences": instance.controller_owner_ref(&()).map(|owner| vec![owner]),
        },
        "spec": {
            "runtimeClassName": RUNTIME_CLASS, "restartPolicy": "Never", "enableServiceLinks": false,
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": grace,
            "nodeSelector": selector, "affinity": spec.affinity, "tolerations": spec.tolerations,
            "topologySpreadConstraints": spec.topology_spread_constraints,
            "priorityClassName": spec.priority_class_name, "volumes": secrets,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 107, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": COMPUTE_CONTAINER, "image": PLACEHOLDER_IMAGE, "imagePullPolicy": "Never",
                "resources": {"requests": requests, "limits": limits},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    serde_json::from_value(without_nothing(pod)).map_err(|error| NotPlaceable(error.to_string()))
}

/// The same without nulls and empty lists: the API server reads them as being set.
fn without_nothing(mut pod: Value) -> Value {
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    }
    pod
}

/// Base images that the VM starts from.
fn images(spec: &VirtualMachineInstanceSpec) -> BTreeSet<String> {
    let paths = spec.volumes.iter().filter_map(|volume| Some(volume.host_disk.as_ref()?.path.as_str()));
    paths
        .filter_map(|path| match place(path) {
            Ok(HostDiskPlace::Image { name }) => Some(name),
            _ => None,
        })
        .collect()
}

/// Secrets that the node reads for it.
fn secrets(spec: &VirtualMachineInstanceSpec) -> BTreeSet<String> {
    let seeds = spec.volumes.iter().filter_map(|volume| volume.cloud_init_no_cloud.as_ref());
    let names = seeds.flat_map(|seed| [&seed.secret_ref, &seed.network_data_secret_ref]);
    names.flatten().map(|secret| secret.name.clone()).collect()
}

/// What the node must have free: memory of the guest and of QEMU, a share of its processors, KVM, ports of bridges.
fn resources(spec: &VirtualMachineInstanceSpec) -> Result<(Amounts, Amounts), NotPlaceable> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| NotPlaceable(format!("{what}: {error}"));
    let guest = spec.domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
    let Some(guest) = guest else {
        return Err(NotPlaceable(
            "spec.domain.memory.guest: not set; say how much memory the guest sees".into(),
        ));
    };
    let guest = guest.units().map_err(|error| wrong("spec.domain.memory.guest", &error))?;
    let cpus = u64::from(spec.domain.cpu.as_ref().map_or(1, sheaf_api::domain::Cpu::count));
    let vga = if spec.domain.devices.autoattach_graphics_device.unwrap_or(true) { VGA } else { 0 };
    let overhead = QEMU + cpus * QEMU_PER_CPU + guest / PAGE_TABLES + vga;
    let given = spec.domain.resources.clone().unwrap_or_default();
    let mut requests = Map::new();
    let cpu = given.requests.get("cpu").cloned().unwrap_or_else(|| Amount::of_milli(cpus * MILLI_PER_CPU));
    requests.insert("cpu".into(), cpu.as_str().into());
    // A request below guest memory is KubeVirt's way to overcommit; what QEMU needs comes on top all the same.
    let memory = match given.requests.get("memory") {
        Some(asked) => {
            asked.units().map_err(|error| wrong("spec.domain.resources.requests.memory", &error))?
        }
        None => guest,
    };
    requests.insert("memory".into(), Amount::of_bytes(memory + overhead).as_str().into());
    let mut limits = Map::new();
    if let Some(cpu) = given.limits.get("cpu") {
        limits.insert("cpu".into(), cpu.as_str().into());
    }
    if let Some(memory) = given.limits.get("memory") {
        let memory = memory.units().map_err(|error| wrong("spec.domain.resources.limits.memory", &error))?;
        limits.insert("memory".into(), Amount::of_bytes(memory.max(guest) + overhead).as_str().into());
    }
    let mut devices: BTreeMap<String, usize> = BTreeMap::from([(KVM_RESOURCE.to_owned(), 1)]);
    let ports = spec.domain.devices.interfaces.len();
    if ports > 0 {
        devices.insert(bridge_resource(POD_NETWORK_BRIDGE), ports);
    }
    for (name, count) in devices {
        // Kubernetes wants requests and limits of such resources to be equal.
        requests.insert(name.clone(), count.to_string().into());
        limits.insert(name, count.to_string().into());
    }
    Ok((requests, limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(spec: Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "namespace": "team", "uid": "i-1", "labels": {"app": "web"}}, "spec": spec,
        }))
        .unwrap()
    }

    fn small() -> Value {
        json!({"domain": {"memory": {"guest": "512Mi"}, "cpu": {"cores": 2},
                "devices": {"autoattachGraphicsDevice": false,
                    "disks": [{"name": "root", "disk": {}}, {"name": "seed", "disk": {}}]}},
            "volumes": [{"name": "root", "hostDisk": {"path": "/data/images/debian.raw", "type": "Disk"}},
                {"name": "seed", "cloudInitNoCloud": {"secretRef": {"name": "users"}}}]})
    }

    fn requests(pod: &Pod) -> Value {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        serde_json::to_value(container.resources.as_ref().unwrap().requests.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn the_scheduler_sees_memory_with_overhead_a_share_of_the_cores_kvm_and_a_port() {
        let pod = of(&instance(small())).unwrap();
        assert_eq!(
            requests(&pod),
            json!({"cpu": "200m", "memory": "625Mi", "devices.kubevirt.io/kvm": "1", "bridge.network.kubevirt.io/br0": "1"})
        );
    }

    #[test]
    fn a_vm_goes_where_its_image_is() {
        let pod = of(&instance(small())).unwrap();
        assert_eq!(pod.spec.unwrap().node_selector.unwrap()["image.sheaf.dev/debian.raw"], "present");
    }

    #[test]
    fn every_secret_is_a_volume_so_that_the_node_may_read_it() {
        let pod = of(&instance(small())).unwrap();
        let volumes = pod.spec.unwrap().volumes.unwrap();
        assert_eq!(volumes[0].secret.as_ref().unwrap().secret_name.as_deref(), Some("users"));
    }

    #[test]
    fn the_annotation_holds_every_default() {
        let pod = of(&instance(small())).unwrap();
        let placed = PlacedVmi::from_annotation(&pod.annotations()[VMI_ANNOTATION]).unwrap();
        assert_eq!(placed.spec.domain.machine.unwrap().type_, "q35");
        assert!(placed.spec.domain.firmware.unwrap().uuid.is_some());
        assert!(placed.spec.domain.devices.interfaces[0].mac_address.is_some());
    }

    #[test]
    fn one_instance_has_one_pod_name_and_another_instance_another() {
        let first = instance(small());
        let mut second = first.clone();
        second.metadata.uid = Some("i-2".into());
        assert_eq!(name(&first), name(&first.clone()));
        assert_ne!(name(&first), name(&second));
    }

    #[test]
    fn an_instance_without_memory_is_told_what_to_set() {
        let error = of(&instance(json!({"domain": {"devices": {}}}))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "spec.domain.memory.guest: not set; say how much memory the guest sees"
        );
    }
}
