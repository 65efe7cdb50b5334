//! The placeholder Pod: what an instance is for the scheduler, with the annotation that carries the VMI to the node.
//!
//! Why here: node authorizer and quota know Pods alone, so everything that the VM uses must be in the Pod: what
//! [`resources`] counts, Secrets, ConfigMaps, claims. Its finalizer stays until the node reported that the domain
//! is gone ([`end`]).
//! Route in: the instance, its resolved spec, what its networks mean, the cluster's config, how large base images are.
//! Route out: a Pod that satisfies the `restricted` Pod security standard.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachineInstance,
    access::AccessCredential,
    cluster_config::ClusterConfigSpec,
    config_volumes::DownwardApi,
    devices::Interface,
    domain::Cpu,
    host_disk::{HostDiskPlace, place},
    links::Links,
    names::{
        APP_LABEL, COMPUTE_CONTAINER, CPU_MANAGER_LABEL, CREATED_BY_LABEL, DOMAIN_ANNOTATION, HOSTNAME_LABEL,
        IMAGE_PRESENT, KUBEVIRT_API_VERSION, LAUNCHER, LINKS_ANNOTATION, PLACEHOLDER_IMAGE, POD_FINALIZER,
        RESTART_ELSEWHERE_ANNOTATION, RUNTIME_CLASS, STATE_NODE_ANNOTATION, TRUE, VM_NAME_LABEL,
        VMI_ANNOTATION, image_label,
    },
    placeholder::PlacedVmi,
    restart_elsewhere,
    vmi::VirtualMachineInstanceSpec,
    volumes::Volume,
};

use crate::{networks::Networks, resolve::resolve};

pub mod attachment;
pub mod end;
pub mod idle;
pub mod images;
pub mod nic;
pub mod overhead;
pub mod resources;

/// Name of the Pod of an instance: always the same, so that it cannot be made twice.
pub fn name(vmi: &VirtualMachineInstance) -> String {
    format!("{LAUNCHER}-{}-{}", vmi.metadata.name.as_deref().unwrap_or_default(), suffix(vmi))
}

/// The part of names of Pods that tells instances of one name apart.
fn suffix(vmi: &VirtualMachineInstance) -> String {
    vmi.metadata.uid.as_deref().unwrap_or_default().chars().filter(|c| *c != '-').take(8).collect()
}

/// The Pod of an instance; `home` is the node that has the claims which are added once it runs.
pub fn pod(
    vmi: &VirtualMachineInstance,
    networks: &Networks,
    config: &ClusterConfigSpec,
    images: &images::Sizes,
    home: Option<&str>,
) -> Result<Pod, serde_json::Error> {
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    let vmi_name = vmi.metadata.name.clone().unwrap_or_default();
    let namespace = vmi.metadata.namespace.clone().unwrap_or_default();
    let whole = resolve(&vmi.spec.without_interfaces(Interface::is_absent), &uid);
    let links = links(&whole);
    let media = whole.media().map(|volume| volume.name.clone()).collect();
    let spec = whole.without_hotpluggable();
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
        functions: networks.functions.clone(),
        addresses: networks.addresses.clone(),
        media,
        annotations: shown_annotations(vmi),
    };
    let spec = &placed.spec;
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(vmi),
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations(&placed, &links, restart_elsewhere::is_wanted(vmi, config)),
            "finalizers": [POD_FINALIZER],
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
            "schedulerName": spec.scheduler_name,
            "hostname": spec.subdomain.as_ref().map(|_| hostname(spec, &placed.name)),
            "subdomain": spec.subdomain,
            "nodeSelector": node_selector(vmi, spec, &placed.namespace, home),
            "affinity": spec.affinity,
            "tolerations": spec.tolerations,
            "topologySpreadConstraints": spec.topology_spread_constraints,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": COMPUTE_CONTAINER,
                "image": PLACEHOLDER_IMAGE,
                "imagePullPolicy": "Never",
                // `kubectl attach -it` is the serial port.
                "stdin": true,
                "tty": true,
                "resources": resources::of(spec, networks, config, images),
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
            "volumes": volumes(spec),
            "resourceClaims": spec.resource_claims,
            "imagePullSecrets": pull_secrets(spec),
        },
    }))
}

/// Annotations of the Pod.
fn annotations(placed: &PlacedVmi, links: &Links, elsewhere: bool) -> BTreeMap<&'static str, String> {
    // The second one is KubeVirt's, by which backup tools find the VM of a Pod.
    let mut all =
        BTreeMap::from([(VMI_ANNOTATION, placed.to_annotation()), (DOMAIN_ANNOTATION, placed.name.clone())]);
    if *links != Links::default() {
        all.insert(LINKS_ANNOTATION, links.to_annotation());
    }
    if elsewhere {
        all.insert(RESTART_ELSEWHERE_ANNOTATION, TRUE.into());
    }
    all
}

/// Links that are down from the start.
fn links(spec: &VirtualMachineInstanceSpec) -> Links {
    let down = spec.domain.devices.interfaces.iter().filter(|interface| interface.is_down());
    Links { down: down.map(|interface| interface.name.clone()).collect(), ..Links::default() }
}

/// The host name of the Pod in the cluster's DNS: a label, which the name of an instance need not be.
fn hostname<'a>(spec: &'a VirtualMachineInstanceSpec, name: &'a str) -> &'a str {
    spec.hostname.as_deref().or_else(|| name.split('.').next()).unwrap_or(name)
}

/// The user's selector, one label for each base image the node must have, the one of nodes with CPUs for dedicated placement, and the node that has what the VM keeps or the claims
/// that are added to it, unless the user chose another one.
fn node_selector(
    vmi: &VirtualMachineInstance,
    spec: &VirtualMachineInstanceSpec,
    namespace: &str,
    home: Option<&str>,
) -> BTreeMap<String, String> {
    let mut selector = spec.node_selector.clone();
    let node = vmi.metadata.annotations.as_ref().and_then(|all| all.get(STATE_NODE_ANNOTATION));
    if let Some(node) = node.filter(|_| spec.keeps_state()).map(String::as_str).or(home) {
        selector.entry(HOSTNAME_LABEL.into()).or_insert_with(|| node.to_owned());
    }
    if spec.domain.cpu.as_ref().is_some_and(Cpu::is_dedicated) {
        selector.insert(CPU_MANAGER_LABEL.into(), TRUE.into());
    }
    for disk in spec.volumes.iter().filter_map(|volume| volume.host_disk.as_ref()) {
        if let Ok(HostDiskPlace::Image { name }) = place(&disk.path, namespace) {
            selector.insert(image_label(&name), IMAGE_PRESENT.into());
        }
    }
    selector
}

/// Every Secret, ConfigMap and claim that the VM uses: a node may read only those that a Pod bound to it names, and the
/// scheduler binds the claims. The container mounts none of them: a claim is a raw disk of the VM, whatever its mode.
fn volumes(spec: &VirtualMachineInstanceSpec) -> Vec<Value> {
    let of = |kind: &str, names: BTreeSet<&str>, source: fn(&str) -> Value| -> Vec<Value> {
        let volume = |(index, name): (usize, &str)| {
            let mut volume = source(name);
            volume["name"] = json!(format!("{kind}-{index}"));
            volume
        };
        names.into_iter().enumerate().map(volume).collect()
    };
    let all = || spec.volumes.iter();
    let credentials = spec.access_credentials.iter().filter_map(AccessCredential::secret);
    let secrets = all().flat_map(Volume::secrets).chain(credentials).collect();
    let config_maps = all().filter_map(Volume::config_map).collect();
    let claims = all().filter_map(Volume::claim).collect();
    [
        of("secret", secrets, |name| json!({"secret": {"secretName": name}})),
        of("config-map", config_maps, |name| json!({"configMap": {"name": name}})),
        of("claim", claims, |name| json!({"persistentVolumeClaim": {"claimName": name}})),
    ]
    .concat()
}

/// Logins of registries, which the node may read because the Pod names them.
fn pull_secrets(spec: &VirtualMachineInstanceSpec) -> Vec<Value> {
    let disks = spec.volumes.iter().filter_map(|volume| volume.container_disk.as_ref());
    let of_kernel = spec.domain.kernel_container().and_then(|kernel| kernel.image_pull_secret.as_deref());
    let names: BTreeSet<_> =
        disks.filter_map(|disk| disk.image_pull_secret.as_deref()).chain(of_kernel).collect();
    names.into_iter().map(|name| json!({"name": name})).collect()
}

/// Annotations of the instance, if one of its volumes shows them to the guest.
fn shown_annotations(vmi: &VirtualMachineInstance) -> BTreeMap<String, String> {
    let shows = |volume: &Volume| volume.downward_api.as_ref().is_some_and(DownwardApi::shows_annotations);
    let is_shown = vmi.spec.volumes.iter().any(shows);
    vmi.metadata.annotations.clone().filter(|_| is_shown).unwrap_or_default()
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

    fn at_home(vmi: &VirtualMachineInstance, home: Option<&str>) -> Pod {
        let (networks, config) = (Networks::default(), ClusterConfigSpec::default());
        pod(vmi, &networks, &config, &images::Sizes::default(), home).unwrap()
    }

    fn made(vmi: &VirtualMachineInstance) -> Pod {
        at_home(vmi, None)
    }

    #[test]
    fn the_pod_is_for_vm_nodes_without_a_service_account_and_stays_until_its_domain_is_gone() {
        let pod = made(&vmi(json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}})));
        assert_eq!(pod.metadata.finalizers, Some(vec!["sheaf.dev/virtual-machine".into()]));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.runtime_class_name.as_deref(), Some("sheaf-vm"));
        assert_eq!(spec.automount_service_account_token, Some(false));
        let requests = spec.containers[0].resources.clone().unwrap().requests.unwrap();
        assert_eq!(requests["devices.kubevirt.io/kvm"].0, "1");
    }

    #[test]
    fn a_vm_that_keeps_a_tpm_is_for_the_node_that_has_it_unless_the_user_says_another() {
        let selector = |selector: Value, tpm: Value| {
            let spec = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {"tpm": tpm}}, "nodeSelector": selector});
            let mut vmi = vmi(spec);
            vmi.metadata.annotations = Some([(STATE_NODE_ANNOTATION.to_owned(), "n1".to_owned())].into());
            made(&vmi).spec.unwrap().node_selector.unwrap_or_default().get(HOSTNAME_LABEL).cloned()
        };
        assert_eq!(selector(json!({}), json!({"persistent": true})).as_deref(), Some("n1"));
        assert_eq!(selector(json!({}), json!({})), None);
        let other = json!({"kubernetes.io/hostname": "n2"});
        assert_eq!(selector(other, json!({"persistent": true})).as_deref(), Some("n2"));
    }

    #[test]
    fn scheduler_and_subdomain_are_the_pods() {
        let spec = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}, "schedulerName": "mine", "subdomain": "sub"});
        let spec = made(&vmi(spec)).spec.unwrap();
        assert_eq!(spec.scheduler_name.as_deref(), Some("mine"));
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web"), Some("sub")));
        let plain = made(&vmi(json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}))).spec.unwrap();
        assert_eq!((plain.hostname, plain.subdomain, plain.scheduler_name), (None, None, None));
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
    fn every_object_that_a_disk_is_made_from_is_a_volume() {
        let pod = made(&vmi(json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {}},
            "volumes": [
                {"name": "a", "cloudInitConfigDrive": {"secretRef": {"name": "seed"}}},
                {"name": "b", "secret": {"secretName": "keys", "optional": true}},
                {"name": "c", "configMap": {"name": "settings"}},
                {"name": "d", "sysprep": {"configMap": {"name": "answers"}}},
                {"name": "e", "sysprep": {"secret": {"name": "keys"}}},
                {"name": "f", "ephemeral": {"persistentVolumeClaim": {"claimName": "base"}}},
                {"name": "g", "ephemeral": {"persistentVolumeClaim": {"claimName": "base"}}},
            ],
            "accessCredentials": [{"userPassword": {"source": {"secret": {"secretName": "passwords"}},
                "propagationMethod": {"qemuGuestAgent": {}}}}],
        })));
        assert_eq!(
            serde_json::to_value(pod.spec.unwrap().volumes).unwrap(),
            json!([
                {"name": "secret-0", "secret": {"secretName": "keys"}},
                {"name": "secret-1", "secret": {"secretName": "passwords"}},
                {"name": "secret-2", "secret": {"secretName": "seed"}},
                {"name": "config-map-0", "configMap": {"name": "answers"}},
                {"name": "config-map-1", "configMap": {"name": "settings"}},
                {"name": "claim-0", "persistentVolumeClaim": {"claimName": "base"}},
            ])
        );
    }

    #[test]
    fn annotations_of_the_instance_are_for_the_node_only_if_a_disk_shows_them() {
        let annotations = |field: &str| {
            let fields = json!([{"path": "f", "fieldRef": {"fieldPath": field}}]);
            let volumes = json!([{"name": "a", "downwardAPI": {"fields": fields}}]);
            let mut vmi =
                vmi(json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}, "volumes": volumes}));
            vmi.metadata.annotations = Some([("team".to_owned(), "red".to_owned())].into());
            let placed = made(&vmi).metadata.annotations.unwrap()[VMI_ANNOTATION].clone();
            PlacedVmi::from_annotation(&placed).unwrap().annotations
        };
        assert_eq!(annotations("metadata.annotations['team']")["team"], "red");
        assert!(annotations("metadata.labels").is_empty());
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
            json!([{"persistentVolumeClaim": {"claimName": "data"}, "name": "claim-0"},
                   {"persistentVolumeClaim": {"claimName": "root"}, "name": "claim-1"}])
        );
        let container = &spec["containers"][0];
        assert!(container.get("volumeMounts").is_none() && container.get("volumeDevices").is_none());
    }

    #[test]
    fn a_hotpluggable_volume_is_not_of_the_pod_but_chooses_the_node_that_has_its_claim() {
        let vmi = vmi(json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"disks": [{"name": "a", "disk": {"bus": "scsi"}}]}},
            "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "data", "hotpluggable": true}}],
        }));
        let pod = at_home(&vmi, Some("n2"));
        let placed = PlacedVmi::from_annotation(&pod.metadata.annotations.unwrap()[VMI_ANNOTATION]).unwrap();
        assert_eq!((placed.spec.volumes, placed.spec.domain.devices.disks), (Vec::new(), Vec::new()));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.volumes.unwrap_or_default(), []);
        assert_eq!(spec.node_selector.unwrap()[HOSTNAME_LABEL], "n2");
    }

    #[test]
    fn the_login_for_the_image_of_a_kernel_is_named() {
        let container = json!({"image": "quay.io/a:1", "kernelPath": "/k", "imagePullSecret": "login"});
        let firmware = json!({"kernelBoot": {"container": container}});
        let pod =
            made(&vmi(json!({"domain": {"firmware": firmware, "memory": {"guest": "1Gi"}, "devices": {}}})));
        assert_eq!(pod.spec.unwrap().image_pull_secrets.unwrap()[0].name, "login");
    }

    #[test]
    fn a_vm_with_dedicated_cpus_is_for_nodes_that_have_such() {
        let selector = |cpu: Value| {
            let pod = made(&vmi(json!({"domain": {"cpu": cpu, "memory": {"guest": "1Gi"}, "devices": {}}})));
            pod.spec.unwrap().node_selector.unwrap_or_default()
        };
        assert_eq!(selector(json!({"dedicatedCpuPlacement": true}))["cpumanager"], "true");
        assert!(!selector(json!({"cores": 1})).contains_key("cpumanager"));
    }

    #[test]
    fn a_drive_is_of_the_pod_and_its_medium_is_only_named() {
        let vmi = vmi(json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"disks": [
                {"name": "cd", "cdrom": {"bus": "sata"}, "bootOrder": 1}, {"name": "empty", "cdrom": {"bus": "sata"}}]}},
            "volumes": [{"name": "cd", "persistentVolumeClaim": {"claimName": "iso", "hotpluggable": true}}],
        }));
        let pod = made(&vmi);
        let placed = PlacedVmi::from_annotation(&pod.metadata.annotations.unwrap()[VMI_ANNOTATION]).unwrap();
        assert_eq!((placed.media, placed.spec.volumes), (vec!["cd".to_owned()], Vec::new()));
        assert_eq!(placed.spec.domain.devices.disks, vmi.spec.domain.devices.disks);
        assert_eq!(pod.spec.unwrap().volumes.unwrap_or_default(), []);
    }

    #[test]
    fn a_vm_starts_without_absent_interfaces_and_with_links_that_are_down() {
        let multus = |name: &str| json!({"name": name, "multus": {"networkName": "lan"}});
        let vmi = vmi(json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"interfaces": [
                {"name": "a", "bridge": {}, "state": "down"}, {"name": "b", "bridge": {}, "state": "absent"}]}},
            "networks": [multus("a"), multus("b")],
        }));
        let pod = made(&vmi);
        assert_eq!(Links::of(&pod), Links { down: ["a".to_owned()].into(), ..Links::default() });
        let placed = PlacedVmi::from_annotation(&pod.metadata.annotations.unwrap()[VMI_ANNOTATION]).unwrap();
        let names: Vec<_> = placed.spec.networks.iter().map(|network| network.name.as_str()).collect();
        assert_eq!((names, placed.spec.domain.devices.interfaces.len()), (vec!["a"], 1));
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
